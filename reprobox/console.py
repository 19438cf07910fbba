"""Words, tables and progress on the terminal: progress to stderr, data to stdout.

Text that comes from outside (a program's lines, a file's name) is printed as text: it is no markup, its control
characters are escaped, and in GitHub Actions it is no workflow command.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from reprobox.errors import ReproboxError

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

LONG = 5.0
"""Seconds after which a step names itself where no progress bar can move."""

_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but the newline, and those that reverse or break a line unseen."""


class Step:
    """One piece of long work that is under way."""

    def say(self, detail: str) -> None:
        """Name what is being done right now."""

    def advance(self, done: int, total: int | None) -> None:
        """Say how far it is, in units of the work (bytes, packages); ``total`` where it is known."""


class Console:
    """Where the verbs speak. The base class is silent."""

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Work with a beginning and an end: ``with console.step("Resolving packages") as step: ...``"""
        yield Step()

    def note(self, text: str) -> None:
        """A line that a user wants to read."""

    def warn(self, text: str) -> None:
        """A line that a user must read."""


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


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to ``stream``: a terminal, and NO_COLOR unset or empty."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


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


def make(*, quiet: bool, verbose: bool) -> Console:
    """The console of this process, on stderr.

    A terminal gets spinners and bars; anything else plain lines, in groups where GitHub Actions reads them.
    ``quiet`` leaves warnings only; ``verbose`` prints every detail of every step.
    """
    stream = sys.stderr
    if not quiet and is_terminal(stream):
        return _Terminal(stream, verbose=verbose)
    return _Lines(stream, quiet=quiet, verbose=verbose, groups=_in_github_actions())


def error(exception: ReproboxError) -> None:
    """Print what went wrong and what to do, on stderr."""
    stream = sys.stderr
    _labelled(stream, "error:", exception.message, "1;31")
    if exception.hint:
        _labelled(stream, "hint:", exception.hint, "1")


def _in_github_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _labelled(stream: TextIO, label: str, text: str, style: str) -> None:
    if has_colour(stream):
        label = f"\x1b[{style}m{label}\x1b[0m"
    _print(stream, f"{label} {printable(text)}")


def _print(stream: TextIO, text: str) -> None:
    """One write, so that lines of several threads stay whole; inert where GitHub Actions would obey a line."""
    if _in_github_actions():
        text = "\n".join(map(_inert, text.split("\n")))
    _raw(stream, text)


def _raw(stream: TextIO, text: str) -> None:
    with suppress(OSError):  # nobody listens any more: no reason to stop
        stream.write(text + "\n")
        stream.flush()


def _inert(line: str) -> str:
    return ("| " + line if line.lstrip().startswith("::") else line).replace("##[", "## [")


class _Lines(Console):
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO, *, quiet: bool, verbose: bool, groups: bool) -> None:
        self._stream = stream
        self._quiet, self._verbose, self._groups = quiet, verbose, groups
        self._marks = marks(stream)
        self._depth = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        if self._quiet:
            yield Step()
            return
        title = one_line(title)
        grouped = self._groups and self._depth == 0  # GitHub Actions knows no group in a group
        reminder = threading.Timer(LONG, _print, (self._stream, f"{title} ..."))
        reminder.daemon = True
        if grouped:
            _raw(self._stream, f"::group::{title}")
        elif not self._verbose:
            reminder.start()
        self._depth += 1
        began, mark = time.monotonic(), self._marks.failed
        try:
            yield _LineStep(self._stream, shown=self._verbose or self._groups)
            mark = self._marks.passed
        finally:
            self._depth -= 1
            reminder.cancel()
            if grouped:
                _raw(self._stream, "::endgroup::")
            _print(self._stream, f"{mark} {title}  {duration(time.monotonic() - began)}")

    def note(self, text: str) -> None:
        if not self._quiet:
            _print(self._stream, printable(text))

    def warn(self, text: str) -> None:
        _print(self._stream, f"warning: {printable(text)}")


class _LineStep(Step):
    def __init__(self, stream: TextIO, *, shown: bool) -> None:
        self._stream, self._shown = stream, shown
        self._last = ""

    def say(self, detail: str) -> None:
        line = one_line(detail)
        if self._shown and line and line != self._last:
            self._last = line
            _print(self._stream, f"  {line}")


class _Terminal(Console):
    """A spinner, a bar and the elapsed time for each step that is under way; finished ones stay as one line."""

    def __init__(self, stream: TextIO, *, verbose: bool) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415  (late: rich costs 0.1 s)

        self._marks = marks(stream)
        self._verbose = verbose
        self._rich: RichConsole = RichConsole(
            file=stream,
            force_terminal=True,
            no_color=not has_colour(stream),
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._progress: Progress | None = None
        self._depth = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        title = one_line(title)
        if self._progress is None:
            self._progress = _progress(self._rich, self._marks)
            self._progress.start()
        progress = self._progress
        task = progress.add_task(title, total=None, detail="")
        self._depth += 1
        began, mark, style = time.monotonic(), self._marks.failed, "red"
        try:
            yield _TerminalStep(self, progress, task)
            mark, style = self._marks.passed, "green"
        finally:
            self._depth -= 1
            progress.remove_task(task)
            if self._depth == 0:
                progress.stop()
                self._progress = None
            self._line(f"{mark} ", style, f"{title}  {duration(time.monotonic() - began)}")

    def note(self, text: str) -> None:
        self._line("", "", printable(text))

    def warn(self, text: str) -> None:
        self._line("warning: ", "bold yellow", printable(text))

    def detail(self, line: str) -> None:
        """A line that only a curious user wants to read."""
        if self._verbose:
            self._line("  ", "", line, "dim")

    def _line(self, label: str, label_style: str, text: str, style: str = "") -> None:
        from rich.text import Text  # noqa: PLC0415

        self._rich.print(Text.assemble((label, label_style), (text, style)), soft_wrap=True)


class _TerminalStep(Step):
    def __init__(self, console: _Terminal, progress: Progress, task: TaskID) -> None:
        self._console, self._progress, self._task = console, progress, task

    def say(self, detail: str) -> None:
        line = one_line(detail)
        if line:
            self._progress.update(self._task, detail=line)
            self._console.detail(line)

    def advance(self, done: int, total: int | None) -> None:
        self._progress.update(self._task, completed=done, total=total)


def _progress(console: RichConsole, marks: Marks) -> Progress:
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    class Bar(ProgressColumn):
        """A bar where the total is known, and nothing where it is not."""

        bar = BarColumn(bar_width=20)

        def render(self, task: Task) -> object:  # type: ignore[override]
            return self.bar.render(task) if task.total else Text("")

    return Progress(
        SpinnerColumn(marks.spinner),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        Bar(),
        TimeElapsedColumn(),
        TextColumn(
            "{task.fields[detail]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=False,  # what goes to stdout is data, and stays there
        redirect_stderr=False,
    )
