"""reprobox.yaml: what is valid there, and still stands in the way."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprobox import determinism
from reprobox.config import CONFIG_FILE
from reprobox.errors import ReproboxError
from reprobox.lint.findings import Finding
from reprobox.lint.sources import Folder
from reprobox.model import Project


def check(project: Project, folder: Folder, *, text: str, has_lock: bool) -> Iterator[Finding]:
    """The findings of a project's own wishes; ``text`` is that of reprobox.yaml."""
    if not has_lock:
        yield _finding(
            "not-locked",
            text,
            "environment:",
            "there is no reprobox.lock: every build may differ",
            "run `reprobox lock`, and commit what it writes",
        )
    if not folder.git:
        yield _finding(
            "no-git",
            text,
            "name:",
            f"there is no git here: every file of {folder.root.name} goes into the image",
            "`git init`, and `git add` the project's files",
        )
    yield from _variables(project, text)


def _variables(project: Project, text: str) -> Iterator[Finding]:
    try:
        pinned = determinism.variables(
            project.determinism, packages={}, platform=project.platforms[0], cpus=1, env={}, epoch=project.epoch
        )
    except ReproboxError:
        pinned = {}  # `lock` says that this profile cannot be kept here
    for name, value in project.env.items():
        if name in pinned and pinned[name] != value:
            yield _finding(
                "env-override",
                text,
                f"{name}:",
                f"`env` sets {name} to {value}, and `determinism: {project.determinism.value}` to {pinned[name]}",
                "leave it out, unless the experiment needs it",
            )


def _finding(rule: str, text: str, key: str, what: str, todo: str) -> Finding:
    """A finding at the first line that begins with a key or list item."""
    line = next(
        (
            number
            for number, line in enumerate(text.split("\n"), 1)
            if re.search(rf"(?:^|[\s{{,\[\"'-]){re.escape(key)}", line)
        ),
        None,
    )
    return Finding(rule=rule, file=CONFIG_FILE, line=line, what=what, todo=todo)
