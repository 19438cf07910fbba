"""Which daemon is meant, and what is said when it is not there, too old, not Docker, or deaf; no engine needed."""

from __future__ import annotations

import gc
import hashlib
import http.server
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox.engines import docker_context
from reprobox.engines.docker import Docker, require_usable
from reprobox.engines.docker_container import archive, bindable, least_used
from reprobox.engines.docker_context import Endpoint
from reprobox.errors import EngineUnavailable, InvalidInput
from reprobox.model import Digest, Image, Mount

IMAGE = Image(engine="docker", reference="x:1", handle="sha256:1", digest=Digest.of(b""))


@pytest.fixture(autouse=True)
def _no_docker_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def make_context(folder: Path, name: str, host: object) -> None:
    place = folder / "docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    place.mkdir(parents=True)
    (place / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


def configure(folder: Path, text: str) -> None:
    (folder / "docker").mkdir(exist_ok=True)
    (folder / "docker" / "config.json").write_text(text)


# --- which daemon -----------------------------------------------------------------------------


def test_without_a_word_it_is_dockers_default_socket() -> None:
    found = docker_context.active()
    assert (found.address, found.command) == ("unix:///var/run/docker.sock", ["docker", "--context=default"])


def test_docker_host_goes_before_a_context_and_a_context_variable_before_the_chosen_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lab", "home"):
        make_context(tmp_path, name, f"unix:///run/{name}.sock")
    configure(tmp_path, '{"currentContext": "home"}')
    assert docker_context.active().address == "unix:///run/home.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "lab")
    found = docker_context.active()
    assert (found.address, found.command) == ("unix:///run/lab.sock", ["docker", "--context=lab"])
    assert str(found) == "unix:///run/lab.sock (context lab)"
    monkeypatch.setenv("DOCKER_HOST", "tcp://host.example:2375")
    found = docker_context.active()
    assert (found.address, found.command) == ("tcp://host.example:2375", ["docker"])


def test_a_contexts_certificates_are_used(tmp_path: Path) -> None:
    make_context(tmp_path, "lab", "tcp://127.0.0.1:1")
    configure(tmp_path, '{"currentContext": "lab"}')
    place = tmp_path / "docker" / "contexts" / "tls" / hashlib.sha256(b"lab").hexdigest() / "docker"
    place.mkdir(parents=True)
    (place / "ca.pem").write_text("not a certificate")
    with pytest.raises(EngineUnavailable), docker_context.connected(docker_context.active()):
        pass


def test_a_context_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    with pytest.raises(EngineUnavailable, match="there is no Docker context 'gone'"):
        docker_context.active()


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_broken_docker_configuration_is_named(text: str, tmp_path: Path) -> None:
    configure(tmp_path, text)
    with pytest.raises(EngineUnavailable, match=r"config\.json: it is not Docker's JSON"):
        docker_context.active()


def test_a_context_without_a_daemon_is_named(tmp_path: Path) -> None:
    make_context(tmp_path, "odd", "x")
    meta = next((tmp_path / "docker" / "contexts" / "meta").glob("*/meta.json"))
    meta.write_text('{"Name": "odd", "Endpoints": {}}')
    configure(tmp_path, '{"currentContext": "odd"}')
    with pytest.raises(EngineUnavailable, match="the Docker context 'odd' names no daemon"):
        docker_context.active()


@pytest.mark.parametrize("address", ["foo://x", "host.example:2375", "tcp://", "tcp://x", "tcp://x:y", "npipe://x"])
def test_what_is_no_address_is_refused_with_an_example(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(EngineUnavailable, match=r"DOCKER_HOST names .*no Docker daemon's address") as caught:
        Docker().probe()
    assert "unix:///var/run/docker.sock" in (caught.value.hint or "")


def test_docker_over_ssh_is_refused_with_a_way_out(tmp_path: Path) -> None:
    make_context(tmp_path, "far", "ssh://me@host.example")
    configure(tmp_path, '{"currentContext": "far"}')
    with pytest.raises(EngineUnavailable, match="ssh:// is not supported") as caught:
        docker_context.active()
    assert "DOCKER_HOST=unix://" in (caught.value.hint or "")


# --- what it answers --------------------------------------------------------------------------


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A daemon's answers by path, served at DOCKER_HOST."""
    answers: dict[str, Any] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = next((value for path, value in answers.items() if self.path.endswith(path)), None)
            body = json.dumps(found or {"message": "no such thing"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    yield answers
    server.shutdown()
    server.server_close()


def test_a_daemon_that_is_too_old_is_said_so(daemon: dict[str, Any]) -> None:
    daemon["/version"] = {"Version": "20.10.24", "ApiVersion": "1.41"}
    with pytest.raises(EngineUnavailable, match=r"Docker 20.10.24 is too old: 23 or newer"):
        Docker().probe()


def test_a_daemon_too_old_to_be_spoken_to_is_said_so(daemon: dict[str, Any]) -> None:
    daemon["/version"] = {"Version": "1.9", "ApiVersion": "1.12"}
    with pytest.raises(EngineUnavailable, match="is too old: 23 or newer"):
        Docker().probe()


@pytest.mark.parametrize(("version", "api"), [("23.0.0", "1.42"), ("29.1.2", "1.52"), ("dev", "1.51")])
def test_a_modern_daemon_is_taken(version: str, api: str) -> None:
    require_usable({"Version": version, "ApiVersion": api, "Components": [{"Name": "Engine"}]})


def test_podman_in_dockers_place_is_named() -> None:
    with pytest.raises(EngineUnavailable, match=r"Podman 5.4.2 answers in Docker's place"):
        require_usable({"Version": "5.4.2", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]})


def _program(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)


def test_a_docker_without_buildx_is_said_so(
    daemon: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon["/version"] = {"Version": "28.5.2", "ApiVersion": "1.51"}
    _program(tmp_path / "bin", "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with pytest.raises(EngineUnavailable, match="Docker has no buildx"):
        Docker().probe()


def test_no_daemon_is_said_so_with_its_address_and_what_named_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    for ask in (Docker().probe, lambda: Docker().holds(IMAGE)):
        with pytest.raises(EngineUnavailable, match=r"no Docker daemon answers at tcp://127.0.0.1:1 \(DOCKER_HOST\)"):
            ask()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # docker-py leaves the socket open
def test_a_socket_that_is_forbidden_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", denied)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineUnavailable, match="may not be used by this user") as caught:
        Docker().probe()
    assert "group `docker`" in (caught.value.hint or "")
    del caught
    gc.collect()


def test_a_daemon_that_accepts_and_never_answers_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_context, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(EngineUnavailable, match="does not answer within 1 s"):
            Docker().probe()


# --- CPUs -------------------------------------------------------------------------------------


def test_two_experiments_at_once_get_cpus_of_their_own() -> None:
    assert least_used(1, 2, []) == (0,)
    assert least_used(1, 2, ["0"]) == (1,)
    assert least_used(1, 2, ["0", "1"]) == (0,)
    assert least_used(2, 4, ["0,1", "2", ""]) == (0, 3)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 64))
def test_as_many_cpus_as_wanted_are_given_all_different_and_there(data: st.DataObject, available: int) -> None:
    wanted = data.draw(st.integers(1, available))
    labels = data.draw(st.lists(st.lists(st.integers(0, 70)).map(lambda numbers: ",".join(map(str, numbers)))))
    found = least_used(wanted, available, labels)
    assert len(set(found)) == wanted
    assert set(found) <= set(range(available))


# --- inputs -----------------------------------------------------------------------------------


def _mount(source: Path, target: str) -> Mount:
    return Mount(source=source, target=PurePosixPath("/work") / target)


def test_copied_inputs_are_readable_and_their_folders_the_users(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 700)
    (tmp_path / "b").write_bytes(b"")
    here = [_mount(tmp_path / "a", "data/deep/a"), _mount(tmp_path / "b", "data/b"), _mount(tmp_path / "c", "big/c")]
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive(here, here[:2])))) as tar:
        listed = [(m.name, m.mode, m.uid, m.gid, m.size, m.mtime) for m in tar]
        content = tar.extractfile("data/deep/a")
        assert content is not None
        assert content.read() == b"x" * 700
    assert listed == [
        ("big", 0o755, 1000, 1000, 0, 1577836800),
        ("data", 0o755, 1000, 1000, 0, 1577836800),
        ("data/deep", 0o755, 1000, 1000, 0, 1577836800),
        ("data/deep/a", 0o444, 1000, 1000, 700, 1577836800),
        ("data/b", 0o444, 1000, 1000, 0, 1577836800),
    ]


def test_an_input_that_shrinks_while_it_is_read_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (3 << 20))
    chunks = archive([_mount(tmp_path / "a", "a")], [_mount(tmp_path / "a", "a")])
    next(chunks)
    next(chunks)
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(InvalidInput, match="became shorter"):
        list(chunks)


def test_only_a_daemon_of_this_machine_binds_and_only_what_all_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"")
    source.chmod(0o644)
    mount = _mount(source, "a")
    here = {"Name": os.uname().nodename, "SecurityOptions": ["name=seccomp,profile=builtin"]}
    assert bindable(mount, here, here=True)
    near, far = (Endpoint(address=one, named_by="x") for one in ("unix:///x", "tcp://x:1"))
    assert [near.is_here(here), far.is_here(here), near.is_here({**here, "Name": "far"})] == [True, False, False]
    assert not bindable(mount, here, here=False)
    assert not bindable(mount, {**here, "SecurityOptions": ["name=selinux"]}, here=True)
    source.chmod(0o640)
    assert not bindable(mount, here, here=True)
