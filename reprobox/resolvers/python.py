"""Project -> the Python packages of its Lock, by uv: one wheel per package and platform, named by file and sha256."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobox.console import Console, Step
from reprobox.errors import InvalidInput, ReproboxError
from reprobox.model import Digest, LockedFile, LockedTool, Platform, Project
from reprobox.recipe import REQUIREMENTS_LOCK
from reprobox.resolvers import asked as asked_files
from reprobox.resolvers import pylock, pyproject
from reprobox.resolvers.asked import Asked, Kind
from reprobox.resolvers.indexes import index_environment
from reprobox.resolvers.pylock import LockedPackage, Selection, Target
from reprobox.resolvers.requirement_lines import Place
from reprobox.resolvers.solver import Solver, explain_failure, installed_version, lock_uv, solver


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """What may move: everything, the packages named, or (by default) nothing that still fits."""

    all: bool = False
    packages: frozenset[str] = frozenset()

    @property
    def nothing(self) -> bool:
        """Whether nothing is asked to move."""
        return not self.all and not self.packages


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment:
    """What was resolved.

    ``natives`` are lock files by name; ``inputs`` every file that was read, relative to the root; ``indexes``
    and ``find_links`` the package indexes and pages of links that the project's own files name, in order and
    without credentials.
    """

    natives: Mapping[str, bytes]
    inputs: tuple[LockedFile, ...]
    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    uv: LockedTool


def read_inputs(project: Project) -> tuple[LockedFile, ...]:
    """Every file that decides what is resolved, with its digest, sorted: what ``lock --check`` compares.

    Reads files only. Raises InvalidInput and Unlockable as ``resolve`` would for the same files.
    """
    return asked_files.read(project).inputs


def versions(lock: bytes, platform: Platform | None = None) -> dict[str, str]:
    """Name to version in a requirements.lock, on one platform or on any; what comes by URL or path is named
    by its wheel. Raises InvalidLock."""
    return {
        package.name: package.version
        for package in reversed(pylock.parse(lock))
        if platform is None or package.holds_on(platform)
    }


def wheels(lock: bytes) -> dict[str, frozenset[Digest]]:
    """The files that a requirements.lock names, each with the digests it may have. Raises InvalidLock."""
    return {
        name: frozenset(Digest(digest) for digest in package.hashes)
        for package in pylock.parse(lock)
        for name in package.files
    }


def local_wheels(lock: bytes) -> tuple[str, ...]:
    """The wheels of a requirements.lock that are files of the project, by path. Raises InvalidLock."""
    lines = (package.requirement for package in pylock.parse(lock))
    return tuple(line.removeprefix("./") for line in lines if line.startswith("./"))


# --- resolving --------------------------------------------------------------------------------


def resolve(
    project: Project,
    *,
    previous: bytes | None,
    upgrade: Upgrade,
    console: Console,
    uv_version: str | None = None,
) -> PythonEnvironment:
    """Resolve the project's Python packages for its platforms.

    ``previous`` is the requirements.lock so far: what it holds is kept where it still fits, unless ``upgrade``
    names it. ``uv_version`` is the uv for the image, the installed one by default. Raises InvalidInput,
    Unlockable, ResolutionFailed, HashMismatch, InvalidLock and ProgramMissing.
    """
    asked = asked_files.read(project)
    before = _before(project, asked.kind, previous, upgrade)
    _say_what_is_exposed(asked, console)
    _require_variables(asked)
    with (
        console.step("Resolving Python packages") as step,
        solver(console, secrets=asked.secrets) as uv,
    ):
        work = _Work(project=project, asked=asked, uv=uv, before=before, upgrade=upgrade)
        selections = work.selections(step)
        step.say("uv itself")
        tool = lock_uv(uv, uv_version or installed_version(), project.python, _platforms(project))
    if asked.requirements and asked.requirements.empty:
        console.note(f"{project.environment.path} names no packages: the environment holds Python alone")
    if any(selection.own_project for selection in selections.values()) or asked.kind is Kind.PYPROJECT:
        _say_own_project(project, asked, console)
    lock = pylock.render(selections)
    _say_what_changed_in_place(before, lock, upgrade, console)
    return PythonEnvironment(
        natives={REQUIREMENTS_LOCK: lock},
        inputs=asked.inputs,
        indexes=asked.indexes,
        find_links=asked.find_links,
        uv=tool,
    )


def _platforms(project: Project) -> list[Platform]:
    return sorted(set(project.platforms), key=lambda platform: platform.value)


def _before(project: Project, kind: Kind, previous: bytes | None, upgrade: Upgrade) -> tuple[LockedPackage, ...]:
    """What the lock holds so far. Raises InvalidInput where what is to be upgraded is not in it."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    path = project.environment.path
    if not upgrade.nothing and kind in {Kind.UV_LOCK, Kind.PYLOCK}:
        raise InvalidInput(
            f"nothing to upgrade: {path} says which versions are used",
            hint="run `uv lock --upgrade`, then `reprobox lock`" if kind is Kind.UV_LOCK else f"make {path} anew",
        )
    if upgrade.all:
        return ()
    packages = pylock.parse(previous) if previous is not None else ()
    names = {package.name for package in packages if package.name}
    for asked in sorted(upgrade.packages):
        if canonicalize_name(asked) not in names:
            near = difflib.get_close_matches(canonicalize_name(asked), sorted(names), 1)
            holds = "the lock does not hold it" if previous is not None else "there is no lock yet"
            raise InvalidInput(
                f"cannot upgrade {asked}: {holds}",
                hint=f"do you mean {near[0]}?" if near else "run `reprobox lock` without it",
            )
    return packages


