"""The registry's protocol, against a small server on loopback that speaks it, lies, and stumbles on request."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import os
import ssl
import threading
import urllib.error
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import cache, registry
from reprobox.errors import HashMismatch, InvalidInput, ProgramMissing, RegistryFailed
from reprobox.model import Digest, Platform
from reprobox.registry import Credentials, Registry, parse_reference
from reprobox.web import Patience, Web, WebFailed, is_loopback

# --- a registry of our own --------------------------------------------------------------------


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class Served:
    """What the server holds and saw: ``replies`` by path (or a function), requests as (method, path, headers, body)."""

    host: str = ""
    replies: dict[str, Reply | list[Reply] | Callable[[dict[str, str], bytes], Reply]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def seen(self, part: str) -> list[dict[str, str]]:
        return [headers for _, path, headers, _ in self.requests if part in path]

    def image(self, name: str, tag: str, architecture: str = "amd64", layer: bytes = b"layer", **config: Any) -> Digest:
        """Serve a one-platform image and return its manifest's digest."""
        described = self.blob(name, json.dumps({"os": "linux", "architecture": architecture, **config}).encode())
        content = {
            "schemaVersion": 2,
            "mediaType": registry.OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **described},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **self.blob(name, layer)}],
        }
        return self.manifest(name, tag, content)

    def blob(self, name: str, data: bytes) -> dict[str, Any]:
        digest = Digest.of(data)
        self.replies[f"/v2/{name}/blobs/{digest}"] = Reply(body=data)
        return {"digest": str(digest), "size": len(data)}

    def manifest(self, name: str, tag: str, content: dict[str, Any]) -> Digest:
        data = json.dumps(content).encode()
        digest = Digest.of(data)
        headers = {"Content-Type": content["mediaType"], "Docker-Content-Digest": str(digest)}
        for what in (tag, str(digest)):
            self.replies[f"/v2/{name}/manifests/{what}"] = Reply(body=data, headers=headers)
        return digest

    def index(self, name: str, tag: str, **digests: Digest) -> Digest:
        entries = [
            {"mediaType": registry.OCI_MANIFEST, "digest": str(digest), "size": 1,
             "platform": {"os": "linux", "architecture": architecture}}
            for architecture, digest in digests.items()
        ]  # fmt: skip
        entries.append({"mediaType": registry.OCI_MANIFEST, "digest": str(Digest.of(b"attestation")), "size": 1,
                        "platform": {"os": "unknown", "architecture": "unknown"}})  # fmt: skip
        return self.manifest(name, tag, {"schemaVersion": 2, "mediaType": registry.OCI_INDEX, "manifests": entries})


