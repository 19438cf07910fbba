"""One reprobox at a time in a project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reprobox import files
from reprobox.console import Console

OWN_CHECKOUT = "work in a checkout of your own; `build`, `run` and `verify` can do without writing into the project"
"""What to do where `lock` or `record` may not write."""


@contextmanager
def at_work(root: Path, console: Console, *, patient: bool = False) -> Iterator[Path]:
    """Be the only reprobox at work in this project; yields the state folder. Without ``patience`` raises Busy.

    Waits where the work only reads what a person commits; who writes it (lock, record) must not follow blindly.
    """
    say = (lambda other: console.note(f"waiting for {other} ...")) if patient else None
    with files.exclusive(root, waiting=say) as state:
        if state.parent != root:
            console.note(f"{root} cannot be written: this checkout's state is kept in {state}")
        yield state
