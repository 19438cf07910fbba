"""Words, tables and progress on the terminal: progress to stderr, data to stdout.

Text that comes from outside (a program's lines, a file's name) is printed as text: it is no markup, its control
characters are escaped, and in GitHub Actions it is no workflow command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from reprobox.console import github
from reprobox.console.words import ASCII_MARKS, UNICODE_MARKS, Marks, duration, marks, one_line, printable, size
from reprobox.errors import ReproboxError

__all__ = [
    "ASCII_MARKS", "BRIEF", "UNICODE_MARKS", "Console", "Marks", "Step", "duration", "error", "has_colour",
    "is_terminal", "make", "marks", "one_line", "printable", "size",
]  # fmt: skip

BRIEF = 1.0
"""Seconds below which a brief step leaves no line."""


class Step:
    """One piece of long work that is under way; ``failed``: it came to its end, and not to its aim."""

    failed = False

    def say(self, detail: str) -> None:
        """Name what is being done right now; `-v` keeps it as a line."""

    def advance(self, done: float, total: float | None, *, unit: str = "", what: str = "") -> None:
        """Say how far it is; ``total`` where it is known. ``what`` is under way now, in fewer words than ``say``'s.

        ``unit`` is ``B`` for bytes, otherwise a word in the plural or nothing.
        """

    def limit(self, seconds: float) -> None:
        """Say when it will be stopped: the clock is its progress."""


class Console:
    """Where the verbs speak. The base class is silent."""

    @contextmanager
    def step(self, title: str, *, brief: bool = False) -> Iterator[Step]:
        """Work with a beginning and an end: ``with console.step("Resolving packages") as step: ...``

        A ``brief`` one leaves a line only where it failed or took a second.
        """
        yield Step()

    def note(self, text: str) -> None:
        """A line that a user wants to read."""

    def warn(self, text: str) -> None:
        """A line that a user must read."""


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to ``stream``: a terminal, and NO_COLOR unset or empty."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def make(*, quiet: bool, verbose: bool) -> Console:
    """The console of this process, on stderr.

    A terminal gets spinners and bars; anything else plain lines, in groups where GitHub Actions reads them.
    ``quiet`` leaves warnings only; ``verbose`` prints every detail of every step.
    """
    stream = sys.stderr
    if not quiet and is_terminal(stream):
        from reprobox.console.bars import Bars  # noqa: PLC0415 (slow to import)

        return Bars(stream, verbose=verbose)
    from reprobox.console.lines import Lines  # noqa: PLC0415 (it is built upon this module)

    return Lines(stream, quiet=quiet, verbose=verbose, groups=github.is_here())


def error(exception: ReproboxError, *, folder: Path | None = None) -> None:
    """Print what went wrong and what to do, on stderr; ``folder`` is the project's, for GitHub Actions' annotations."""
    stream = sys.stderr
    if github.is_here():
        for line in github.errors(exception, folder):
            github.command(stream, line)
    else:
        _labelled(stream, "error:", exception.message, "1;31")
    if exception.hint:
        _labelled(stream, "hint:", exception.hint, "1")


def _labelled(stream: TextIO, label: str, text: str, style: str) -> None:
    if has_colour(stream):
        label = f"\x1b[{style}m{label}\x1b[0m"
    github.write(stream, f"{label} {printable(text)}")
