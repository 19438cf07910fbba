"""The three streams as the caller left them: closed, full, without a reader, or not UTF-8."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class ReaderGone(Exception):
    """Nobody reads our stdout any more, as in `reprobox render | head -1`: we end as if the signal had ended us."""


def open_all() -> None:
    """A stream that the caller closed must not become the next file we open: what is written there fails, as it
    should, or for stderr goes nowhere. A character that a stream cannot print is spelled out."""
    for number, (name, mode, flags) in enumerate(
        (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    ):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, flags)
            if handle != number:
                os.dup2(handle, number)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 (a number, for good)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def write(data: str | bytes) -> None:
    """Put ``data`` on stdout. Raises ReaderGone, and InvalidInput where it takes no more."""
    try:
        if isinstance(data, str):
            sys.stdout.write(data)
        else:
            sys.stdout.buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        _lead_nowhere(1)
        raise ReaderGone from None
    except OSError as error:
        from reprobox.files import explain  # noqa: PLC0415 (slow to import)

        _lead_nowhere(1)
        raise explain(error, "cannot write to stdout") from error


def complain(data: bytes) -> None:
    """Put ``data`` on stderr, if anybody listens."""
    with suppress(OSError):
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()


def flush_stderr() -> None:
    """The last words, if anybody listens."""
    try:
        sys.stderr.flush()
    except OSError:
        _lead_nowhere(2)


def _lead_nowhere(number: int) -> None:
    """What is still in the buffer of a stream goes nowhere, so that nothing complains of it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
