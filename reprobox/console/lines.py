"""Plain lines, for logs and pipes: no colour, nothing moves, and no long silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from reprobox.console import BRIEF, Console, Step, github, words

LONG = 5.0
"""Seconds after which a step names itself where no progress bar can move."""
BEAT = 30.0
"""Seconds after which it says again that it is still at work, and how far it is."""


class Lines(Console):
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: TextIO, *, quiet: bool, verbose: bool, groups: bool) -> None:
        self._stream = stream
        self._quiet, self._verbose, self._groups = quiet, verbose, groups
        self._marks = words.marks(stream)
        self._depth = 0

    @contextmanager
    def step(self, title: str, *, brief: bool = False) -> Iterator[Step]:
        if self._quiet:
            yield Step()
            return
        title = words.one_line(title)
        grouped = self._groups and self._depth == 0 and not brief  # GitHub Actions knows no group in a group
        if grouped:
            github.command(self._stream, f"::group::{title}")
        self._depth += 1
        began, mark = time.monotonic(), self._marks.failed
        step = _LineStep(self._stream, title, shown=self._verbose or self._groups)
        try:
            with step.heart(first=BEAT if grouped else LONG):
                yield step
            mark = self._marks.failed if step.failed else self._marks.passed
        finally:
            self._depth -= 1
            if grouped:
                github.command(self._stream, "::endgroup::")
            seconds = time.monotonic() - began
            if not (brief and mark == self._marks.passed and seconds < BRIEF):
                github.write(self._stream, f"{mark} {title}  {words.duration(seconds)}")

    def note(self, text: str) -> None:
        if not self._quiet:
            github.write(self._stream, words.printable(text))

    def warn(self, text: str) -> None:
        github.write(self._stream, f"warning: {words.printable(text)}")


class _LineStep(Step):
    """Its details as lines, where they are ``shown``; else a line after five seconds and then twice a minute."""

    def __init__(self, stream: TextIO, title: str, *, shown: bool) -> None:
        self._stream, self._title, self._shown = stream, title, shown
        self._last = self._amount = self._what = self._until = ""
        self._began = self._spoke = time.monotonic()

    @contextmanager
    def heart(self, *, first: float) -> Iterator[None]:
        """Beat while the block runs: after ``first`` seconds, and then as often as nothing else was said."""
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended, first), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, ended: threading.Event, pause: float) -> None:
        while not ended.wait(max(0.0, self._spoke + pause - time.monotonic())):
            if time.monotonic() >= self._spoke + pause:
                self._print(f"{self._title} ...{self._state()}")
                pause = BEAT

    def _state(self) -> str:
        seconds = time.monotonic() - self._began
        known = [words.duration(seconds) + self._until, self._amount, self._what or self._last]
        return "  " + ", ".join(filter(None, known)) if seconds > 2 * LONG else ""

    def _print(self, line: str) -> None:
        self._spoke = time.monotonic()
        github.write(self._stream, line)

    def say(self, detail: str) -> None:
        line = words.one_line(detail)
        if line and line != self._last:
            self._last = line
            if self._shown:
                self._print(f"  {line}")

    def advance(self, done: float, total: float | None, *, unit: str = "", what: str = "") -> None:
        self._amount, self._what = words.amount(done, total, unit), words.one_line(what)

    def limit(self, seconds: float) -> None:
        self._until = f" of at most {words.duration(seconds)}"
