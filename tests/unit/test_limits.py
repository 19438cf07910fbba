"""What is bounded: a crawling server, a program that does not end, a command that does not stop talking."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import pytest
from test_staging import _chunks, _member, _tar

from reprobox import experiment, proc, web
from reprobox.engines.staging import take_out
from reprobox.errors import InvalidInput, OutputRefused, ProgramTooSlow
from reprobox.model import MEBIBYTE
from reprobox.web import Patience, Web, WebFailed


@pytest.fixture
def crawling() -> Iterator[str]:
    """The address of a server whose answers come at 20 bytes a second."""
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            try:
                for _ in range(100):  # and no longer, so that a test fails and does not hang
                    if not stop.wait(0.05):
                        self.wfile.write(b"x")
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_crawls_is_given_up(crawling: str) -> None:
    began = time.monotonic()
    with (
        pytest.raises(WebFailed, match=r"the answer crawls: \d+ bytes in \d+ s"),
        Web(patience=Patience(tries=1, timeout=0.5)).request(crawling) as answer,
    ):
        answer.whole(MEBIBYTE)
    assert 0.4 < time.monotonic() - began < 5


def test_a_server_that_is_slow_but_not_too_slow_is_waited_for(crawling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOWEST", 1.0)
    with Web(patience=Patience(tries=1, timeout=0.2)).request(crawling) as answer:
        chunks = answer.chunks()
        assert sum(len(next(chunks)) for _ in range(15)) >= 15
        chunks.close()  # type: ignore[attr-defined]


def test_a_program_that_does_not_end_is_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(ProgramTooSlow, match=r"sleep did not end within 0\.3 s"):
        proc.run(["sleep", "60"], timeout=0.3)
    with pytest.raises(ProgramTooSlow, match="did not end within"):
        proc.run(["sh", "-c", "trap '' TERM; while :; do echo x; done"], timeout=0.3, on_line=lambda _: None)
    assert time.monotonic() - began < 20


def test_a_program_that_reads_no_input_is_no_failure() -> None:
    assert proc.run(["true"], stdin=b"x" * MEBIBYTE, on_line=lambda _: None).code == 0


# --- a command's words ------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[bytes]], bytes]:
    monkeypatch.setattr(experiment, "LOG_LIMIT", 10)
    monkeypatch.setattr(experiment, "LOG_END", 4)

    def write(pieces: list[bytes]) -> bytes:
        path = tmp_path / "log.txt"
        made = experiment._Log(path.open("wb", buffering=0))
        for piece in pieces:
            made.write(piece)
        made.close()
        return path.read_bytes()

    return write


def test_the_words_of_a_command_are_kept_as_they_came(log: Callable[[list[bytes]], bytes]) -> None:
    assert log([b"12345", b"6789"]) == b"123456789"
    assert log([b"1234567890ab", b"cd"]) == b"1234567890abcd"


def test_of_too_many_words_the_first_and_the_last_are_kept_and_the_gap_is_told(
    log: Callable[[list[bytes]], bytes],
) -> None:
    whole = log([b"1234567890", *[b"."] * 96, b"last"])
    first, gap, end = whole.split(b"\n")
    assert first == b"1234567890"
    assert end.endswith(b"last")
    assert len(end) <= 8
    assert gap == f"[reprobox left out {100 - len(end)} bytes here]".encode()


def test_a_full_disk_under_a_commands_words_is_told() -> None:
    log = experiment._Log(Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115 (close is what is tested)
    with pytest.raises(InvalidInput, match="cannot keep the command's words in /dev/full: No space left") as caught:
        log.write(b"x")
    assert "make room on the disk" in (caught.value.hint or "")
    log.close()


# --- outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"out/\xff", b"out/a\nb", b"out/\x1b[31m", "out/\u202egnp".encode()])
def test_an_output_whose_name_no_report_can_print_is_refused(tmp_path: Path, name: bytes) -> None:
    archive = _tar((_member(os.fsdecode(name)), b"x"))
    with pytest.raises(OutputRefused, match="the name of a file in it is no printable text"):
        take_out(PurePosixPath("out"), _chunks(archive), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_kept_whole_is_not_kept(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        archive = _tar((_member("a"), b"x" * 5 * MEBIBYTE))
        yield archive[: 2 * MEBIBYTE]
        raise OSError(28, "No space left on device")

    with pytest.raises(InvalidInput, match=f"cannot keep output out/a in {tmp_path}: No space left on device"):
        take_out(PurePosixPath("out/a"), chunks(), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
