"""A project's folder -> its findings: reads the folder once, then asks every rule."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reprobox import config, lockfile, tree
from reprobox.credentials import redact
from reprobox.errors import InvalidInput
from reprobox.lint import code, cuda, machine, network, project_files, reach, recipes, requirements, sources, wishes
from reprobox.lint.code import Code
from reprobox.lint.findings import Finding, Severity
from reprobox.lint.sources import Folder, Source, is_shell, kind
from reprobox.model import Project
from reprobox.survey import notebook

_TESTS = re.compile(
    r"(?:^|/)(?:tests?|testing|docs?)/|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest|setup|noxfile|tasks)\.py$"
)
_PREPARES = re.compile(r"(?:^|[-_/])(?:download|fetch|get|install|prepare|setup|bootstrap)(?:[-_.]|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found, sorted by file and line; how many files were looked at; what could not be read, and why."""

    findings: tuple[Finding, ...]
    files: int
    unread: tuple[tuple[str, str], ...] = ()

    def exit_code(self, *, strict: bool) -> int:
        """1 where there is an error, or with ``strict`` anything at all."""
        return int(any(strict or finding.severity is Severity.ERROR for finding in self.findings))


def lint(root: Path, paths: Iterable[Path] = ()) -> Report:
    """The findings of a project's folder, or of those of its files that ``paths`` name.

    A folder without reprobox.yaml is read as it is. Raises InvalidConfig for a broken one, InvalidLock for a broken
    lock, InvalidInput for a path that is not there.
    """
    folder, wanted = sources.read(root, paths)
    found = _Lint(folder, _project(root)).findings()
    kept = list({_redacted(one) for one in found if PurePosixPath(one.file) in wanted and not _silenced(one, folder)})
    kept.sort(key=lambda one: (one.file, one.line or 0, one.rule, one.what))
    return Report(findings=tuple(kept), files=len(wanted), unread=folder.unread)


def _project(root: Path) -> Project | None:
    return config.load(root) if (root / config.CONFIG_FILE).exists() else None


def _redacted(finding: Finding) -> Finding:
    """A finding quotes files, and is read in public logs."""
    return dataclasses.replace(finding, what=redact(finding.what), todo=redact(finding.todo))


def _silenced(finding: Finding, folder: Folder) -> bool:
    return folder.by_path[PurePosixPath(finding.file)].silences(finding.rule, finding.line)


class _Lint:
    """One look at a folder."""

    def __init__(self, folder: Folder, project: Project | None) -> None:
        self.folder, self.project = folder, project
        self.unreadable: list[Finding] = []
        self.notebooks: dict[PurePosixPath, notebook.Notebook] = {}
        self.codes: dict[PurePosixPath, Code] = {}
        for source in folder.code:
            if source.data is not None and kind(source.path) in {"notebook", "python", "setup"}:
                self._parse(source)
        smoke = project.smoke if project else None
        commands = [smoke.command, smoke.control or ()] if smoke else []
        self.reached = frozenset[PurePosixPath]().union(
            *(reach.reached(command, folder, self.codes) for command in commands)
        )

    def _parse(self, source: Source) -> None:
        try:
            if kind(source.path) == "notebook":
                read = self.notebooks[source.path] = notebook.read(source.text, name=str(source.path))
                if read.language in {"", "python", "ipython"}:
                    self.codes[source.path] = code.parse_notebook(source, read.cells)
            elif source.name.endswith(".py"):
                self.codes[source.path] = code.parse(source)
        except InvalidInput as error:
            if not code.too_new(self.project.python if self.project else None):
                self.unreadable.append(requirements.unreadable(source, error))

    def runs(self, path: PurePosixPath) -> bool:
        """Whether a file is taken for a part of the experiment.

        Where reprobox.yaml names a command, what that reaches; else all code but tests and what prepares.
        """
        if self.reached:
            return path in self.reached
        return not _TESTS.search(str(path)) and not _PREPARES.search(path.name)

    def findings(self) -> Iterator[Finding]:
        folder, project = self.folder, self.project
        yield from (one for one in self.unreadable if self.runs(PurePosixPath(one.file)))
        yield from project_files.check(folder)
        locked: set[str] = set()
        if project:
            has_lock = (folder.root / lockfile.LOCK_FILE).exists()
            own = folder.find(PurePosixPath(config.CONFIG_FILE))
            yield from wishes.check(project, folder, text=own.text if own else "", has_lock=has_lock)
            # without a lock `not-locked` has said it
            locked = {file.name for file in lockfile.read(folder.root).inputs} if has_lock else set()
            locked.add(str(project.environment.path))
        environment = project.environment.path if project else None
        yield from requirements.check(folder, environment=environment, locked=frozenset(locked))
        for source in folder.code:
            if source.data is not None:
                yield from cuda.check(source)
                yield from self._recipe(source)
        yield from self._code()

    def _recipe(self, source: Source) -> Iterator[Finding]:
        try:
            if kind(source.path) == "dockerfile" and not _is_rendered(source):
                yield from recipes.check_dockerfile(source)
            elif kind(source.path) == "definition" and not _is_rendered(source):
                yield from recipes.check_definition(source)
            elif is_shell(source):
                yield from recipes.check_script(source, runs=self.runs(source.path))
        except InvalidInput as error:
            yield requirements.unreadable(source, error)

    def _code(self) -> Iterator[Finding]:
        smoke = self.project.smoke if self.project else None
        seeded = any(machine.seeds(self.codes[path]) for path in self.reached & self.codes.keys())
        entries = set(reach.named(smoke.command, self.folder)) if smoke else set()
        for path, parsed in self.codes.items():
            if self.runs(path):
                yield from network.fetches(parsed, self.folder, has_inputs=bool(smoke and smoke.inputs))
                yield from machine.host_paths(parsed)
            if path in entries:
                yield from machine.chance(parsed, seeded=seeded)
        for path, read in self.notebooks.items():
            if self.runs(path):
                yield from recipes.check_notebook_shell(self.folder.by_path[path], read.cells)


def _is_rendered(source: Source) -> bool:
    return tree.RENDERED_MARK in (source.data or b"").partition(b"\n")[0]