def _require_variables(asked: Asked) -> None:
    for name, place in sorted((asked.requirements.variables if asked.requirements else {}).items()):
        if name not in os.environ:
            raise InvalidInput(f"{place}: the variable {name} is not set", hint=f"set {name} in the environment")


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One resolution: what is asked, with what, and what there was before."""

    project: Project
    asked: Asked
    uv: Solver
    before: tuple[LockedPackage, ...]
    upgrade: Upgrade

    def selections(self, step: Step) -> dict[Platform, Selection]:
        """The wheels for every platform, at the versions of the platform before it where they fit."""
        found: dict[Platform, Selection] = {}
        exported = self._exported()
        for platform in _platforms(self.project):
            step.say(platform.value)
            if exported is not None:
                folder = self.project.root / self.project.environment.path.parent
                found[platform] = self._select(exported, platform, folder)
            else:
                found[platform] = self._solve(platform, list(found.values()))
        return found

    def _select(self, resolved: Mapping[str, Any], platform: Platform, folder: Path) -> Selection:
        return pylock.select(
            resolved,
            Target(root=self.project.root, folder=folder, python=self.project.python, platform=platform),
            extras=self.project.environment.extras if self.asked.kind is Kind.PYLOCK else (),
            groups=self._groups(resolved),
            allowed=self.asked.requirements.hashes if self.asked.requirements else None,
            kept={
                (package.name, package.version): package.hashes for package in self.before if package.holds_on(platform)
            },
        )

    def _solve(self, platform: Platform, others: list[Selection]) -> Selection:
        """Solve for a platform: as the lock has it, where it has everything; else at the versions of the
        platforms solved already; else with both as preferences.

        uv's preferences alone would not do: with several indexes they can turn a version away that only the
        second index has for this platform.
        """
        arguments, cwd = self._sources()
        held = self._held(platform)
        if held and self.upgrade.nothing:
            resolved = self._at(held, platform, arguments, cwd)
            if resolved and _versions(resolved).items() <= held.items():
                return self._select(resolved, platform, self.uv.folder)
        preferred = {name: version for name, version in held.items() if name not in self._moving}
        if others:
            first = self._held(_platforms(self.project)[0])
            for name, version in (pair for other in others for pair in _index_versions(other)):
                if first.get(name) != version or name not in preferred:
                    preferred[name] = version
            if resolved := self._at(preferred, platform, arguments, cwd):
                return self._select(resolved, platform, self.uv.folder)
        resolved = self.uv.compile(
            [*arguments, *([] if others else self._upgrading())],
            python=self.project.python,
            platform=platform,
            cwd=cwd,
            preferences=preferred,
            explain=self._explain,
        )
        return self._select(resolved, platform, self.uv.folder)

    def _at(
        self, versions: Mapping[str, str], platform: Platform, arguments: list[str], cwd: Path
    ) -> dict[str, Any] | None:
        return self.uv.compile_at(
            versions, arguments, python=self.project.python, platform=platform, cwd=cwd, explain=self._explain
        )

    def _held(self, platform: Platform) -> dict[str, str]:
        """What the lock so far has from an index, name to version."""
        packages = (package for package in self.before if not package.direct and package.holds_on(platform))
        return {package.name: package.version for package in packages}

    def _upgrading(self) -> list[str]:
        arguments = ["--upgrade"] if self.upgrade.all else []
        for name in sorted(self._moving):
            arguments += ["--upgrade-package", name]
        return arguments

    @property
    def _moving(self) -> frozenset[str]:
        from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

        return frozenset(canonicalize_name(name) for name in self.upgrade.packages)

    def _groups(self, resolved: Mapping[str, Any]) -> tuple[str, ...]:
        if self.asked.kind is not Kind.PYLOCK:
            return ()
        return (*resolved.get("default-groups", []), *self.project.environment.groups)

    # where the pylock comes from

    def _exported(self) -> dict[str, Any] | None:
        """The pylock of a project that has its versions already; None where they are to be solved."""
        if self.asked.kind is Kind.PYLOCK:
            return _read_pylock(self.project)
        return self._export_uv_lock() if self.asked.kind is Kind.UV_LOCK else None

    def _sources(self) -> tuple[list[str], Path]:
        """uv's arguments that name what is asked, and the folder to run it in."""
        path, root = self.project.environment.path, self.project.root
        asked = self.asked.requirements
        newer = ["--exclude-newer", self.project.exclude_newer] if self.project.exclude_newer else []
        if asked is None:
            arguments = [path.name]
            for extra in sorted(self.project.environment.extras):
                arguments += ["--extra", extra]
            for group in sorted(self.project.environment.groups):
                arguments += ["--group", group]
            return [*arguments, *newer], root / path.parent
        source = self.uv.folder / "requirements.in"
        source.write_text(asked.text, encoding="utf-8")
        arguments = [str(source)]
        if constraints := asked.constraints:
            (self.uv.folder / "constraints.in").write_text(constraints, encoding="utf-8")
            arguments += ["--constraints", str(self.uv.folder / "constraints.in")]
        arguments += ["--prerelease", "allow"] if asked.pre else []
        arguments += ["--only-binary", ":all:"] if asked.prefer_binary else []
        for host in asked.trusted_hosts:
            arguments += ["--allow-insecure-host", host]
        return [*arguments, *newer], root

    def _explain(self, words: str) -> ReproboxError:
        path = self.project.environment.path
        words = words.replace(str(self.uv.folder / "requirements.in"), str(path))
        words = words.replace(f"{self.uv.folder}{os.sep}", "")
        return explain_failure(words, asked=f"the packages of {path}", places=self._places)

    def _places(self, name: str) -> tuple[Place, ...]:
        if self.asked.requirements:
            return self.asked.requirements.places(name)
        toml = pyproject.read(self.project.root, self.project.environment.path)
        place = toml.place(f'"{name}')
        return (place,) if f'"{name}' in toml.text else ()

    def _export_uv_lock(self) -> dict[str, Any]:
        path, environment = self.project.environment.path, self.project.environment
        cwd = self.project.root / path.parent
        self._refuse_stale_uv_lock(cwd)
        arguments = ["export", "--frozen", "--format", "pylock.toml", "--no-emit-project", "--no-default-groups"]
        for extra in sorted(environment.extras):
            arguments += ["--extra", extra]
        for group in sorted(environment.groups):
            arguments += ["--group", group]
        finished = self.uv.run([*arguments, "--no-header", "--quiet", "--offline", "--no-python-downloads"], cwd=cwd)
        if finished.code != 0:
            raise explain_failure(self.uv.words(finished), asked=f"the packages of {path}")
        exported = tomllib.loads(finished.text)
        _check_requires_python(exported, self.project)
        return exported

    def _refuse_stale_uv_lock(self, cwd: Path) -> None:
        """Raise InvalidInput where uv says that the lock is stale, with this machine's indexes and without them."""
        indexes = index_environment()
        without = {name: value for name, value in self.uv.environment.items() if name not in indexes}
        for environment in (self.uv.environment, without):
            finished = self.uv.run(
                ["lock", "--check", "--offline", "--quiet", "--no-python-downloads"], cwd=cwd, environment=environment
            )
            stale = (b"needs to be updated", b"No solution found")  # the second: it would have to be solved anew
            if finished.code == 0 or not any(words in finished.stderr for words in stale):
                return
        path = self.project.environment.path
        raise InvalidInput(
            f"{path} does not answer what {path.parent / 'pyproject.toml'} asks now", hint="run `uv lock`, then again"
        )


