"""Project -> the Python packages of its Lock, by uv: one file per package and platform, named with its sha256."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from reprobox.console import Console, Step
from reprobox.errors import InvalidInput, ReproboxError
from reprobox.model import Digest, LockedFile, LockedTool, Platform, Project
from reprobox.recipe import BUILD_REQUIREMENTS_LOCK, REQUIREMENTS_LOCK, SDISTS_LOCK
from reprobox.resolvers import asked as asked_files
from reprobox.resolvers import pylock, pyproject, sources
from reprobox.resolvers.asked import Asked, Kind
from reprobox.resolvers.indexes import index_environment
from reprobox.resolvers.pylock import LockedPackage, Selection, Target
from reprobox.resolvers.questions import Question
from reprobox.resolvers.questions import Upgrade as Upgrade  # noqa: PLC0414 (the verbs know it from here)
from reprobox.resolvers.requirement_lines import Place
from reprobox.resolvers.solver import Solver, explain_failure, installed_version, lock_uv, solver
from reprobox.resolvers.sources import Source


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment:
    """What was resolved.

    ``natives`` are lock files by name; ``inputs`` every file that was read, relative to the root; ``indexes``
    and ``find_links`` the package indexes and pages of links that the project's own files name, in order and
    without credentials; ``own_package`` the folder of the project that is itself a package of the environment.
    """

    natives: Mapping[str, bytes]
    inputs: tuple[LockedFile, ...]
    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    uv: LockedTool
    own_package: PurePosixPath | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Name to version of what is installed, on any platform."""
        return versions(self.natives)


def read_inputs(project: Project) -> tuple[LockedFile, ...]:
    """Every file that decides what is resolved, with its digest, sorted: what ``lock --check`` compares.

    Reads files only. Raises InvalidInput and Unlockable as ``resolve`` would for the same files.
    """
    return asked_files.read(project).inputs


# --- the lock files ---------------------------------------------------------------------------


def versions(natives: Mapping[str, bytes], platform: Platform | None = None) -> dict[str, str]:
    """Name to version in the lock files of an environment, on one platform or on any; what comes by URL or path is
    named by its file. Raises InvalidLock."""
    return {
        package.name: package.version
        for package in reversed(_installed(natives))
        if platform is None or package.holds_on(platform)
    }


def files(natives: Mapping[str, bytes]) -> dict[str, frozenset[Digest]]:
    """The files that the lock files name, each with the digests it may have. Raises InvalidLock."""
    return {
        name: frozenset(Digest(digest) for digest in package.hashes)
        for lock in sorted(natives)
        for package in _read(natives, lock)
        for name in package.files
    }


def local_files(natives: Mapping[str, bytes], lock: str) -> tuple[str, ...]:
    """The files that the lock file ``lock`` names by their path in the project. Raises InvalidLock."""
    if b"\n./" not in natives.get(lock, b""):
        return ()  # the parser's imports are slow, and a build with nothing to do needs no more
    lines = (package.requirement for package in _read(natives, lock))
    return tuple(line.removeprefix("./") for line in lines if line.startswith("./"))


def has_sdists(natives: Mapping[str, bytes], platform: Platform) -> bool:
    """Whether packages are built from source there. Raises InvalidLock."""
    return any(package.holds_on(platform) for package in _read(natives, SDISTS_LOCK))


def _installed(natives: Mapping[str, bytes]) -> tuple[LockedPackage, ...]:
    return (*_read(natives, REQUIREMENTS_LOCK), *_read(natives, SDISTS_LOCK))


def _read(natives: Mapping[str, bytes], lock: str) -> tuple[LockedPackage, ...]:
    return pylock.parse(natives[lock], lock, sdists=lock == SDISTS_LOCK) if lock in natives else ()


# --- resolving --------------------------------------------------------------------------------


