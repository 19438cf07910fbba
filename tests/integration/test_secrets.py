"""What a build must know and its image must not: certificates, proxies, credentials of an index."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Project

pytestmark = [pytest.mark.docker, pytest.mark.network]
USER, PASSWORD = "planted-user", "planted-pa55word"
PROXY_PASSWORD = "planted-proxy-pa55word"
CA_MARK = "planted-certificate-comment"


def _wheel(folder: Path) -> Path:
    path = folder / "planted_package-1.0-py3-none-any.whl"
    info = "planted_package-1.0.dist-info"
    content = {
        "planted_package.py": "answer = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: planted-package\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def _bridge_address() -> str:
    """Where a build's network finds this machine: the gateway of Docker's own bridge."""
    asked = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True)
class Private:
    """An index behind a proxy; both want a password, which their URLs carry. ``asked``: who got what by the proxy."""

    index: str
    proxy: str
    asked: list[tuple[str, str]]


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Private]:
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = _wheel(folder)
    digest = sha256(wheel.read_bytes()).hexdigest()
    page = f'<a href="/{wheel.name}#sha256={digest}">{wheel.name}</a>'.encode()
    pages = {"/simple/planted-package/": ("text/html", page), f"/{wheel.name}": ("application/zip", wheel.read_bytes())}
    asked: list[tuple[str, str]] = []

    class Server(http.server.BaseHTTPRequestHandler):
        """The index, and the proxy in front of it: a proxy's requests name a whole URL."""

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if self.path.startswith("http:"):
                if self.headers.get("Proxy-Authorization") != _basic("proxy", PROXY_PASSWORD):
                    return self._answer(407, "text/plain", b"")
                asked.append((self.headers.get("User-Agent", ""), path))
            if self.headers.get("Authorization") != _basic(USER, PASSWORD):
                return self._answer(401, "text/plain", b"")
            kind, body = pages.get(path, ("text/plain", b""))
            return self._answer(200 if body else 404, kind, body)

        do_HEAD = do_GET

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((_bridge_address(), 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"{server.server_address[0]}:{server.server_port}"
    yield Private(
        index=f"http://{USER}:{PASSWORD}@{place}/simple", proxy=f"http://proxy:{PROXY_PASSWORD}@{place}", asked=asked
    )
    server.shutdown()
    server.server_close()


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _everything(reference: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every byte of an image: its layers' files and names, its config and history."""
    saved = folder / "image.tar"
    subprocess.run(["docker", "save", "--output", str(saved), reference], check=True)
    with tarfile.open(saved) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            yield member.name, content.read()
    history = ["docker", "history", "--no-trunc", "--format", "json", reference]
    yield "history", subprocess.run(history, check=True, capture_output=True).stdout
    yield "inspect", subprocess.run(["docker", "inspect", reference], check=True, capture_output=True).stdout


def test_no_secret_of_a_build_leaves_a_trace(project: Callable[[], Project], private: Private, tmp_path: Path) -> None:
    here = project()
    bundle = tmp_path / "ca.crt"
    shutil.copyfile(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), bundle)
    with bundle.open("a") as stream:
        stream.write(f"\n# {CA_MARK}\n")
    here.write("requirements.in", "six==1.16.0\nplanted-package\n")
    env = {"UV_EXTRA_INDEX_URL": private.index, "HTTP_PROXY": private.proxy, "SSL_CERT_FILE": str(bundle)}

    said = {"lock": here("-v", "lock", env=env)}
    private.asked.clear()
    said["build"] = here("-v", "build", "--json", env=env)
    assert any(path.endswith(".whl") for _, path in private.asked), "the build did not use the index and the proxy"
    reference = said["build"].json["image"]["reference"]
    said["run"] = here("run", "--", "python", "-c", "import planted_package as p; print(p.answer)", env=env)
    assert said["run"].out == "42\n"

    host = private.proxy.partition("@")[2]
    searched = [*_everything(reference, tmp_path)]
    searched += [(str(path), path.read_bytes()) for path in here.root.rglob("*") if path.is_file()]
    searched += [(verb, (result.out + result.err).encode()) for verb, result in said.items()]
    for word in (USER, PASSWORD, PROXY_PASSWORD, CA_MARK, str(bundle)):
        assert [name for name, content in searched if word.encode() in content] == [], word
    words = set(said)
    assert [name for name, content in searched if host.encode() in content and name not in words] == []


def test_a_planted_secret_would_be_found(project: Callable[[], Project], tmp_path: Path) -> None:
    """The search above, on an image that does hold a secret in one of its files."""
    here = project()
    here.write("notes.txt", f"the password is {PASSWORD}\n")
    reference = here("build", "--json").json["image"]["reference"]
    assert any(PASSWORD.encode() in content for _, content in _everything(reference, tmp_path))
