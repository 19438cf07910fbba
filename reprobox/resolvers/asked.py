"""Project -> what its own files ask of Python packages, without a solver: inputs, indexes, requirements."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from reprobox.credentials import passwords
from reprobox.errors import InvalidInput
from reprobox.model import LockedFile, Project
from reprobox.resolvers import pyproject, requirements
from reprobox.resolvers.requirement_checks import inside
from reprobox.resolvers.requirements import Requirements

_WHAT_WORKS = "requirements.in or .txt, pyproject.toml, uv.lock and pylock.toml work"
_OTHERS = {
    "environment.yml": "name its pip packages in a requirements.in",
    "environment.yaml": "name its pip packages in a requirements.in",
    "conda-lock.yml": "name its pip packages in a requirements.in",
    "conda-lock.yaml": "name its pip packages in a requirements.in",
    "pixi.toml": "name its pypi-dependencies in a requirements.in",
    "pixi.lock": "name its pypi packages in a requirements.in",
    "Pipfile": "write `pipenv requirements > requirements.txt`",
    "Pipfile.lock": "write `pipenv requirements > requirements.txt`",
    "poetry.lock": "write `poetry export -o requirements.txt`, or name the pyproject.toml",
    "pdm.lock": "write `pdm export -o requirements.txt`, or name the pyproject.toml",
    "setup.py": "write a requirements.in with the line -e .",
    "setup.cfg": "write a requirements.in with the line -e .",
}


class Kind(Enum):
    """What an environment file is, by its name."""

    REQUIREMENTS = "a requirements file"
    PYPROJECT = "pyproject.toml"
    UV_LOCK = "uv.lock"
    PYLOCK = "a pylock.toml"


def kind_of(path: PurePosixPath) -> Kind:
    """The kind of an environment file. Raises InvalidInput for those that are not supported."""
    if path.name == "pyproject.toml":
        return Kind.PYPROJECT
    if path.name == "uv.lock":
        return Kind.UV_LOCK
    if re.fullmatch(r"pylock\.([^.]+\.)?toml", path.name):
        return Kind.PYLOCK
    if path.name in _OTHERS:
        raise InvalidInput(f"{path} is not supported yet; {_WHAT_WORKS}", hint=_OTHERS[path.name])
    if path.suffix in {".txt", ".in", ".pip"}:
        return Kind.REQUIREMENTS
    raise InvalidInput(f"{path} is no environment file that reprobox knows; {_WHAT_WORKS}", hint="name one of these")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the project's own files say."""

    kind: Kind
    inputs: tuple[LockedFile, ...]
    settings: pyproject.Settings
    requirements: Requirements | None = None

    @property
    def indexes(self) -> tuple[str, ...]:
        named = self.requirements.indexes if self.requirements else ()
        return tuple(dict.fromkeys((*named, *self.settings.indexes)))

    @property
    def find_links(self) -> tuple[str, ...]:
        named = self.requirements.find_links_urls if self.requirements else ()
        return tuple(dict.fromkeys((*named, *self.settings.find_links_urls)))

    @property
    def secrets(self) -> Iterator[str]:
        """Passwords in the project's own files, and the values of the variables that these name."""
        if self.requirements:
            yield from (os.environ.get(name, "") for name in self.requirements.variables)
        for url in self._written:
            yield from passwords(url)

    @property
    def urls(self) -> Iterator[str]:
        """The indexes and pages that the project's files name, with credentials and the values of variables."""
        for url in self._written:
            yield re.sub(r"\$\{([A-Z0-9_]+)\}", lambda name: os.environ.get(name[1], ""), url)
        yield from self.settings.authorized

    @property
    def _written(self) -> list[str]:
        urls = [*self.settings.urls, *self.settings.pages]
        if self.requirements:
            urls += [*self.requirements.extra_index_urls, *self.requirements.find_links]
            urls += [self.requirements.index_url] if self.requirements.index_url else []
        return urls


def read(project: Project) -> Asked:
    path = project.environment.path
    kind = kind_of(path)
    inside(project.root, project.root / path, "environment", str(path))
    if (project.root / path).exists() and not (project.root / path).is_file():
        kind_of_thing = "a folder" if (project.root / path).is_dir() else "no regular file"
        raise InvalidInput(f"{path}, which environment: names, is {kind_of_thing}", hint="name a file")
    if kind in {Kind.REQUIREMENTS, Kind.PYLOCK} and not (project.root / path).is_file():
        raise InvalidInput(
            f"there is no {path}, which environment: names", hint="correct reprobox.yaml, or add the file"
        )
    if kind is Kind.REQUIREMENTS:
        return _read_requirements(project)
    if kind is Kind.PYLOCK:
        if project.exclude_newer:
            _refuse_exclude_newer(path)
        found = {file.name: file for file in pyproject.digests(project.root, [path])}
        if _holds_project(project.root, path):
            found |= {file.name: file for file in pyproject.inputs(project.root, PurePosixPath())}
        return Asked(kind=kind, inputs=_files(found, pyproject.Settings()), settings=pyproject.Settings())
    toml = pyproject.read(project.root, path.parent / "pyproject.toml")
    pyproject.check(toml, project.environment, project.python, solved=kind is Kind.UV_LOCK)
    settings = pyproject.uv_settings(project.root, path.parent)
    names = {file.name: file for file in pyproject.inputs(project.root, path.parent)}
    if kind is Kind.UV_LOCK:
        if project.exclude_newer:
            _refuse_exclude_newer(path)
        if not (project.root / path).is_file():
            raise InvalidInput(f"there is no {path}, which environment: names", hint="run `uv lock`")
        names |= {file.name: file for file in pyproject.digests(project.root, [path])}
    return Asked(kind=kind, inputs=_files(names, settings), settings=settings)


def _holds_project(root: Path, path: PurePosixPath) -> bool:
    """Whether a pylock names the project's own folder as a package."""
    packages = pyproject.read(root, path).data.get("packages")
    folders = (package.get("directory") for package in packages if isinstance(package, dict)) if packages else ()
    named = [folder["path"] for folder in folders if isinstance(folder, dict) and isinstance(folder.get("path"), str)]
    return any((root / path.parent / folder).resolve() == root.resolve() for folder in named)


def _read_requirements(project: Project) -> Asked:
    path = project.environment.path
    for kind, values in (("extras", project.environment.extras), ("groups", project.environment.groups)):
        if values:
            raise InvalidInput(
                f"environment: {kind} ({', '.join(values)}) mean nothing for {path}, a requirements file",
                hint=f"remove {kind}, or name a pyproject.toml",
            )
    asked = requirements.read(project.root, path)
    root = PurePosixPath()
    settings = pyproject.uv_settings(project.root, root)
    names = {file.name: file for file in asked.inputs}
    if asked.own_project:
        names |= {file.name: file for file in pyproject.inputs(project.root, root)}
        if (project.root / "pyproject.toml").is_file():
            toml = pyproject.read(project.root, root / "pyproject.toml")
            pyproject.check(toml, project.environment, project.python)
    return Asked(kind=Kind.REQUIREMENTS, inputs=_files(names, settings), settings=settings, requirements=asked)


def _files(names: dict[str, LockedFile], settings: pyproject.Settings) -> tuple[LockedFile, ...]:
    if settings.file:
        names |= {settings.file.name: settings.file}
    return tuple(names[name] for name in sorted(names))


def _refuse_exclude_newer(path: PurePosixPath) -> None:
    raise InvalidInput(
        f"exclude-newer cannot be applied to {path}, which is resolved already",
        hint="remove exclude-newer from reprobox.yaml, or name the file that was resolved",
    )
