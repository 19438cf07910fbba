"""Words, tables and progress on the terminal: progress to stderr, data to stdout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
