"""GitHub Actions: lines that it obeys, and lines that it must not."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TextIO

from reprobox.console.words import printable
from reprobox.errors import InvalidConfig, ReproboxError


def is_here() -> bool:
    """Whether GitHub Actions reads what is said."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def errors(exception: ReproboxError, folder: Path | None) -> list[str]:
    """Errors as GitHub Actions shows them beside the code: one for each problem of a config."""
    if not isinstance(exception, InvalidConfig):
        return [annotation("error", exception.message)]
    lines = []
    for problem in exception.problems:
        words = f"{problem.path}: {problem.message}" if problem.path else problem.message
        text = words + (f" ({problem.hint})" if problem.hint else "")
        lines.append(annotation("error", text, file=exception.file, line=problem.line, folder=folder))
    return lines


def annotation(
    severity: str,
    text: str,
    *,
    file: str | None = None,
    line: int | None = None,
    title: str | None = None,
    folder: Path | None = None,
) -> str:
    """The workflow command that shows ``text`` (``severity``: error or warning) beside a line of ``file``.

    ``file`` lies in ``folder``; it is left out, with its line, where that is outside of GitHub's checkout.
    """
    place = _below_workspace(folder)
    known = {
        "file": str(place / file) if place is not None and file else None,
        "line": str(line) if place is not None and file and line else None,
        "title": title,
    }
    properties = ",".join(f"{name}={_property(value)}" for name, value in known.items() if value)
    return f"::{severity}{' ' if properties else ''}{properties}::{_data(text)}"


def _below_workspace(folder: Path | None) -> PurePosixPath | None:
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not workspace or folder is None:
        return None
    here, top = folder.resolve(), Path(workspace).resolve()
    return PurePosixPath(here.relative_to(top)) if here.is_relative_to(top) else None


def _data(text: str) -> str:
    """A workflow command's text (actions/toolkit, command.ts: escapeData)."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def write(stream: TextIO, text: str) -> None:
    """One write, so that lines of several threads stay whole; inert where GitHub Actions would obey a line."""
    if is_here():
        text = "\n".join(map(inert, text.split("\n")))
    command(stream, text)


def command(stream: TextIO, text: str) -> None:
    with suppress(OSError):  # nobody listens any more: no reason to stop
        stream.write(text + "\n")
        stream.flush()


def inert(line: str) -> str:
    """A line that GitHub Actions does not obey."""
    return ("| " + line if line.lstrip().startswith("::") else line).replace("##[", "## [")
