"""Requirements files, pyproject.toml, Pipfile, setup.py, environment.yml: what in them is open, or of one machine."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from reprobox.errors import InvalidInput
from reprobox.lint.findings import Finding, listed
from reprobox.lint.sources import Folder, Source, kind
from reprobox.resolvers import requirement_lines
from reprobox.survey import commands

LOCKS = {
    "pyproject": ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "requirements.lock"),
    "pipfile": ("Pipfile.lock",),
    "conda": ("conda-lock.yml", "conda-lock.yaml", "pixi.lock"),
    "setup": ("uv.lock", "requirements.lock"),
}
"""Files that hold what a file of this kind asks, where they stand beside it."""

MOST_ENTRIES = 2_000
"""How many things one file may ask for whose lines are looked up by their text."""

_ASIDE = re.compile(
    r"(?:^|[-_./])(?:dev|develop|doc|docs|lint|test|tests|testing|typing|build|ci|win|win32|windows|mac|macos|osx|darwin)"
    r"(?:[-_./]|$)"
)
_FOREIGN = re.compile(
    r"(?:appnope|libcxx|m2w64-.*|pyobjc.*|pypiwin32|pywin32|pywin32-ctypes|pywinpty|ucrt|vc|vc14_runtime"
    r"|vs2015_runtime|win_inet_pton|wincertstore|winpty)",
    re.IGNORECASE,
)
"""Packages for macOS or Windows alone. (libcxx is on Linux too, but no solver takes it there unasked.)"""
_TOOLS = frozenset({"pip", "setuptools", "uv", "wheel"})
_GIT = re.compile(r"(?:^|@\s*|\s)git\+\S+")
_HOST_PATH = re.compile(r"(?:^|@\s*|\s)(?:file:/+\S*|~/\S*|/\S+|[A-Za-z]:[\\/]\S*)")

_LOCK_IT = "run `reprobox lock`, or write exact versions: `pip freeze` in the environment that works names them"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing asked for, with its line. ``marked``: an environment marker stands behind it."""

    text: str
    line: int
    name: str | None
    pinned: bool
    marked: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one file asks for, and the files that it includes and is constrained by."""

    entries: tuple[Entry, ...] = ()
    includes: tuple[PurePosixPath, ...] = ()
    constraints: tuple[PurePosixPath, ...] = ()
    hashed: bool = False


def check(folder: Folder, *, environment: PurePosixPath | None, locked: frozenset[str]) -> Iterator[Finding]:
    """The findings of all environment files.

    ``environment`` is the one that reprobox.yaml names: then it and what it includes are asked, since the others
    are no part of the image; without it all whose names do not set them aside (for tests, documentation, another
    system). ``locked`` are the paths that a lock answers for.
    """
    kinds = ("requirements", "pyproject", "pipfile", "setup", "conda")
    files: dict[PurePosixPath, Asked] = {}
    for source in folder.code:
        if source.data is None or kind(source.path) not in kinds:
            continue
        try:
            files[source.path] = read(source)
        except InvalidInput as error:
            yield unreadable(source, error)
    part = (
        closure(environment, files) if environment else {path for path in files if not _ASIDE.search(str(path).lower())}
    )
    constraints = {path for asked in files.values() for path in asked.constraints}
    for path, asked in files.items():
        if path in part:
            yield from _sure(folder.by_path[path], asked)
        if path in part - constraints and not re.match(r"constraints?[-_.]", path.name):
            yield from _unpinned(folder, folder.by_path[path], asked, files, locked)


def read(source: Source) -> Asked:
    """What a file asks for. Raises InvalidInput where it cannot be read."""
    readers = {"requirements": _requirements, "pyproject": _pyproject, "pipfile": _pipfile, "conda": _conda}
    return readers.get(kind(source.path), _setup)(source)


def closure(start: PurePosixPath, files: Mapping[PurePosixPath, Asked]) -> frozenset[PurePosixPath]:
    """A file and all that it includes."""
    found: set[PurePosixPath] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in found and path in files:
            found.add(path)
            waiting += files[path].includes
    return frozenset(found)


# --- what is wrong wherever it stands ---------------------------------------------------------


def _sure(source: Source, asked: Asked) -> Iterator[Finding]:
    file = str(source.path)

    def told(rule: str, entries: Iterable[Entry], what: str, todo: str) -> Iterator[Finding]:
        kept = [entry for entry in entries if not source.silences(rule, entry.line)]
        if kept:
            names = listed([entry.name or entry.text.strip() for entry in kept])
            yield Finding(rule=rule, file=file, line=kept[0].line, what=f"{names}: {what}", todo=todo)

    on_host = [entry for entry in asked.entries if is_on_host(entry.text, source.path.parent)]
    yield from told(
        "host-requirement",
        on_host,
        "a path of one machine",
        "name the package by its version; a wheel of your own belongs into the project's folder",
    )
    moving = [entry for entry in asked.entries if _GIT.search(entry.text) and not entry.pinned]
    yield from told(
        "git-without-commit",
        moving,
        "a branch or tag of a git repository moves",
        "name a release on an index, the one thing that reprobox locks; or, for others, the full commit: ...@<40 hex>",
    )
    foreign = [entry for entry in asked.entries if not entry.marked and _FOREIGN.fullmatch(entry.name or "")]
    yield from told(
        "foreign-export",
        foreign,
        "for macOS or Windows alone",
        "remove them, or put a marker behind them (; sys_platform == 'win32'); `conda env export --from-history` "
        "names only what was asked for",
    )
    for number, line in enumerate(source.text.split("\n"), 1) if kind(source.path) == "conda" else ():
        if re.match(r"prefix:\s*\S", line):
            yield Finding(
                rule="export-noise",
                file=file,
                line=number,
                what=f"`{line.strip()}` is a path of one machine",
                todo="remove the line",
            )


def is_on_host(text: str, folder: PurePosixPath) -> bool:
    """Whether a requirement names a place of one machine: an absolute path, or one out of the project."""
    target = re.split(r"\s;|;\s", text, maxsplit=1)[0]
    if _HOST_PATH.search(target):
        return True
    relative = target.rpartition("@ ")[2].removeprefix("file:").strip()
    return relative.startswith("../") and os.path.normpath(folder / relative).startswith("..")


def _unpinned(
    folder: Folder,
    source: Source,
    asked: Asked,
    files: Mapping[PurePosixPath, Asked],
    locked: frozenset[str],
) -> Iterator[Finding]:
    path = source.path
    if str(path) in locked or asked.hashed:
        return
    if _has_lock(folder, path, files):
        return
    held = {
        _normal(entry.name)
        for file in asked.constraints
        if file in files
        for entry in files[file].entries
        if entry.pinned and entry.name
    }
    loose = [
        entry
        for entry in asked.entries
        if not entry.pinned
        and not _GIT.search(entry.text)
        and not is_on_host(entry.text, path.parent)
        and _normal(entry.name or "") not in _TOOLS | held
        and not source.silences("unpinned-requirement", entry.line)
    ]
    if loose:
        names = listed([entry.name or entry.text.strip() for entry in loose])
        verb = "has" if len(loose) == 1 else "have"
        yield Finding(
            rule="unpinned-requirement",
            file=str(path),
            line=loose[0].line,
            what=f"{names} {verb} no exact version, and no lock holds one",
            todo=_LOCK_IT,
        )


def _has_lock(folder: Folder, path: PurePosixPath, files: Mapping[PurePosixPath, Asked]) -> bool:
    """Whether a file beside this one holds the exact versions."""
    names = LOCKS.get(kind(path), ())
    if any((folder.root / path.parent / name).is_file() for name in names):
        return True
    if kind(path) == "requirements":
        return path.suffix == ".in" and (folder.has(path.with_suffix(".txt")) or folder.has(path.with_suffix(".lock")))
    # A library's ranges are right: the environment is what stands beside them.
    others = ("requirements", "conda") if kind(path) in {"pyproject", "setup"} else ()
    above = ("pyproject",) if kind(path) == "setup" else ()
    return any(other.parent == path.parent and kind(other) in (*others, *above) for other in files)


def _normal(name: str | None) -> str:
    return re.sub(r"[-_.]+", "-", name or "").lower()


# --- readers ----------------------------------------------------------------------------------


def _entry(text: str, line: int, *, hashed: bool = False) -> Entry:
    package = commands.requirement(text)
    return Entry(
        text=text,
        line=line,
        name=package.name,
        pinned=package.pinned or hashed,
        marked=re.search(r";\s*\S", text) is not None,
    )


def _requirements(source: Source) -> Asked:
    text = requirement_lines.decode(source.data or b"", str(source.path))
    text = re.sub(r"[^\S\r\n]{2,}", " ", text)  # long runs of blanks take a search for comments long
    entries: list[Entry] = []
    includes: list[PurePosixPath] = []
    constraints: list[PurePosixPath] = []
    hashed = False
    for number, line in requirement_lines.lines(text):
        match = re.match(r"(-r|--requirement|-c|--constraint|-e|--editable)(?:\s+|=)?(.+)", line)
        if match and match[1] in {"-e", "--editable"}:
            entries.append(_entry(match[2], number))
        elif match:
            path = PurePosixPath(os.path.normpath(source.path.parent / match[2].strip()))
            (includes if match[1] in {"-r", "--requirement"} else constraints).append(path)
        elif not line.startswith("-"):
            bare, _, options = line.partition(" --")
            entries.append(_entry(bare, number, hashed="hash=" in options))
            hashed = hashed or "hash=" in options
    return Asked(entries=tuple(entries), includes=tuple(includes), constraints=tuple(constraints), hashed=hashed)


def _toml(source: Source) -> dict[str, Any]:
    try:
        return tomllib.loads(source.text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"{source.path}: not TOML: {error}", hint="correct it") from error


def _pyproject(source: Source) -> Asked:
    project = _table(_toml(source).get("project"))
    named = project.get("dependencies")
    texts = [text for text in named if isinstance(text, str)] if isinstance(named, list) else []
    return Asked(entries=tuple(_entry(text, source.line_with(text)) for text in texts[:MOST_ENTRIES]))


def _pipfile(source: Source) -> Asked:
    entries = []
    for name, wanted in list(_table(_toml(source).get("packages")).items())[:MOST_ENTRIES]:
        version = wanted if isinstance(wanted, str) else _table(wanted).get("version")
        exact = isinstance(version, str) and version.startswith("==") and "*" not in version
        reference = _table(wanted).get("ref")
        fixed = isinstance(reference, str) and re.fullmatch(r"[0-9a-f]{40}", reference) is not None
        text = f"{name} @ git+{_table(wanted).get('git')}" if "git" in _table(wanted) else name
        local = "path" in _table(wanted)
        entries.append(Entry(text=text, line=source.line_with(name), name=name, pinned=exact or fixed or local))
    return Asked(entries=tuple(entries))


def _setup(source: Source) -> Asked:
    """The ``install_requires`` of a setup.py or setup.cfg, where it is written out."""
    match = re.search(
        r"^[ \t]*install_requires[ \t]*=[ \t]*(\[[^\]]*\]|(?:\n?[ \t]+\S.*|.*)(?:\n[ \t]+\S.*)*)",
        source.text,
        re.MULTILINE,
    )
    if not match:
        return Asked()
    quoted = re.findall(r"""["']([^"'\n]+)["']""", match[1])
    texts = quoted if match[1].startswith("[") else [line.strip() for line in match[1].split("\n") if line.strip()]
    named = [text for text in texts if re.match(r"[A-Za-z0-9]", text)]
    return Asked(entries=tuple(_entry(text, source.line_with(text)) for text in named[:MOST_ENTRIES]))


def _conda(source: Source) -> Asked:
    import yaml  # noqa: PLC0415 (slow to import)

    try:
        node = yaml.compose(source.text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        words = str(getattr(error, "problem", None) or type(error).__name__)
        raise InvalidInput(f"{source.path}: not YAML: {words}", hint="correct it") from error
    entries: list[Entry] = []
    for item in _items(node, "dependencies"):
        line = item.start_mark.line + 1
        if isinstance(item, yaml.ScalarNode):
            text = str(item.value)
            package = commands.conda_package(text)
            entries.append(Entry(text=text, line=line, name=package.name, pinned=package.pinned))
        for inner in _items(item, "pip"):
            if isinstance(inner, yaml.ScalarNode) and not str(inner.value).startswith("-"):
                entries.append(_entry(str(inner.value), inner.start_mark.line + 1))
    return Asked(entries=tuple(entries))


def _items(node: Any, key: str) -> list[Any]:
    """The YAML nodes of the list under a key of a mapping node."""
    import yaml  # noqa: PLC0415

    if not isinstance(node, yaml.MappingNode):
        return []
    values = [value for name, value in node.value if isinstance(name, yaml.ScalarNode) and name.value == key]
    return [item for value in values if isinstance(value, yaml.SequenceNode) for item in value.value]


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def unreadable(source: Source, error: InvalidInput) -> Finding:
    """A file that could not be read, as a finding: the message without the file's name, which stands before it."""
    match = re.match(rf"{re.escape(str(source.path))}(?::(\d+))?(?:: | )", error.message)
    return Finding(
        rule="unreadable",
        file=str(source.path),
        line=int(match[1]) if match and match[1] else None,
        what=error.message[match.end() :] if match else error.message,
        todo=error.hint or "correct it, or remove it",
    )
