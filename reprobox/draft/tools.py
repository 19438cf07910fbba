"""The files of Poetry, Pipenv and setuptools -> requirement lines, pins and Pythons. Nothing is executed."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reprobox.credentials import has_credentials
from reprobox.draft.facts import Fact, Line, PackageList, Place, PythonSaid
from reprobox.draft.folder import Folder, line_of
from reprobox.draft.specifiers import checked, from_poetry, python_marker, requirement

_SOURCES = ("git", "path", "file", "url", "hg", "svn")
_FIRST_INDEX = "pypi"
"""What Poetry and Pipenv call the index that is the default anyway."""


def table(value: Any, *keys: str) -> dict[str, Any]:
    """The table under ``keys``, empty where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def tables(value: Any) -> list[dict[str, Any]]:
    """The tables in a list, empty where it is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


# --- Poetry -----------------------------------------------------------------------------------


def poetry(folder: Folder) -> tuple[PackageList | None, list[PythonSaid]]:
    """What pyproject.toml's Poetry tables ask, at the versions of poetry.lock, and the Pythons they allow."""
    read = folder.toml("pyproject.toml")
    if read is None:
        return None, []
    toml, text = read
    asked = table(toml, "tool", "poetry", "dependencies")
    lock = folder.toml("poetry.lock")
    locked = _poetry_lock(lock[0] if lock else {})
    if not asked and not (locked and table(toml, "project").get("dependencies")):
        return None, []
    pythons = [*_python(asked.get("python"), "pyproject.toml", text), *_of_wheels(lock[0] if lock else {})]
    pinned = {name: pin for name, pin in locked.items() if pin}
    lines = [*_project_lines(toml, text, pinned)]
    for name, value in asked.items():
        if name.lower() != "python":
            place = Place(file="pyproject.toml", line=line_of(text, "[tool.poetry.dependencies]", name))
            lines += _lines(name, value, place, pinned, "poetry.lock")
    lines += _own_package(folder, toml, text)
    names = {_normal(name) for name in [*asked, *(_name(line.text) for line in lines)]}
    found = PackageList(
        place=Place(file="poetry.lock" if locked else "pyproject.toml"),
        lines=tuple(lines),
        pins=tuple(
            Line(text=pin, place=Place(file="poetry.lock")) for name, pin in sorted(pinned.items()) if name not in names
        ),
        indexes=tuple(_indexes(folder, tables(table(toml, "tool", "poetry").get("source")), "pyproject.toml", text)),
    )
    return found, pythons


def _of_wheels(lock: Mapping[str, Any]) -> Iterator[PythonSaid]:
    """The newest Python for which each locked package that is compiled has a wheel (Linux, x86-64), by file names."""
    allowed: set[str] | None = None
    for package in tables(lock.get("package")):
        files = [str(file.get("file")) for file in tables(package.get("files"))]
        compiled = [file for file in files if re.search(r"manylinux\w*x86_64.*\.whl$", file)]
        if not compiled or any(re.search(r"-(abi3|none)-", file) for file in compiled):
            continue
        fits = {f"3.{found[1]}" for file in compiled if (found := re.search(r"-cp3([0-9]+)-cp3", file))}
        allowed = fits if allowed is None else allowed & fits
    if allowed:
        newest = max(allowed, key=lambda version: int(version[2:]))
        why = "the newest for which all of poetry.lock's wheels are made"
        yield PythonSaid(value=newest, place=Place(file="poetry.lock"), exact=True, why=why)


def _project_lines(toml: Mapping[str, Any], text: str, pinned: Mapping[str, str]) -> Iterator[Line]:
    """The [project] table of Poetry 2."""
    for asked in table(toml, "project").get("dependencies") or []:
        if isinstance(asked, str):
            place = Place(file="pyproject.toml", line=line_of(text, asked))
            pin = pinned.get(_normal(_name(asked)), "").partition("==")[2]
            yield Line(text=_pinned(asked, pin), place=place, note="poetry.lock's version" if pin else "")


