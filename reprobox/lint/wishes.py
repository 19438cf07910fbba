"""reprobox.yaml: what is valid there, and still stands in the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from reprobox import determinism
from reprobox.config import CONFIG_FILE
from reprobox.errors import ReproboxError
from reprobox.lint.findings import Finding
from reprobox.lint.reach import named
from reprobox.lint.sources import Folder
from reprobox.model import Project

_OURS = frozenset({"HOME", "PATH"})


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
    yield from _outputs(project, folder, text)


def _variables(project: Project, text: str) -> Iterator[Finding]:
    try:
        pinned = determinism.variables(
            project.determinism, packages={}, platform=project.platforms[0], cpus=1, env={}, epoch=project.epoch
        )
    except ReproboxError:
        pinned = {}  # `lock` says that this profile cannot be kept here
    for name, value in project.env.items():
        if name in _OURS:
            yield _finding(
                "env-override", text, f"{name}:", f"`env` replaces {name}, which the image sets", "leave it out"
            )
        elif name in pinned and pinned[name] != value:
            yield _finding(
                "env-override",
                text,
                f"{name}:",
                f"`env` sets {name} to {value}, and `determinism: {project.determinism.value}` to {pinned[name]}",
                "leave it out, unless the experiment needs it",
            )


def _outputs(project: Project, folder: Folder, text: str) -> Iterator[Finding]:
    if project.smoke is None:
        return
    sources: dict[PurePosixPath, str] = {project.environment.path: "the environment file"}
    for command in (project.smoke.control or (), project.smoke.command):
        sources |= dict.fromkeys(named(command, folder), "the command's own script")
    for output in project.smoke.outputs:
        for path, role in sources.items():
            if output.path == path or output.path in path.parents:
                inside = "is" if output.path == path else "holds"
                yield _finding(
                    "output-is-source",
                    text,
                    str(output.path),
                    f"the output {output.path} {inside} {role}",
                    "outputs are removed before the command starts: name what it writes",
                )


def _finding(rule: str, text: str, key: str, what: str, todo: str) -> Finding:
    """A finding at the last line that begins with a key or list item (outputs stand below what they may equal)."""
    lines = [
        number
        for number, line in enumerate(text.split("\n"), 1)
        if re.search(rf"(?:^|[\s{{,\[\"'-]){re.escape(key)}", line)
    ]
    last = rule == "output-is-source"
    line = (lines[-1] if last else lines[0]) if lines else None
    return Finding(rule=rule, file=CONFIG_FILE, line=line, what=what, todo=todo)
