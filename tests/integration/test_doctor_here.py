"""`reprobox doctor` on this machine: as it is, without a daemon, with a deaf one, with a wrong address."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

pytestmark = [pytest.mark.docker]


def _examine(root: Path, code: int, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    found = Project(root)("doctor", "--json", env=env, code=code).json
    assert all(one["remedy"] for one in found["findings"] if one["condition"] != "ok")
    return {one["subject"]: one for one in found["findings"]}


def test_a_machine_that_can_build_passes(tmp_path: Path) -> None:
    found = _examine(tmp_path, 0)
    for subject in ("Docker client", "Docker daemon", "buildx", "Builder", "uv", "Clock"):
        assert found[subject]["condition"] == "ok", found[subject]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "fact"),
    [
        ("tcp://127.0.0.1:1", "no Docker daemon answers at tcp://127.0.0.1:1 (DOCKER_HOST)"),
        ("foo://x", "DOCKER_HOST names foo://x, which is no Docker daemon's address"),
    ],
)
def test_a_daemon_that_is_not_there_is_a_problem_with_a_remedy(address: str, fact: str, tmp_path: Path) -> None:
    began = time.monotonic()
    found = _examine(tmp_path, 1, {"DOCKER_HOST": address})["Docker daemon"]
    assert (found["condition"], found["fact"]) == ("problem", fact)
    assert time.monotonic() - began < 20


def test_a_daemon_that_never_answers_does_not_hang_doctor(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        found = _examine(tmp_path, 1, {"DOCKER_HOST": f"tcp://127.0.0.1:{deaf.getsockname()[1]}"})["Docker daemon"]
        assert "does not answer within 5 s" in found["fact"]
        assert time.monotonic() - began < 30


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture
def resigned(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of an index whose certificate only the file beside it vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Lab Inspection CA",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stop = threading.Event()

    def serve(server: socket.socket) -> None:
        server.settimeout(0.1)
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            connection.settimeout(5)
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    with socket.create_server(("localhost", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"https://localhost:{server.getsockname()[1]}/simple", certificate
        stop.set()
        thread.join()


def test_a_resigned_tls_is_named_and_what_builds_get(resigned: tuple[str, Path], tmp_path: Path) -> None:
    address, certificate = resigned
    env = {"UV_DEFAULT_INDEX": address, "REPROBOX_CA_BUNDLE": str(certificate)}
    found = _examine(tmp_path, 0, env)
    assert found["Package index"]["fact"] == (
        f"{address} answers; TLS is re-signed by Lab Inspection CA: builds get your bundle as a secret"
    )
    assert found["Certificates"]["fact"] == f"REPROBOX_CA_BUNDLE {certificate}: 1 certificates"


def test_a_certificate_that_nobody_vouches_for_is_a_problem(resigned: tuple[str, Path], tmp_path: Path) -> None:
    found = _examine(tmp_path, 1, {"UV_DEFAULT_INDEX": resigned[0]})["Package index"]
    assert found["condition"] == "problem"
    assert "REPROBOX_CA_BUNDLE" in found["remedy"]


def test_no_network_is_said_so_and_is_no_problem(tmp_path: Path) -> None:
    found = _examine(tmp_path, 0, {"UV_DEFAULT_INDEX": "https://localhost:1/simple"})["Package index"]
    assert (found["condition"], found["fact"]) == (
        "warning",
        "https://localhost:1/simple cannot be reached: Connection refused",
    )
