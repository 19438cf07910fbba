"""A real registry (docker-registry, the reference implementation) on loopback, with images pushed by plain HTTP."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from reprobox.console import Console
from reprobox.errors import HashMismatch, InvalidInput, RegistryFailed
from reprobox.model import Digest, EnvironmentFile, ImageBase, Platform, Project, PythonVersion
from reprobox.registry import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Registry, parse_reference
from reprobox.resolvers import base


class Server:
    """A running registry: where it is, where it keeps its data, and how images get in."""

    def __init__(self, host: str, folder: Path, authorization: str | None = None) -> None:
        self.host, self.folder, self._authorization = host, folder, authorization

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        headers = {"Content-Type": kind} if kind else {}
        if self._authorization:
            headers["Authorization"] = self._authorization
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            answer.read()
            return answer
        finally:
            connection.close()

    def blob(self, name: str, data: bytes, kind: str) -> dict[str, Any]:
        place = self.ask("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        path = place.partition(self.host)[2] or place
        digest = Digest.of(data)
        pushed = self.ask("PUT", f"{path}&digest={digest}", data, "application/octet-stream")
        assert pushed.status == 201
        return {"mediaType": kind, "digest": str(digest), "size": len(data)}

    def manifest(self, name: str, tag: str, content: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(content).encode()
        assert self.ask("PUT", f"/v2/{name}/manifests/{tag}", data, content["mediaType"]).status == 201
        return {"mediaType": content["mediaType"], "digest": str(Digest.of(data)), "size": len(data)}

    def image(self, name: str, tag: str, architecture: str, *layers: bytes, kind: str = OCI_MANIFEST) -> dict[str, Any]:
        config = json.dumps({"os": "linux", "architecture": architecture, "config": {"Env": ["PATH=/usr/bin"]}})
        docker = kind == DOCKER_MANIFEST
        config_kind = (
            "application/vnd.docker.container.image.v1+json" if docker else "application/vnd.oci.image.config.v1+json"
        )
        layer_kind = (
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            if docker
            else "application/vnd.oci.image.layer.v1.tar+gzip"
        )
        content = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": self.blob(name, config.encode(), config_kind),
            "layers": [self.blob(name, layer, layer_kind) for layer in layers],
        }
        return self.manifest(name, tag, content)

    def index(self, name: str, tag: str, kind: str, **images: dict[str, Any]) -> Digest:
        entries = [
            {**image, "platform": {"os": "linux", "architecture": architecture}}
            for architecture, image in images.items()
        ]
        content = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
        return Digest.parse(self.manifest(name, tag, content)["digest"])


def start(folder: Path, auth: str = "") -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        reason = "docker-registry is not installed"
        if "registry" in os.environ.get("REPROBOX_REQUIRE", "").split(","):
            pytest.fail(f"REPROBOX_REQUIRE names registry, but {reason}", pytrace=False)
        pytest.skip(reason)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{host}', secret: x}}\n{auth}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield host
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("registry")
    for host in start(folder):
        yield Server(host, folder / "data")


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def layer(*paths: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in paths:
            entry = tarfile.TarInfo(path)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO())
    return gzip.compress(buffer.getvalue(), mtime=0)


PYTHON = layer(
    "usr/bin/python3.11",
    "usr/lib/python3.11/ensurepip/__init__.py",
    "usr/lib/python3.11/ensurepip/_bundled/pip-24.0-py3-none-any.whl",
)


@pytest.mark.parametrize(("index", "manifest"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)])
def test_an_image_of_either_kind_is_resolved_and_its_python_found(server: Server, index: str, manifest: str) -> None:
    name = f"lab/{'docker' if index == DOCKER_LIST else 'oci'}"
    amd = server.image(name, "amd", "amd64", PYTHON, layer("top"), kind=manifest)
    arm = server.image(name, "arm", "arm64", PYTHON, kind=manifest)
    top = server.index(name, "1", index, amd64=amd, arm64=arm)
    wishes = Project(
        root=Path("/nowhere"),
        name="p",
        environment=EnvironmentFile(path=PurePosixPath("requirements.in")),
        python=PythonVersion(3, 11),
        base=ImageBase(reference=f"{server.host}/{name}:1"),
        platforms=(Platform.LINUX_64, Platform.LINUX_AARCH64),
    )
    locked, interpreter = base.resolve(wishes, console=Console())
    assert locked == Registry().resolve(f"{server.host}/{name}:1", wishes.platforms)
    assert str(locked.digest) == str(top)  # type: ignore[union-attr]
    assert interpreter.path == PurePosixPath("/usr/bin/python3.11")


def test_a_moved_tag_gives_another_digest_and_the_old_one_still_answers(server: Server) -> None:
    first = server.image("lab/moving", "1", "amd64", PYTHON)
    old = Registry().resolve(f"{server.host}/lab/moving:1", [Platform.LINUX_64])
    server.image("lab/moving", "1", "amd64", PYTHON, layer("new"))
    new = Registry().resolve(f"{server.host}/lab/moving:1", [Platform.LINUX_64])
    assert str(old.digest) == first["digest"] != str(new.digest)
    exact = Registry().resolve(f"{server.host}/lab/moving:1@{old.digest}", [Platform.LINUX_64])
    assert exact.manifests == old.manifests


def test_what_the_registry_does_not_have_is_named(server: Server) -> None:
    server.image("lab/there", "1", "amd64", PYTHON)
    with pytest.raises(RegistryFailed, match="has no manifest 2 in lab/there"):
        Registry().resolve(f"{server.host}/lab/there:2", [Platform.LINUX_64])
    with pytest.raises(RegistryFailed, match=r"has no (repository|manifest)"):
        Registry().resolve(f"{server.host}/lab/nowhere:1", [Platform.LINUX_64])
    with pytest.raises(InvalidInput, match="only linux/amd64"):
        Registry().resolve(f"{server.host}/lab/there:1", [Platform.LINUX_AARCH64])
    with pytest.raises(RegistryFailed, match="has no blob sha256:"):
        Registry().blob(parse_reference(f"{server.host}/lab/there:1"), Digest.of(b"nothing"))


def test_a_blob_that_was_changed_in_the_registrys_storage_is_refused(server: Server) -> None:
    described = server.blob("lab/rotten", b"right bytes", "application/octet-stream")
    digest = Digest.parse(described["digest"])
    stored = server.folder / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
    stored.write_bytes(b"wrong bytes")
    with pytest.raises(HashMismatch, match=str(digest)):
        Registry().blob(parse_reference(f"{server.host}/lab/rotten"), digest)


def test_a_registry_with_a_password_opens_to_dockers_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bcrypt of "correct-horse"
    (tmp_path / "htpasswd").write_text("me:$2y$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS\n")
    proof = base64.b64encode(b"me:correct-horse").decode()
    for host in start(tmp_path, f"auth: {{htpasswd: {{realm: lab, path: {tmp_path}/htpasswd}}}}\n"):
        private = Server(host, tmp_path / "data", f"Basic {proof}")
        pushed = private.image("lab/private", "1", "amd64", PYTHON)
        reference = f"{host}/lab/private:1"
        with pytest.raises(RegistryFailed, match="there are no credentials for it"):
            Registry().resolve(reference, [Platform.LINUX_64])
        (tmp_path / "docker").mkdir()
        config = tmp_path / "docker" / "config.json"
        config.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(b"me:wrong").decode()}}}))
        with pytest.raises(RegistryFailed, match="the credentials for it were refused"):
            Registry().resolve(reference, [Platform.LINUX_64])
        config.write_text(json.dumps({"auths": {host: {"auth": proof}}}))
        assert str(Registry().resolve(reference, [Platform.LINUX_64]).digest) == pushed["digest"]