def _versions(resolved: Mapping[str, Any]) -> dict[str, str]:
    """What a pylock takes from an index, name to version."""
    direct = ("archive", "directory", "vcs")
    return {
        package["name"]: package["version"]
        for package in resolved.get("packages", [])
        if not any(source in package for source in direct)
    }


def _index_versions(selection: Selection) -> list[tuple[str, str]]:
    return [(wheel.name, wheel.version) for wheel in selection.wheels if wheel.url is None and wheel.path is None]


def _read_pylock(project: Project) -> dict[str, Any]:
    """A pylock that the user names, checked. Raises InvalidInput."""
    from packaging.pylock import Pylock, PylockValidationError  # noqa: PLC0415 (slow to import)

    path = project.environment.path
    toml = pyproject.read(project.root, path)
    try:
        Pylock.from_dict(toml.data)
    except PylockValidationError as error:
        raise InvalidInput(f"{path} is not a valid pylock: {error}", hint="make it anew") from error
    lists = {
        "extra": (project.environment.extras, "extras"),
        "group": (project.environment.groups, "dependency-groups"),
    }
    for kind, (wanted, key) in lists.items():
        known = toml.data.get(key) or []
        for name in wanted:
            if name not in known:
                raise InvalidInput(
                    f"{path} has no {kind} {name}; it has {', '.join(sorted(known)) or 'none'}",
                    hint=f"correct environment: {kind}s in reprobox.yaml",
                )
    _check_requires_python(toml.data, project)
    return toml.data


