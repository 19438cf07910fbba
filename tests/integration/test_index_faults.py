"""A Python index that is not what it should be, while locking: told in words, in bounded time, and nothing written."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest

from reprobox.console import Console
from reprobox.errors import ReproboxError
from reprobox.model import EnvironmentFile, ImageBase, Project, PythonVersion
from reprobox.resolvers import python, solver
from reprobox.resolvers.python import Upgrade

Answer = Callable[[BaseHTTPRequestHandler], None]


def _body(handler: BaseHTTPRequestHandler, data: bytes, *, code: int = 200, length: int | None = None) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)


def _status(code: int) -> Answer:
    return lambda handler: _body(handler, b"no", code=code)


def _redirect(target: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target or handler.path)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def _typeless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _crawl(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"<")
        time.sleep(0.05)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    """Locks ``lab`` from an index that answers so; returns the message."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[ThreadingHTTPServer] = []
    root = tmp_path / "project"
    root.mkdir()
    (root / "requirements.in").write_text("lab\n")
    project = Project(
        root=root,
        name="lab",
        environment=EnvironmentFile(path=PurePosixPath("requirements.in")),
        python=PythonVersion(3, 11),
        base=ImageBase(reference="debian:bookworm-slim"),
    )

    def run(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    answer(self)
                except OSError:
                    self.close_connection = True

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_address[1]}/simple")
        with pytest.raises(ReproboxError) as caught:
            python.resolve(project, previous={}, upgrade=Upgrade(), console=Console())
        assert [path.name for path in root.iterdir()] == ["requirements.in"]
        return f"{type(caught.value).__name__}: {caught.value.message}\nhint: {caught.value.hint}"

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_status(401), "a package index wants credentials or refuses those it got"),
        (_status(403), "a package index wants credentials or refuses those it got"),
        (_status(429), "a package index cannot be reached"),
        (_status(500), "a package index cannot be reached"),
        (lambda handler: _body(handler, b"<html>", length=10**6), "a package index cannot be reached"),
        (lambda handler: _body(handler, b"<html><body>please log in</body></html>"), "its page is no package index's"),
        (_redirect(""), "its page is no package index's"),
        (_typeless, "a package index does not answer as one"),
        (_redirect("file:///etc/passwd"), "a package index cannot be reached"),
    ],
    ids=["401", "403", "429", "500", "truncated", "another page", "circle", "typeless", "file"],
)
def test_an_index_that_fails_is_told_in_words(lock: Callable[[Answer], str], answer: Answer, words: str) -> None:
    said = lock(answer)
    assert words in said
    assert said.startswith("ResolutionFailed: cannot resolve")


def test_an_index_that_answers_by_the_byte_is_given_up(
    lock: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solver, "LONGEST", 2.0)
    began = time.monotonic()
    assert "uv had no answer after 2 s and was stopped: a package index is too slow" in lock(_crawl)
    assert time.monotonic() - began < 20


def test_an_index_that_is_not_there_is_named(lock: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.close()

    assert "a package index cannot be reached" in lock(gone)