def _pinned(asked: str, version: str) -> str:
    """A requirement with its specifier replaced by one version, where it has no URL."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 (slow to import)

    try:
        parsed = Requirement(asked)
    except InvalidRequirement:
        return asked
    if not version or parsed.url:
        return asked
    marker = str(parsed.marker) if parsed.marker else ""
    return requirement(parsed.name, f"=={version}", extras=parsed.extras, marker=marker) or asked


def _poetry_lock(lock: Mapping[str, Any]) -> dict[str, str]:
    """Name to ``name==version`` for what came from an index; "" where one pin cannot say it (two versions, git)."""
    found: dict[str, str] = {}
    for package in tables(lock.get("package")):
        name, version = package.get("name"), package.get("version")
        if isinstance(name, str) and isinstance(version, str):
            elsewhere = table(package, "source").get("type") not in {None, "legacy"}
            single = _normal(name) not in found and not elsewhere
            found[_normal(name)] = (requirement(name, f"=={version}") or "") if single else ""
    return found


def _own_package(folder: Folder, toml: Mapping[str, Any], text: str) -> Iterator[Line]:
    """The project itself, where it is a package: needed where its modules are under src/."""
    settings = table(toml, "tool", "poetry")
    if "build-system" not in toml or settings.get("package-mode") is False:
        return
    place = Place(file="pyproject.toml", line=line_of(text, "[build-system]"))
    if folder.has("src"):
        yield Line(text="-e .", place=place, note="the project itself, whose modules are in src/")
    else:
        yield Line(text="-e .", place=place, because="the project itself: where the experiment wants it installed")


def _python(said: Any, file: str, text: str) -> list[PythonSaid]:
    allowed = from_poetry(said) if isinstance(said, str) else None
    place = Place(file=file, line=line_of(text, "[tool.poetry.dependencies]", "python"))
    return [PythonSaid(value=allowed, place=place, exact=False)] if allowed else []


def _lines(name: str, value: Any, place: Place, pinned: Mapping[str, str], lock: str) -> Iterator[Line]:
    """The lines for one dependency as Poetry and Pipenv write it: a text, a table, or several tables."""
    if isinstance(value, list):
        for each in value:
            yield from _lines(name, each, place, {}, lock)
        return
    said = value if isinstance(value, dict) else {"version": value}
    if said.get("optional") is True:
        yield Line(text=name, place=place, because="optional")
        return
    source = next((key for key in _SOURCES if key in said), None)
    if source:
        yield Line(
            text=name, place=place, because=f"comes by {source}, which a lock cannot hold; write a version of it"
        )
        return
    pin = pinned.get(_normal(name), "")
    asked = str(said.get("version") or "*")
    specifier = pin[pin.index("==") :] if pin else from_poetry(asked)
    extras = [extra for extra in said.get("extras") or [] if isinstance(extra, str)]
    text = None if specifier is None else requirement(name, specifier, extras=extras, marker=_marker(said))
    if text is None:
        bare = requirement(name, "", extras=extras)
        yield Line(
            text=bare or name, place=place, note=f"asked for {asked!r}, which pip cannot say",
            because="" if bare else "not a requirement",
        )  # fmt: skip
        return
    note = f"{lock}'s version" if pin else ""
    yield Line(text=text, place=place, note=note)


def _marker(said: Mapping[str, Any]) -> str:
    parts = [part for part in (said.get("markers"), said.get("marker")) if isinstance(part, str) and part]
    for key in ("sys_platform", "platform_system", "platform_machine", "os_name", "python_version"):
        if isinstance(said.get(key), str):
            parts.append(f"{key} {said[key]}")
    python, platform = said.get("python"), said.get("platform")
    if isinstance(python, str) and (allowed := from_poetry(python)):
        parts.append(python_marker(allowed))
    if isinstance(platform, str):
        parts.append(f"sys_platform == '{platform}'")
    return " and ".join(f"({part})" if " or " in part else part for part in parts)


def _indexes(folder: Folder, sources: list[dict[str, Any]], file: str, text: str) -> Iterator[Fact]:
    for source in sources:
        url = source.get("url")
        if not isinstance(url, str) or str(source.get("name", "")).lower() == _FIRST_INDEX:
            continue
        line = line_of(text, "source", str(source.get("name", "")))
        if has_credentials(url) or "$" in url or "://" not in url or not url.isprintable() or " " in url:
            name = str(source.get("name", "without a name"))
            folder.note(file, f"the package index {name} is left out: its address is not a plain one", line=line,
                        lacking=True)  # fmt: skip
        else:
            yield Fact(value=url, place=Place(file=file, line=line))


# --- Pipenv -----------------------------------------------------------------------------------


def pipenv(folder: Folder) -> tuple[PackageList | None, list[PythonSaid]]:
    """What Pipfile asks, at the versions of Pipfile.lock, and the Pythons they name."""
    read = folder.toml("Pipfile")
    lock = folder.json("Pipfile.lock") if folder.has("Pipfile.lock") else None
    default = {name: value for name, value in table(lock, "default").items() if isinstance(value, dict)}
    pinned = {}
    for name, value in default.items():
        version = value.get("version")
        if isinstance(version, str) and requirement(name, version):
            pinned[_normal(name)] = f"{name}{version}"
    if read is None:
        if lock is None:
            return None, []
        place = Place(file="Pipfile.lock")
        every = [line for name, value in sorted(default.items()) for line in _lines(name, value, place, pinned, "")]
        return PackageList(place=place, lines=tuple(every)), _requires(table(lock, "_meta"), "Pipfile.lock", "")
    toml, text = read
    lines: list[Line] = []
    asked = table(toml, "packages")
    for name, value in asked.items():
        place = Place(file="Pipfile", line=line_of(text, "[packages]", name))
        if isinstance(value, dict) and value.get("path") == ".":
            lines.append(Line(text="-e .", place=place))
        else:
            lines += _lines(name, value, place, pinned, "Pipfile.lock")
    wanted = {_normal(name) for name in asked}
    markers = {_normal(name): _marker(value) for name, value in default.items()}
    pins = [
        Line(text=requirement(pin, "", marker=markers.get(name, "")) or pin, place=Place(file="Pipfile.lock"))
        for name, pin in sorted(pinned.items())
        if name not in wanted
    ]
    found = PackageList(
        place=Place(file="Pipfile.lock" if lock else "Pipfile"),
        lines=tuple(lines),
        pins=tuple(pins),
        indexes=tuple(_indexes(folder, tables(toml.get("source")), "Pipfile", text)),
    )
    return found, _requires(toml, "Pipfile", text)


def _requires(toml: Mapping[str, Any], file: str, text: str) -> list[PythonSaid]:
    requires = table(toml, "requires")
    for key in ("python_version", "python_full_version"):
        said = requires.get(key)
        if isinstance(said, str):
            return [PythonSaid(value=said, place=Place(file=file, line=line_of(text, "[requires]", key)), exact=True)]
    return []


# --- setuptools -------------------------------------------------------------------------------


def setuptools(folder: Folder) -> tuple[PackageList | None, list[PythonSaid]]:
    """A project that setup.py or setup.cfg describes: its requirements are read when it is built, by ``lock``."""
    pythons: list[PythonSaid] = []
    if (text := folder.text("setup.cfg")) is not None:
        said = _setup_cfg(text)
        if said and (allowed := checked(said)):
            line = line_of(text, "python_requires")
            pythons.append(PythonSaid(value=allowed, place=Place(file="setup.cfg", line=line), exact=False))
    if (source := folder.text("setup.py")) is not None and (said := _setup_py(source)) and (allowed := checked(said)):
        line = line_of(source, "python_requires")
        pythons.append(PythonSaid(value=allowed, place=Place(file="setup.py", line=line), exact=False))
    file = "setup.py" if source is not None else "setup.cfg"
    if source is None and (text is None or "install_requires" not in text):
        return None, pythons
    line_ = Line(text="-e .", place=Place(file=file), note="the project itself; `lock` reads what it requires")
    return PackageList(place=Place(file=file), lines=(line_,)), pythons


def _setup_cfg(text: str) -> str | None:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
        return parser.get("options", "python_requires", fallback=None)
    except configparser.Error:
        return None


def _setup_py(source: str) -> str | None:
    """The literal ``python_requires=`` of a setup.py, which is read and never run."""
    from reprobox.draft.scripts import parse  # noqa: PLC0415 (scripts imports nothing from here)

    tree = parse(source)
    for node in ast.walk(tree) if isinstance(tree, ast.Module) else ():
        if isinstance(node, ast.keyword) and node.arg == "python_requires" and isinstance(node.value, ast.Constant):
            return node.value.value if isinstance(node.value.value, str) else None
    return None


# --- names ------------------------------------------------------------------------------------


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    return str(canonicalize_name(name))


def _name(requirement_text: str) -> str:
    for end, character in enumerate(requirement_text):
        if not (character.isalnum() or character in "._-"):
            return requirement_text[:end]
    return requirement_text
