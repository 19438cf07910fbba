"""Text and numbers as a person reads them on a terminal. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TextIO

_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but the newline, and those that reverse or break a line unseen."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The signs that stand before a line, in what the stream can print."""

    passed: str
    failed: str
    trouble: str
    spinner: str


UNICODE_MARKS = Marks(passed="✓", failed="✗", trouble="!", spinner="dots")
ASCII_MARKS = Marks(passed="ok", failed="x", trouble="!", spinner="line")


def marks(stream: TextIO) -> Marks:
    """The marks that ``stream`` can print: ASCII ones where it does not speak UTF-8."""
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
    return UNICODE_MARKS if encoding in {"utf8", "utf8sig"} else ASCII_MARKS


def printable(text: str) -> str:
    """``text`` with its control characters written as escapes; newlines stay, a tab becomes spaces."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match.group())
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _UNPRINTABLE.sub(escape, text.expandtabs(4).replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The one line that ``text`` leaves on a terminal: after its last carriage return, nothing escaped away."""
    shown = [part for part in re.split(r"[\r\n]+", text) if part.strip()]
    return printable(shown[-1]).strip() if shown else ""


def duration(seconds: float) -> str:
    """``1.2 s``, ``42 s``, ``2 min 05 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def size(number: float) -> str:
    """A number of bytes for people: ``812 B``, ``12.3 KiB``, ``1.0 GiB``."""
    if number < 1024:
        return f"{round(number)} B"
    amount = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def amount(done: float, total: float | None, unit: str) -> str:
    """``3 of 12 steps``, ``1.2 MiB of 40.0 MiB``; nothing where nothing is known."""
    if not total:
        return size(done) if done and unit == "B" else ""
    if unit == "B":
        return f"{size(done)} of {size(total)}"
    return f"{done:g} of {total:g} {unit}".rstrip()
