"""What a build must know and its image must not: certificates, proxies, credentials of an index."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

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


@pytest.fixture
def private_index(tmp_path: Path) -> Iterator[str]:
    """An index that holds one package and wants a password; its URL carries the credentials."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = _wheel(folder)
    digest = sha256(wheel.read_bytes()).hexdigest()
    page = f'<a href="/{wheel.name}#sha256={digest}">{wheel.name}</a>'.encode()
    allowed = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages = {
                "/simple/planted-package/": ("text/html", page),
                f"/{wheel.name}": ("application/zip", wheel.read_bytes()),
            }
            kind, body = pages.get(self.path, ("", b""))
            status = 401 if self.headers.get("Authorization") != allowed else 200 if body else 404
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(body) if status == 200 else 0))
            self.end_headers()
            if status == 200:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((_bridge_address(), 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{USER}:{quote(PASSWORD)}@{server.server_address[0]}:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


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


def test_no_secret_of_a_build_leaves_a_trace(
    project: Callable[[], Project], private_index: str, tmp_path: Path
) -> None:
    here = project()
    bundle = tmp_path / "ca.crt"
    own = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    shutil.copyfile(own, bundle)
    with bundle.open("a") as stream:
        stream.write(f"\n# {CA_MARK}\n")
    here.write("requirements.in", "six==1.16.0\nplanted-package\n")
    env = {
        "UV_EXTRA_INDEX_URL": private_index,
        "SSL_CERT_FILE": str(bundle),
        "ALL_PROXY": "",
        "FTP_PROXY": "",
        "NO_PROXY": f"*,{PROXY_PASSWORD}.example",
    }
    said = [here("-v", "lock", env=env), here("-v", "build", "--json", env=env)]
    reference = said[1].json["image"]["reference"]
    assert here("run", "--", "python", "-c", "import planted_package as p; print(p.answer)", env=env).out == "42\n"

    host = private_index.partition("@")[2].partition("/")[0]
    planted = [word.encode() for word in (USER, PASSWORD, PROXY_PASSWORD, CA_MARK, host, str(bundle))]
    found = [
        (name, word.decode())
        for name, content in [
            *_everything(reference, tmp_path),
            *((result, (said[at].out + said[at].err).encode()) for at, result in enumerate(("lock", "build"))),
            *(
                (str(p.relative_to(here.root)), p.read_bytes())
                for p in here.root.rglob("*")
                if p.is_file() and ".git/" not in str(p)
            ),
        ]
        for word in planted
        if word in content
    ]
    assert [hit for hit in found if hit[1] != host or hit[0] not in ("lock", "build")] == []
    assert json.loads(said[1].out)["built"] is True


def test_a_planted_secret_would_be_found(project: Callable[[], Project], tmp_path: Path) -> None:
    """The search above, on an image that does hold a secret in one of its files."""
    here = project()
    here.write("notes.txt", f"the password is {PASSWORD}\n")
    reference = here("build", "--json").json["image"]["reference"]
    assert any(PASSWORD.encode() in content for _, content in _everything(reference, tmp_path))