def _check_requires_python(lock: Mapping[str, Any], project: Project) -> None:
    asked = lock.get("requires-python")
    if isinstance(asked, str) and not pyproject.allows(asked, project.python, str(project.environment.path)):
        raise InvalidInput(
            f"{project.environment.path} requires Python {asked}, reprobox.yaml asks for {project.python}",
            hint="change python: in reprobox.yaml",
        )


# --- what the user should know ----------------------------------------------------------------


def _say_what_is_exposed(asked: Asked, console: Console) -> None:
    places = [*(asked.requirements.exposed if asked.requirements else ()), *asked.settings.exposed]
    for place in sorted(set(places)):
        console.warn(
            f"{place} holds credentials, and the project's files are in the image: "
            "use a variable (${TOKEN}), ~/.netrc or UV_INDEX_URL"
        )


def _say_own_project(project: Project, asked: Asked, console: Console) -> None:
    if asked.kind is Kind.PYPROJECT:
        toml = pyproject.read(project.root, project.environment.path)
        if not toml.table("build-system"):
            return
    console.note(
        "the project itself is not installed as a package: its requirements are, and its files are in the image"
    )


def _say_what_changed_in_place(
    before: tuple[LockedPackage, ...], lock: bytes, upgrade: Upgrade, console: Console
) -> None:
    """Warn of a URL, path or version that is as before and has other bytes: nobody asked for that."""
    now = {package.requirement: package for package in pylock.parse(lock)}
    for package in before:
        found = now.get(package.requirement)
        if found and not found.hashes & package.hashes and package.name not in upgrade.packages:
            console.warn(f"{package.requirement} has other bytes than the lock held before: its file was replaced")