@contextlib.contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[Served]:
    served = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.requests.append((self.command, self.path, headers, body))
            found = served.replies.get(self.path.partition("?")[0])
            if callable(found):
                found = found(headers, body)
            if isinstance(found, list):
                found = found.pop(0) if len(found) > 1 else found[0]
            reply = found or Reply(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hangs up is what some tests are about."""

    server = Server((address, 0), Handler)
    served.host = f"{address}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def client(credentials: Credentials | None = None, waits: list[float] | None = None, timeout: float = 5) -> Registry:
    sleep = (waits if waits is not None else []).append
    return Registry(credentials=lambda _: credentials, patience=Patience(tries=3, timeout=timeout, sleep=sleep))


# --- references -------------------------------------------------------------------------------

HEX = "a" * 64


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("python:3.11-slim", "docker.io/library/python:3.11-slim"),
        ("lab/tool", "docker.io/lab/tool:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest"),
        ("host.example/a/b/c:1", "host.example/a/b/c:1"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        (f"debian@sha256:{HEX}", f"docker.io/library/debian@sha256:{HEX}"),
        (f"debian:12@sha256:{HEX}", f"docker.io/library/debian:12@sha256:{HEX}"),
    ],
)
def test_a_reference_is_completed_with_dockers_defaults(text: str, complete: str) -> None:
    assert str(parse_reference(text)) == complete
    assert parse_reference(complete) == parse_reference(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is not a repository"),
        ("Debian", "'Debian' is not a repository"),
        ("a//b", "'a//b' is not a repository"),
        ("a:b:c", "'b:c' is not a tag"),
        ("a:", "'' is not a tag"),
        ("a@sha256:abc", "'sha256:abc' is not a sha256 digest"),
        (f"a@{HEX}", "is not a sha256 digest"),
        ("a@sha512:" + HEX * 2, "is not a sha256 digest"),
        ("-x.example/a", "'-x.example' is not a host"),
        ("host.example:0/a", "'host.example:0' is not a host"),
        ("host.example:99999/a", "'host.example:99999' is not a host"),
        ("https://host.example/a", "it has a transport"),
        ("host.example/" + "a" * 250, "longer than 255"),
        ("a b", "'a b' is not a repository"),
        ("user:secret@host.example/a", "is not a sha256 digest"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_part_that_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match="is not an image reference") as caught:
        parse_reference(text)
    assert reason in caught.value.message
    assert caught.value.hint


_part = st.from_regex(r"[a-z0-9]+((\.|_|__|-)[a-z0-9]+)?", fullmatch=True).filter(lambda text: len(text) < 20)


@settings(max_examples=200, deadline=None)
@given(
    host=st.sampled_from(["docker.io", "host.example", "localhost:5000", "127.0.0.1:1", "[::1]:5000"]),
    path=st.lists(_part, min_size=2, max_size=4).map("/".join),
    tag=st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.none() | st.just(Digest(HEX)),
)
def test_a_complete_reference_survives_printing_and_parsing(
    host: str, path: str, tag: str | None, digest: Digest | None
) -> None:
    if tag is None and digest is None:
        tag = "latest"
    reference = registry.Reference(registry=host, repository=path, tag=tag, digest=digest)
    assert parse_reference(str(reference)) == reference


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_refusal(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidInput:
        return
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost:5000", True), ("127.3.2.1", True), ("[::1]:80", True), ("localhost.example", False),
     ("127.0.0.1.example", False), ("10.0.0.1:5000", False), ("host.example", False)],
)  # fmt: skip
def test_only_names_of_this_machine_are_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# --- manifests and blobs ----------------------------------------------------------------------


def test_an_index_is_resolved_to_one_manifest_per_platform(server: Served) -> None:
    amd, arm = server.image("lab/a", "amd"), server.image("lab/a", "arm", "arm64")
    top = server.index("lab/a", "1", amd64=amd, arm64=arm)
    locked = client().resolve(f"{server.host}/lab/a:1", [Platform.LINUX_64, Platform.LINUX_AARCH64])
    assert (locked.digest, dict(locked.manifests)) == (top, {Platform.LINUX_64: amd, Platform.LINUX_AARCH64: arm})
    assert locked.reference == f"{server.host}/lab/a:1"
    accept = server.seen("/manifests/1")[0]["accept"]
    assert all(kind in accept for kind in registry.INDEXES | registry.MANIFESTS)


def test_a_single_image_is_taken_for_its_own_architecture_only(server: Served) -> None:
    digest = server.image("lab/a", "1")
    assert client().resolve(f"{server.host}/lab/a:1", [Platform.LINUX_64]).manifests == {Platform.LINUX_64: digest}
    with pytest.raises(InvalidInput, match=r"has no linux/arm64 \(linux-aarch64\), only linux/amd64"):
        client().resolve(f"{server.host}/lab/a:1", [Platform.LINUX_AARCH64])


def test_a_missing_platform_names_those_there_are(server: Served) -> None:
    server.index("lab/a", "1", s390x=server.image("lab/a", "x"), amd64=server.image("lab/a", "y"))
    with pytest.raises(InvalidInput, match=r"only linux/amd64, linux/s390x$"):
        client().resolve(f"{server.host}/lab/a:1", [Platform.LINUX_AARCH64])


def test_an_index_inside_an_index_is_refused(server: Served) -> None:
    inner = server.index("lab/a", "inner", amd64=server.image("lab/a", "x"))
    server.index("lab/a", "1", amd64=inner)
    with pytest.raises(RegistryFailed, match="an index inside an index"):
        client().resolve(f"{server.host}/lab/a:1", [Platform.LINUX_64])


def test_a_manifest_with_other_bytes_than_asked_for_is_refused(server: Served) -> None:
    asked, other = server.image("lab/a", "1"), server.image("lab/a", "2", "arm64")
    server.replies[f"/v2/lab/a/manifests/{asked}"] = server.replies[f"/v2/lab/a/manifests/{other}"]
    with pytest.raises(HashMismatch) as caught:
        client().manifest(parse_reference(f"{server.host}/lab/a@{asked}"))
    assert all(str(word) in caught.value.message for word in (server.host, asked, other))


def test_a_tags_bytes_must_be_those_that_the_registry_promises(server: Served) -> None:
    server.image("lab/a", "1")
    reply = server.replies["/v2/lab/a/manifests/1"]
    assert isinstance(reply, Reply)
    promised = Digest.of(b"other")
    server.replies["/v2/lab/a/manifests/1"] = Reply(
        body=reply.body, headers=reply.headers | {"Docker-Content-Digest": str(promised)}
    )
    with pytest.raises(HashMismatch, match=str(promised)):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))
    server.replies["/v2/lab/a/manifests/1"] = Reply(
        body=reply.body, headers=reply.headers | {"Docker-Content-Digest": "sha256:no"}
    )
    with pytest.raises(RegistryFailed, match=r"names a digest .* that is none: 'sha256:no'"):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))


def test_a_blob_with_other_bytes_is_refused_and_not_kept(server: Served) -> None:
    asked = Digest.of(b"right")
    server.replies[f"/v2/lab/a/blobs/{asked}"] = Reply(body=b"wrong")
    with pytest.raises(HashMismatch) as caught:
        client().blob(parse_reference(f"{server.host}/lab/a"), asked)
    assert all(str(word) in caught.value.message for word in (server.host, asked, Digest.of(b"wrong")))
    assert cache.get(asked) is None
    assert cache.get(Digest.of(b"wrong")) is None


def test_a_blob_is_fetched_once_and_then_cached(server: Served) -> None:
    reference = parse_reference(f"{server.host}/lab/a")
    digest = Digest.parse(server.blob("lab/a", b"x" * 600_000)["digest"])
    sizes: list[int] = []
    assert client().blob(reference, digest, on_bytes=sizes.append).stat().st_size == sum(sizes) == 600_000
    assert client().blob(reference, digest).read_bytes() == b"x" * 600_000
    assert len(server.seen("/blobs/")) == 1


def test_a_blob_longer_than_its_manifest_says_is_cut_off(server: Served) -> None:
    digest = Digest.parse(server.blob("lab/a", b"x" * 100)["digest"])
    with pytest.raises(RegistryFailed, match="longer than the 99 bytes"):
        client().blob(parse_reference(f"{server.host}/lab/a"), digest, size=99)


def test_a_truncated_body_is_fetched_again_and_then_is_an_error(server: Served) -> None:
    whole = b"x" * 1000
    digest = Digest.of(whole)
    path = f"/v2/lab/a/blobs/{digest}"
    server.replies[path] = [Reply(body=whole[:500], length=1000), Reply(body=whole)]
    assert client().blob(parse_reference(f"{server.host}/lab/a"), digest).read_bytes() == whole
    cache.path_of(digest).unlink()
    server.replies[path] = Reply(body=whole[:500], length=1000)
    with pytest.raises(RegistryFailed, match="cannot be reached: the answer ended after 500 of 1000 bytes"):
        client().blob(parse_reference(f"{server.host}/lab/a"), digest)


def test_a_manifest_larger_than_the_limit_is_refused(server: Served) -> None:
    server.replies["/v2/lab/a/manifests/1"] = Reply(body=b" " * (registry.LARGEST_MANIFEST + 1))
    with pytest.raises(RegistryFailed, match="too large: 4194305 bytes, and at most 4194304"):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"not json", registry.OCI_MANIFEST),
        (b"[]", registry.OCI_MANIFEST),
        (b"[" * 100_000, registry.OCI_MANIFEST),
        (b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (b'{"mediaType": "%s", "manifests": []}' % registry.OCI_INDEX.encode(), registry.OCI_MANIFEST),
        (b'{"layers": []}', registry.OCI_INDEX),
    ],
)
def test_what_is_no_manifest_is_refused(server: Served, body: bytes, kind: str) -> None:
    server.replies["/v2/lab/a/manifests/1"] = Reply(body=body, headers={"Content-Type": kind})
    with pytest.raises(RegistryFailed, match="gave no image manifest"):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"digest": "sha256:no", "size": 1},
        {"digest": f"sha256:{HEX}"},
        {"digest": f"sha256:{HEX}", "size": -1},
    ],
)
def test_a_damaged_descriptor_is_refused(entry: object) -> None:
    with pytest.raises(RegistryFailed, match="a descriptor needs a sha256 digest and a size"):
        registry.descriptor(entry, parse_reference("debian"))


def test_a_manifest_without_a_list_of_layers_is_refused(server: Served) -> None:
    server.manifest("lab/a", "1", {"mediaType": registry.OCI_MANIFEST, "layers": "none"})
    found = client().manifest(parse_reference(f"{server.host}/lab/a:1"))
    with pytest.raises(RegistryFailed, match="`layers` is not a list"):
        registry.layers(found, parse_reference("debian"))


def test_a_config_that_is_no_object_or_too_large_is_refused(server: Served) -> None:
    for size, words in ((2, "is not a JSON object"), (registry.LARGEST_MANIFEST + 1, "too large")):
        described = server.blob("lab/a", b"[]") | {"size": size}
        server.manifest("lab/a", "1", {"mediaType": registry.OCI_MANIFEST, "config": described, "layers": []})
        reference = parse_reference(f"{server.host}/lab/a:1")
        with pytest.raises(RegistryFailed, match=words):
            client().config(reference, client().manifest(reference))


# --- refusals ---------------------------------------------------------------------------------


def test_an_unknown_tag_an_unknown_repository_and_a_failing_registry_have_their_own_words(server: Served) -> None:
    reference = parse_reference(f"{server.host}/lab/a:1")
    with pytest.raises(RegistryFailed, match="has no manifest 1 in lab/a"):
        client().manifest(reference)
    path = "/v2/lab/a/manifests/1"
    server.replies[path] = Reply(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}')
    with pytest.raises(RegistryFailed, match="has no repository lab/a"):
        client().manifest(reference)
    server.replies[path] = Reply(500, b'{"errors": [{"code": "UNKNOWN"}, {"code": "with spaces"}]}')
    with pytest.raises(RegistryFailed, match=r"failed to give .* \(HTTP 500\)"):
        client().manifest(reference)
    server.replies[path] = Reply(429)
    with pytest.raises(RegistryFailed, match="allows no more requests for now"):
        client().manifest(reference)


def test_an_unreachable_registry_is_said_to_be_unreachable() -> None:
    waits: list[float] = []
    with pytest.raises(RegistryFailed, match=r"the registry 127\.0\.0\.1:1 cannot be reached: Connection refused"):
        client(waits=waits).manifest(parse_reference("127.0.0.1:1/lab/a"))
    assert waits == [0.5, 1.0]


def test_a_silent_registry_is_given_up(server: Served) -> None:
    event = threading.Event()
    server.replies["/v2/lab/a/manifests/1"] = lambda *_: (event.wait(5), Reply())[1]
    with pytest.raises(RegistryFailed, match="cannot be reached: timed out"):
        client(timeout=0.1).manifest(parse_reference(f"{server.host}/lab/a:1"))
    event.set()


def test_a_busy_registry_is_asked_again_when_it_says_so_but_not_later_than_we_bear(server: Served) -> None:
    server.image("lab/a", "1")
    good = server.replies["/v2/lab/a/manifests/1"]
    assert isinstance(good, Reply)
    for header, wait in (("7", 7.0), ("99999999", 20.0), ("nonsense", 0.5), ("Fri, 31 Dec 9999 23:59:59 GMT", 20.0)):
        server.replies["/v2/lab/a/manifests/1"] = [Reply(429, headers={"Retry-After": header}), good]
        waits: list[float] = []
        client(waits=waits).manifest(parse_reference(f"{server.host}/lab/a:1"))
        assert waits == [wait]


def test_a_certificate_that_is_not_trusted_hints_at_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError("x")
    error.verify_message = "self-signed certificate in certificate chain"

    class Opener:
        def open(self, *_: object, **__: object) -> None:
            raise urllib.error.URLError(error)

    monkeypatch.setattr(Web, "_opener", lambda *_, **__: Opener())
    with pytest.raises(RegistryFailed, match=r"no secure connection .* self-signed certificate") as caught:
        client().manifest(parse_reference("host.example/lab/a"))
    assert "SSL_CERT_FILE" in (caught.value.hint or "")


def test_a_server_without_tls_is_no_secure_connection(server: Served) -> None:
    port = server.host.rpartition(":")[2]
    with pytest.raises(WebFailed) as caught, Web(patience=Patience(tries=1)).request(f"https://127.0.0.1:{port}/"):
        pass
    assert caught.value.tls


# --- redirects --------------------------------------------------------------------------------


def test_a_redirect_to_another_host_does_not_carry_the_authorization() -> None:
    with serving() as first, serving("127.0.0.2") as second:
        digest = Digest.of(b"data")
        first.replies[f"/v2/lab/a/blobs/{digest}"] = lambda headers, _: (
            Reply(307, headers={"Location": f"http://{second.host}/store?signature=s3cret"})
            if "authorization" in headers
            else Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        )
        second.replies["/store"] = Reply(body=b"data")
        found = client(Credentials(user="me", secret="s3cret")).blob(parse_reference(f"{first.host}/lab/a"), digest)
        assert found.read_bytes() == b"data"
        assert "authorization" not in second.requests[0][2]


def test_a_redirect_on_the_same_host_keeps_the_authorization(server: Served) -> None:
    digest = Digest.of(b"data")
    server.replies[f"/v2/lab/a/blobs/{digest}"] = lambda headers, _: (
        Reply(302, headers={"Location": "/store"})
        if "authorization" in headers
        else Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    )
    server.replies["/store"] = Reply(body=b"data")
    client(Credentials(user="me", secret="s3cret")).blob(parse_reference(f"{server.host}/lab/a"), digest)
    assert server.seen("/store")[0]["authorization"].startswith("Basic ")


@pytest.mark.parametrize("target", ["http://host.example/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_off_https_is_refused(server: Served, target: str) -> None:
    server.replies["/v2/lab/a/manifests/1"] = Reply(307, headers={"Location": target})
    with pytest.raises(RegistryFailed, match="is not https"):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))


def test_a_redirect_in_circles_ends(server: Served) -> None:
    server.replies["/v2/lab/a/manifests/1"] = Reply(307, headers={"Location": "/v2/lab/a/manifests/1"})
    with pytest.raises(RegistryFailed, match="more than 5 redirects"):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))


# --- who asks ---------------------------------------------------------------------------------


def guarded(server: Served, challenge: str, accepted: str) -> None:
    server.image("lab/a", "1")
    good = server.replies["/v2/lab/a/manifests/1"]
    assert isinstance(good, Reply)
    server.replies["/v2/lab/a/manifests/1"] = lambda headers, _: (
        good if headers.get("authorization") == accepted else Reply(401, headers={"WWW-Authenticate": challenge})
    )


def test_a_token_is_fetched_where_the_registry_says_and_used_again(server: Served) -> None:
    realm = f"http://{server.host}/token"
    guarded(server, f'Bearer realm="{realm}",service="a, b",scope="repository:lab/a:pull"', "Bearer t0ken")
    server.replies["/token"] = Reply(body=b'{"token": "t0ken"}')
    asking = client()
    reference = parse_reference(f"{server.host}/lab/a:1")
    asking.manifest(reference)
    asking.manifest(reference)
    tokens = [path for _, path, _, _ in server.requests if path.startswith("/token")]
    assert tokens == ["/token?service=a%2C+b&scope=repository%3Alab%2Fa%3Apull"]
    assert "authorization" not in server.seen("/token")[0]


def test_credentials_go_to_the_token_service(server: Served) -> None:
    guarded(server, f'Bearer realm="http://{server.host}/token"', "Bearer t0ken")
    server.replies["/token"] = Reply(body=b'{"access_token": "t0ken"}')
    client(Credentials(user="me", secret="pass:word")).manifest(parse_reference(f"{server.host}/lab/a:1"))
    assert base64.b64decode(server.seen("/token")[0]["authorization"][6:]) == b"me:pass:word"


def test_an_identity_token_is_exchanged(server: Served) -> None:
    guarded(server, f'Bearer realm="http://{server.host}/token",service="s"', "Bearer t0ken")
    server.replies["/token"] = Reply(body=b'{"access_token": "t0ken"}')
    client(Credentials(refresh_token="r3fresh")).manifest(parse_reference(f"{server.host}/lab/a:1"))
    method, _, _, body = next(request for request in server.requests if request[1] == "/token")
    assert (method, b"refresh_token=r3fresh" in body) == ("POST", True)


def test_a_registry_token_is_shown_as_it_is(server: Served) -> None:
    guarded(server, 'Bearer realm="https://elsewhere.example/token"', "Bearer mine")
    client(Credentials(bearer_token="mine")).manifest(parse_reference(f"{server.host}/lab/a:1"))


def test_basic_credentials_are_used_where_they_are_asked_for(server: Served) -> None:
    accepted = Credentials(user="me", secret="s3cret").basic
    guarded(server, 'Basic realm="x"', accepted)
    client(Credentials(user="me", secret="s3cret")).manifest(parse_reference(f"{server.host}/lab/a:1"))


@pytest.mark.parametrize("challenge", ['Basic realm="x"', "Negotiate", "", 'Bearer realm="http://HOST/token"'])
def test_without_the_right_credentials_the_registry_is_said_to_refuse_and_no_secret_is_told(
    server: Served, challenge: str
) -> None:
    guarded(server, challenge.replace("HOST", server.host), "never")
    server.replies["/token"] = Reply(401, b"s3cret")
    reference = parse_reference(f"{server.host}/lab/a:1")
    with pytest.raises(RegistryFailed, match="does not hand out lab/a: there are no credentials for it") as none:
        client().manifest(reference)
    assert f"docker login {server.host}" in (none.value.hint or "")
    with pytest.raises(RegistryFailed, match="the credentials for it were refused") as refused:
        client(Credentials(user="me", secret="s3cret")).manifest(reference)
    assert "s3cret" not in f"{none.value} {refused.value} {refused.value.hint} {Credentials(secret='s3cret')!r}"


@pytest.mark.parametrize(
    "reply", [Reply(body=b"{}"), Reply(body=b'{"token": "a\\nb"}'), Reply(body=b"no"), Reply(400), Reply(body=b"[]")]
)
def test_a_token_service_without_a_token_is_named(server: Served, reply: Reply) -> None:
    guarded(server, f'Bearer realm="http://user:s3cret@{server.host}/token?key=s3cret"', "never")
    server.replies["/token"] = reply
    with pytest.raises(RegistryFailed, match=f"the token service http://{server.host}/token of .* gave no token"):
        client().manifest(parse_reference(f"{server.host}/lab/a:1"))


def test_a_token_service_on_plain_http_gets_no_credentials(server: Served) -> None:
    guarded(server, 'Bearer realm="http://host.example/token"', "never")
    with pytest.raises(RegistryFailed, match=r"no secure connection to the token service http://host\.example/token"):
        client(Credentials(user="me", secret="s3cret")).manifest(parse_reference(f"{server.host}/lab/a:1"))


def test_a_token_request_with_a_secret_in_it_follows_no_redirect_to_another_host(server: Served) -> None:
    guarded(server, f'Bearer realm="http://{server.host}/token"', "never")
    server.replies["/token"] = Reply(307, headers={"Location": "http://127.0.0.2:1/"})
    with pytest.raises(RegistryFailed, match="carries credentials was redirected to another host"):
        client(Credentials(refresh_token="r3fresh")).manifest(parse_reference(f"{server.host}/lab/a:1"))


# --- docker's credentials ---------------------------------------------------------------------


def docker_config(content: object) -> None:
    folder = Path(os.environ["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "docker-credential-safe").write_text(f"#!/bin/sh\nread -r server\n{script}\n")
    (folder / "docker-credential-safe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


AUTH = base64.b64encode(b"me:pass:word").decode()


@pytest.mark.parametrize("key", ["host.example", "https://host.example", "https://host.example/v1/", "host.example/v2"])
def test_credentials_are_read_from_dockers_configuration(key: str) -> None:
    docker_config({"auths": {"other.example": {"auth": "bad"}, key: {"auth": AUTH}}})
    assert registry.docker_credentials("host.example") == Credentials(user="me", secret="pass:word")
    assert registry.docker_credentials("example") is None


def test_docker_hub_has_its_own_key_and_tokens_are_understood() -> None:
    docker_config({"auths": {"https://index.docker.io/v1/": {"identitytoken": "i", "auth": AUTH}, "b.example": {}}})
    assert registry.docker_credentials("docker.io") == Credentials(user="me", refresh_token="i")
    assert registry.docker_credentials("b.example") is None
    docker_config({"auths": {"b.example": {"registrytoken": "r"}, "c.example": {"username": "u", "password": "p"}}})
    assert registry.docker_credentials("b.example") == Credentials(bearer_token="r")
    assert registry.docker_credentials("c.example") == Credentials(user="u", secret="p")


def test_no_configuration_means_no_credentials() -> None:
    assert registry.docker_credentials("host.example") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": []}', '{"credsStore": 1}'])
def test_a_damaged_configuration_is_an_error(content: str) -> None:
    docker_config(content if content != '{"auths": []}' else '{"auths": [1]}')
    with pytest.raises(RegistryFailed, match="cannot read Docker's credentials"):
        registry.docker_credentials("host.example")


def test_damaged_credentials_are_named_and_not_told() -> None:
    docker_config({"auths": {"host.example": {"auth": "s3cret!"}}})
    with pytest.raises(RegistryFailed, match=r"\(host.example\) are damaged") as caught:
        registry.docker_credentials("host.example")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("content", [{"credsStore": "safe"}, {"credHelpers": {"host.example": "safe"}}])
def test_a_credential_helper_is_asked(content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_config(content)
    helper(
        tmp_path, monkeypatch, '[ "$1" = get ] && echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"for $server\\"}"'
    )
    assert registry.docker_credentials("host.example") == Credentials(user="me", secret="for host.example")
    helper(tmp_path, monkeypatch, """echo '{"Username": "<token>", "Secret": "r"}'""")
    assert registry.docker_credentials("host.example") == Credentials(refresh_token="r")
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert registry.docker_credentials("host.example") is None


def test_a_helper_that_fails_or_is_missing_is_an_error_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker_config({"credsStore": "safe"})
    with pytest.raises(ProgramMissing, match="docker-credential-safe, which is not installed"):
        registry.docker_credentials("host.example")
    helper(tmp_path, monkeypatch, "echo s3cret; exit 3")
    with pytest.raises(RegistryFailed, match="docker-credential-safe failed with exit code 3") as caught:
        registry.docker_credentials("host.example")
    assert "s3cret" not in str(caught.value)
    helper(tmp_path, monkeypatch, "echo s3cret")
    with pytest.raises(RegistryFailed, match="without Username and Secret") as caught:
        registry.docker_credentials("host.example")
    assert "s3cret" not in str(caught.value)
    docker_config({"credsStore": "../evil"})
    with pytest.raises(RegistryFailed, match=r"'\.\./evil', which is not a program's name"):
        registry.docker_credentials("host.example")


# --- proxies ----------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used_and_not_for_this_machine(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.replies["http://mirror.example/x"] = Reply(body=b"through the proxy")
    server.replies["/x"] = Reply(body=b"directly")
    monkeypatch.setenv("http_proxy", f"http://{server.host}")
    monkeypatch.delenv("no_proxy", raising=False)
    web = Web(plain=True, proxies={"http": "http://127.0.0.1:1"})
    with web.request("http://mirror.example/x") as answer:
        assert answer.whole(100) == b"through the proxy"
    with web.request(f"http://{server.host}/x") as answer:
        assert answer.whole(100) == b"directly"