def resolve(
    project: Project,
    *,
    previous: Mapping[str, bytes],
    upgrade: Upgrade,
    console: Console,
    uv: LockedTool | None = None,
) -> PythonEnvironment:
    """Resolve the project's Python packages for its platforms, and what building some of them needs.

    ``previous`` are the lock files so far, by name: what they hold is kept where it still fits, unless ``upgrade``
    names it. ``uv`` is the uv for the image so far; without it, it becomes the installed one. Raises InvalidInput,
    Unlockable, ResolutionFailed, HashMismatch, InvalidLock and ProgramMissing.
    """
    asked = asked_files.read(project)
    before = _installed(previous)
    needed_before = _read(previous, BUILD_REQUIREMENTS_LOCK)
    _check_upgrade(project, asked.kind, upgrade, before, needed_before, first=not previous)
    _say_what_is_exposed(asked, console)
    _require_variables(asked)
    with (
        console.step("Resolving Python packages") as step,
        solver(console, secrets=asked.secrets, step=step) as program,
    ):
        work = _Work(
            project=project, asked=asked, uv=program, upgrade=upgrade,
            before=() if upgrade.all else before, needed_before=() if upgrade.all else needed_before,
        )  # fmt: skip
        selections = work.selections(step)
        own_package = work.own_package(selections.values())
        needed = work.build_requirements(selections, own_package, step)
        step.say("uv itself")
        tool = _keep(uv, project) or lock_uv(
            program, uv.version if uv else installed_version(), project.python, _platforms(project)
        )
    if asked.requirements and asked.requirements.empty:
        console.note(f"{project.environment.path} names no packages: the environment holds Python alone")
    natives = {REQUIREMENTS_LOCK: pylock.render(selections)}
    if any(selection.sdists for selection in selections.values()):
        natives[SDISTS_LOCK] = pylock.render(selections, sdists=True)
    if needed:
        natives[BUILD_REQUIREMENTS_LOCK] = pylock.render(needed)
    _say_what_changed_in_place(before if not upgrade.all else (), natives, upgrade, console)
    return PythonEnvironment(
        natives=natives,
        inputs=asked.inputs,
        indexes=asked.indexes,
        find_links=asked.find_links,
        uv=tool,
        own_package=own_package,
    )


def _keep(uv: LockedTool | None, project: Project) -> LockedTool | None:
    """What is locked of ``uv``, for the project's platforms; None where one is lacking."""
    if uv is None or not uv.wheels.keys() >= set(project.platforms):
        return None
    return LockedTool(version=uv.version, wheels={platform: uv.wheels[platform] for platform in _platforms(project)})


def _platforms(project: Project) -> list[Platform]:
    return sorted(set(project.platforms), key=lambda platform: platform.value)


