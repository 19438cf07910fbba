"""A terminal: spinners and bars while the work goes on, one line for each step that is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from reprobox.console import BRIEF, Console, Step, has_colour, words

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID


class Bars(Console):
    """A spinner, a bar and the elapsed time for each step that is under way; finished ones stay as one line."""

    def __init__(self, stream: TextIO, *, verbose: bool) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415  (late: rich costs 0.1 s)

        self._marks = words.marks(stream)
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
    def step(self, title: str, *, brief: bool = False) -> Iterator[Step]:
        title = words.one_line(title)
        if self._progress is None:
            self._progress = _progress(self._rich, self._marks)
            self._progress.start()
        progress = self._progress
        task = progress.add_task(title, total=None, detail="", amount="", clock=False)
        self._depth += 1
        began, mark, style = time.monotonic(), self._marks.failed, "red"
        try:
            step = _BarStep(self, progress, task)
            yield step
            if not step.failed:
                mark, style = self._marks.passed, "green"
        finally:
            self._depth -= 1
            progress.remove_task(task)
            if self._depth == 0:
                progress.stop()
                self._progress = None
            seconds = time.monotonic() - began
            if not (brief and style == "green" and seconds < BRIEF):
                self._line(f"{mark} ", style, f"{title}  {words.duration(seconds)}")

    def note(self, text: str) -> None:
        self._line("", "", words.printable(text))

    def warn(self, text: str) -> None:
        self._line("warning: ", "bold yellow", words.printable(text))

    def detail(self, line: str) -> None:
        """A line that only a curious user wants to read."""
        if self._verbose:
            self._line("  ", "", line, "dim")

    def _line(self, label: str, label_style: str, text: str, style: str = "") -> None:
        from rich.text import Text  # noqa: PLC0415

        self._rich.print(Text.assemble((label, label_style), (text, style)), soft_wrap=True)


class _BarStep(Step):
    def __init__(self, console: Bars, progress: Progress, task: TaskID) -> None:
        self._console, self._progress, self._task = console, progress, task

    def say(self, detail: str) -> None:
        line = words.one_line(detail)
        if line:
            self._progress.update(self._task, detail=line)
            self._console.detail(line)

    def advance(self, done: float, total: float | None, *, unit: str = "", what: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, amount=words.amount(done, total, unit))
        if shown := words.one_line(what):
            self._progress.update(self._task, detail=shown)

    def limit(self, seconds: float) -> None:
        self._progress.update(self._task, total=seconds, clock=True, amount=f"of {words.duration(seconds)}")


def _progress(console: RichConsole, marks: words.Marks) -> Progress:
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
        """A bar where the total is known, and nothing where it is not; the clock's, where that is the total."""

        bar = BarColumn(bar_width=20 if console.width >= 100 else 10)

        def render(self, task: Task) -> object:  # type: ignore[override]
            if task.fields["clock"]:
                task.completed = min(task.elapsed or 0, task.total or 0)
            return self.bar.render(task) if task.total else Text("")

    return Progress(
        SpinnerColumn(marks.spinner),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        Bar(),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
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
