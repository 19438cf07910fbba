"""The only place that starts a process: a list, never a shell; looked up first; both streams drained."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from reprobox.errors import ProgramFailed, ProgramMissing, ProgramTooSlow

TAIL_LINES = 30


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a process left: its exit code and both streams as bytes."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def tail(self) -> str:
        """The last lines of what it complained about, else of what it said."""
        words = (self.stderr.strip() or self.stdout.strip()).decode("utf-8", "replace")
        return "\n".join(words.splitlines()[-TAIL_LINES:])


def find(program: str, *, hint: str | None = None) -> str:
    """The path of a program. Raises ProgramMissing where it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise ProgramMissing(f"{program} is not installed", hint=hint or f"install {program}")
    return path


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    timeout: float | None = None,
    hint: str | None = None,
) -> Finished:
    """Run a program to its end.

    ``env`` replaces the environment; ``on_line`` is called with each line of either stream as it comes (from
    reader threads). Raises ProgramMissing, and ProgramFailed on a non-zero exit code unless ``check`` is off.
    Leaving early, by Ctrl-C too, ends the process first. One that takes longer than ``timeout`` (seconds) is ended:
    ProgramTooSlow.
    """
    program = find(os.fspath(argv[0]), hint=hint)
    process = subprocess.Popen(
        [program, *(os.fspath(word) for word in argv[1:])],
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(timeout or 0, stop)
    timer.daemon = True
    with process:
        try:
            if timeout is not None:
                timer.start()
            if on_line is None:
                stdout, stderr = process.communicate(stdin)
            else:
                stdout, stderr = _follow(process, stdin, on_line)
        except BaseException:
            _end(process)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise ProgramTooSlow(f"{Path(program).name} did not end within {timeout:g} s", hint=hint)
    finished = Finished(code=process.returncode, stdout=stdout, stderr=stderr)
    if check and finished.code != 0:
        raise ProgramFailed(Path(program).name, finished.code, finished.tail)
    return finished


def _follow(process: subprocess.Popen[bytes], stdin: bytes, on_line: Callable[[str], None]) -> tuple[bytes, bytes]:
    kept: dict[str, deque[bytes]] = {"stdout": deque(), "stderr": deque()}

    def read(name: str, stream: IO[bytes]) -> None:
        for line in stream:
            kept[name].append(line)
            on_line(line.decode("utf-8", "replace").rstrip("\r\n"))

    assert process.stdin and process.stdout and process.stderr
    threads = [
        threading.Thread(target=read, args=(name, stream), daemon=True)
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for thread in threads:
        thread.start()
    if stdin:
        with contextlib.suppress(BrokenPipeError):  # it needed no more of it
            process.stdin.write(stdin)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    for thread in threads:
        thread.join()
    process.wait()
    return b"".join(kept["stdout"]), b"".join(kept["stderr"])


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def guardian(argv: Sequence[str], *, hint: str | None = None) -> Iterator[None]:
    """Promise that ``argv`` runs when the block is left: normally, by an exception, or because we were killed.

    A small process of its own session waits for our end of a pipe to close, which the kernel does whatever
    becomes of us, and then runs the command.
    """
    process = subprocess.Popen(
        [find("sh"), "-c", 'cat >/dev/null; exec "$@"', "sh", find(argv[0], hint=hint), *argv[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin
    try:
        yield
    finally:
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on without us
            process.wait(timeout=60)