def _check_upgrade(
    project: Project,
    kind: Kind,
    upgrade: Upgrade,
    before: tuple[LockedPackage, ...],
    needed_before: tuple[LockedPackage, ...],
    *,
    first: bool,
) -> None:
    """Raise InvalidInput where what is to be upgraded is not in the lock, or is not reprobox's to move."""
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    path = project.environment.path
    resolved = kind in {Kind.UV_LOCK, Kind.PYLOCK}
    names = {package.name for package in (*needed_before, *(() if resolved else before))}
    asked = {canonicalize_name(name) for name in upgrade.packages}
    if resolved and not upgrade.nothing and not (asked <= names if asked else names):
        raise InvalidInput(
            f"nothing to upgrade: {path} says which versions are used",
            hint="run `uv lock --upgrade`, then `reprobox lock`" if kind is Kind.UV_LOCK else f"make {path} anew",
        )
    for name in sorted(asked - names) if not upgrade.all else ():
        near = difflib.get_close_matches(name, sorted(names), 1)
        raise InvalidInput(
            f"cannot upgrade {name}: {'there is no lock yet' if first else 'the lock does not hold it'}",
            hint=f"do you mean {near[0]}?" if near else "run `reprobox lock` without it",
        )


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
    needed_before: tuple[LockedPackage, ...]
    upgrade: Upgrade

    def selections(self, step: Step) -> dict[Platform, Selection]:
        """The files for every platform, at the versions of the platform before it where they fit."""
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
        arguments, cwd = self._sources()
        question = self._question(arguments, cwd, self.before, self._explain)
        versions = [pair for other in others for pair in _index_versions(other)]
        return self._select(question.solve(platform, versions), platform, self.uv.folder)

    def _question(
        self,
        arguments: list[str],
        cwd: Path,
        before: tuple[LockedPackage, ...],
        explain: Callable[[str], ReproboxError],
    ) -> Question:
        return Question(
            uv=self.uv,
            arguments=tuple(arguments),
            cwd=cwd,
            python=self.project.python,
            first=_platforms(self.project)[0],
            before=before,
            upgrade=self.upgrade,
            explain=explain,
        )

    # what is built from source

    def own_package(self, selections: Iterable[Selection]) -> PurePosixPath | None:
        """The folder of the project that is a package itself, where the environment holds it."""
        if self.asked.kind in {Kind.PYPROJECT, Kind.UV_LOCK}:
            folder = self.project.environment.path.parent
            toml = pyproject.read(self.project.root, folder / "pyproject.toml")
            return folder if pyproject.is_package(toml) else None
        return PurePosixPath() if any(selection.own_project for selection in selections) else None

    def build_requirements(
        self, selections: Mapping[Platform, Selection], own_package: PurePosixPath | None, step: Step
    ) -> dict[Platform, Selection]:
        """The wheels that building takes, for every platform; empty where nothing is built."""
        own = [sources.of_project(self.project.root, own_package)] if own_package is not None else []
        fetcher = sources.Fetcher(known=tuple(self.asked.urls), secrets=self.uv.secrets)
        found: dict[Platform, Selection] = {}
        for platform, selection in selections.items():
            built = [*own]
            for sdist in selection.sdists:
                step.say(f"{sdist.file}: what building it needs")
                built.append(sources.of_sdist(sdist, fetcher.fetch(sdist)))
            if built:
                found[platform] = self._needed(platform, built, list(found.values()))
        return {platform: found.get(platform, Selection(wheels=())) for platform in selections} if found else {}

    def _needed(self, platform: Platform, built: list[Source], others: list[Selection]) -> Selection:
        """What building all of ``built`` takes, in one environment."""
        asked, cwd = self.asked.requirements, self.project.root
        source = self.uv.folder / "build-requirements.in"
        lines = sorted({line for each in built for line in each.requires})
        source.write_text((asked.options if asked else "") + "".join(f"{line}\n" for line in lines), encoding="utf-8")
        arguments = [str(source), "--only-binary", ":all:", *self._newer(), *self._trusted()]
        if asked is None:
            cwd /= self.project.environment.path.parent

        def explain(words: str) -> ReproboxError:
            words = words.replace(f"{self.uv.folder}{os.sep}", "")
            return sources.explain_failure(words, built)

        question = self._question(arguments, cwd, self.needed_before, explain)
        versions = [pair for other in others for pair in _index_versions(other)]
        kept = {(p.name, p.version): p.hashes for p in self.needed_before if p.holds_on(platform)}
        target = Target(root=self.project.root, folder=self.uv.folder, python=self.project.python, platform=platform)
        selection = pylock.select(question.solve(platform, versions), target, kept=kept)
        if selection.sdists:
            raise sources.no_wheel(selection.sdists[0], platform, built)
        return selection

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
        if asked is None:
            arguments = [path.name]
            for extra in sorted(self.project.environment.extras):
                arguments += ["--extra", extra]
            for group in sorted(self.project.environment.groups):
                arguments += ["--group", group]
            return [*arguments, *self._newer()], root / path.parent
        source = self.uv.folder / "requirements.in"
        source.write_text(asked.text, encoding="utf-8")
        arguments = [str(source)]
        if constraints := asked.constraints:
            (self.uv.folder / "constraints.in").write_text(constraints, encoding="utf-8")
            arguments += ["--constraints", str(self.uv.folder / "constraints.in")]
        arguments += ["--prerelease", "allow"] if asked.pre else []
        arguments += ["--only-binary", ":all:"] if asked.prefer_binary else []
        return [*arguments, *self._newer(), *self._trusted()], root

    def _newer(self) -> list[str]:
        return ["--exclude-newer", self.project.exclude_newer] if self.project.exclude_newer else []

    def _trusted(self) -> list[str]:
        hosts = self.asked.requirements.trusted_hosts if self.asked.requirements else []
        return [word for host in hosts for word in ("--allow-insecure-host", host)]

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


def _index_versions(selection: Selection) -> list[tuple[str, str]]:
    files = (*selection.wheels, *selection.sdists)
    return [(file.name, file.version) for file in files if file.url is None and file.path is None]


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


def _say_what_changed_in_place(
    before: tuple[LockedPackage, ...], natives: Mapping[str, bytes], upgrade: Upgrade, console: Console
) -> None:
    """Warn of a URL, path or version that is as before and has other bytes: nobody asked for that."""
    now = {package.requirement: package for package in _installed(natives)}
    for package in before:
        found = now.get(package.requirement)
        if found and not found.hashes & package.hashes and package.name not in upgrade.packages:
            console.warn(f"{package.requirement} has other bytes than the lock held before: its file was replaced")
