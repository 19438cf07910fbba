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
        return [f"::error::{_data(exception.message)}"]
    place = _below_workspace(folder)
    lines = []
    for problem in exception.problems:
        file = "" if place is None else f" file={_property(str(place / exception.file))}"
        line = f",line={problem.line}" if file and problem.line else ""
        words = f"{problem.path}: {problem.message}" if problem.path else problem.message
        lines.append(f"::error{file}{line}::{_data(words + (f' ({problem.hint})' if problem.hint else ''))}")
    return lines


def _below_workspace(folder: Path | None) -> PurePosixPath | None:
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not workspace or folder is None or not folder.is_relative_to(Path(workspace).resolve()):
        return None
    return PurePosixPath(folder.relative_to(Path(workspace).resolve()))


def _data(text: str) -> str:
    """A workflow command's text (actions/toolkit, command.ts: escapeData)."""
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def write(stream: TextIO, text: str) -> None:
    """One write, so that lines of several threads stay whole; inert where GitHub Actions would obey a line."""
    if is_here():
        text = "\n".join(map(_inert, text.split("\n")))
    command(stream, text)


def command(stream: TextIO, text: str) -> None:
    with suppress(OSError):  # nobody listens any more: no reason to stop
        stream.write(text + "\n")
        stream.flush()


def _inert(line: str) -> str:
    return ("| " + line if line.lstrip().startswith("::") else line).replace("##[", "## [")
