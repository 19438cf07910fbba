"""pyproject.toml and uv.toml -> what a project says of its Python packages, as far as no solver is needed."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from reprobox.credentials import has_credentials, without_credentials
from reprobox.errors import InvalidInput
from reprobox.files import explain, read_plain
from reprobox.model import MEBIBYTE, Digest, EnvironmentFile, LockedFile, PythonVersion
from reprobox.resolvers.indexes import with_credentials
from reprobox.resolvers.requirement_checks import check_url, inside, parse
from reprobox.resolvers.requirement_lines import Place

SETUPTOOLS = ("setuptools>=40.8.0", "wheel")
"""What building takes where pyproject.toml does not say (PEP 518)."""
LARGEST = 64 * MEBIBYTE
"""Bytes; a larger TOML file is not read."""
MICRO_VERSIONS = 100
"""How many patch releases of a Python version are tried against ``requires-python``."""


@dataclass(frozen=True, kw_only=True)
class Toml:
    """A TOML file: its path relative to the root, its content, and its text for line numbers."""

    file: str
    data: dict[str, Any]
    text: str

    def table(self, *keys: str) -> dict[str, Any]:
        """The table under ``keys``, empty where there is none."""
        value: Any = self.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def place(self, text: str) -> Place:
        """The first line that holds ``text``, else the first line."""
        for number, line in enumerate(self.text.splitlines(), 1):
            if text in line:
                return Place(file=self.file, line=number)
        return Place(file=self.file, line=1)


def read(root: Path, path: PurePosixPath) -> Toml:
    """Read a TOML file below ``root``. Raises InvalidInput, with file and line."""
    try:
        data = read_plain(root / path, most=LARGEST)
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no file {path}", hint="name the file that is there") from error
    except OSError as error:
        raise explain(error, f"cannot read {path}") from error
    try:
        text = data.decode("utf-8-sig")
        return Toml(file=str(path), data=tomllib.loads(text), text=text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{path}:{line}: not UTF-8", hint="TOML files are UTF-8: save it so") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise InvalidInput(f"{path}{f':{found.group(1)}' if found else ''}: not TOML: {reason}") from error
    except RecursionError as error:
        raise InvalidInput(f"{path}: not TOML: values are nested too deeply") from error


# --- what it asks -----------------------------------------------------------------------------


def check(toml: Toml, environment: EnvironmentFile, python: PythonVersion, *, solved: bool = False) -> None:
    """Raise InvalidInput where the project asks an extra, a group or a Python that ``toml`` does not have.

    ``solved``: another file holds the versions, so what the requirements look like does not matter.
    """
    extras = known_extras(toml)
    if extras is not None:
        _known(toml.file, "extra", environment.extras, extras)
    _known(toml.file, "group", environment.groups, tuple(toml.table("dependency-groups")))
    asked = toml.table("project").get("requires-python")
    if isinstance(asked, str) and not allows(asked, python, toml.file):
        raise InvalidInput(
            f"{toml.place('requires-python')}: the project requires Python {asked}, reprobox.yaml asks for {python}",
            hint="change python: in reprobox.yaml, or requires-python",
        )
    if not solved:
        _check_requirements(toml, environment)


def is_package(toml: Toml) -> bool:
    """Whether a project is a package itself: as uv sees it, by its build system or its own word."""
    said = toml.table("tool", "uv").get("package")
    if isinstance(said, bool):
        return said
    return "build-system" in toml.data and toml.table("tool", "poetry").get("package-mode") is not False


def build_requirements(toml: Toml) -> tuple[str, ...]:
    """What building a project takes, as its [build-system] says, sorted; setuptools where it says nothing.

    Raises InvalidInput for what is no requirement, Unlockable for one that cannot be locked; both name the file.
    """
    table = toml.table("build-system")
    requires = table.get("requires", SETUPTOOLS)
    if not isinstance(requires, list | tuple) or not all(isinstance(text, str) for text in requires):
        raise InvalidInput(f"{toml.place('requires')}: [build-system] requires is no list of requirements")
    backend = table.get("build-backend", "setuptools.build_meta")
    found = {text.strip() for text in requires}
    if str(backend).startswith("setuptools."):
        found |= {"setuptools", "wheel"}
    for text in sorted(found):
        place = toml.place(text)
        name, url = parse(text, place)
        if url:
            check_url(url, name, place)
    return tuple(sorted(found))


def known_extras(toml: Toml) -> tuple[str, ...] | None:
    """The names of its extras; None where only a build would tell."""
    project = toml.table("project")
    if "optional-dependencies" in (project.get("dynamic") or []):
        return None
    if not project:
        poetry = toml.table("tool", "poetry", "extras")
        return tuple(poetry) if toml.table("tool", "poetry") else None
    return tuple(toml.table("project", "optional-dependencies"))


def allows(specifier: str, python: PythonVersion, file: str) -> bool:
    """Whether some release of ``python`` fits ``requires-python``. Raises InvalidInput for a broken specifier."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415 (slow to import)

    try:
        fits = SpecifierSet(specifier)
    except InvalidSpecifier as error:
        raise InvalidInput(f"{file}: requires-python is not a version specifier: {specifier}") from error
    return any(fits.contains(f"{python}.{micro}") for micro in range(MICRO_VERSIONS))


def _known(file: str, kind: str, asked: tuple[str, ...], known: tuple[str, ...]) -> None:
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    names = {canonicalize_name(name) for name in known}
    for name in asked:
        if canonicalize_name(name) not in names:
            near = difflib.get_close_matches(canonicalize_name(name), sorted(names), 1)
            listed = ", ".join(sorted(names)) or "none"
            raise InvalidInput(
                f"{file} has no {kind} {name}; it has {listed}",
                hint=f"do you mean {near[0]}?" if near else f"correct environment: {kind}s in reprobox.yaml",
            )


def _check_requirements(toml: Toml, environment: EnvironmentFile) -> None:
    project, poetry = toml.table("project"), toml.table("tool", "poetry")
    setup = (PurePosixPath(toml.file).parent / name for name in ("setup.py", "setup.cfg"))
    if not project and not poetry and not environment.groups and not toml.table("build-system"):
        raise InvalidInput(
            f"{toml.file} names no packages: it has no [project] table",
            hint=f"add [project] with dependencies, or name another environment file ({', '.join(map(str, setup))} "
            "are read through a requirements file that says -e .)",
        )
    for text in _requirements(toml, environment):
        place = toml.place(text)
        name, url = parse(text, place)
        if url and "://" in url and not url.startswith("file:"):
            check_url(url, name, place)


def _requirements(toml: Toml, environment: EnvironmentFile) -> Iterator[str]:
    from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

    wanted = {canonicalize_name(name) for name in (*environment.extras, *environment.groups)}
    lists = [toml.table("project").get("dependencies")]
    for table in (toml.table("project", "optional-dependencies"), toml.table("dependency-groups")):
        lists += [value for name, value in table.items() if canonicalize_name(name) in wanted]
    for value in lists:
        if isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))


# --- what it reads ----------------------------------------------------------------------------


def inputs(root: Path, folder: PurePosixPath) -> tuple[LockedFile, ...]:
    """The files that decide which packages the project in ``folder`` needs, by name; only those that exist."""
    names = [folder / name for name in ("pyproject.toml", "setup.py", "setup.cfg")]
    if (root / names[0]).is_file():
        toml = read(root, names[0])
        named = toml.table("tool", "setuptools", "dynamic")
        for table in (named, *(value for value in named.values() if isinstance(value, dict))):
            for value in table.values():
                files = value.get("file") if isinstance(value, dict) else None
                names += [folder / name for name in ([files] if isinstance(files, str) else files or [])]
        for source in toml.table("tool", "uv", "sources").values():
            path = source.get("path") if isinstance(source, dict) else None
            if isinstance(path, str) and path.endswith(".whl"):
                names.append(inside(root, root / folder / path, toml.place(path), path))
    return digests(root, names)


def digests(root: Path, names: list[PurePosixPath]) -> tuple[LockedFile, ...]:
    """Those of ``names`` that are files below ``root``, with their digests, sorted."""
    found = {}
    for name in names:
        path = root / name
        try:
            if path.is_file():
                found[str(name)] = LockedFile(name=str(name), digest=Digest.of_file(path))
        except OSError as error:
            raise explain(error, f"cannot read {name}") from error
    return tuple(found[name] for name in sorted(found))


# --- uv's settings in the project -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What uv's settings in the project say of indexes.

    ``file`` holds them; ``urls`` are as written; ``pages`` are find-links that are URLs; ``names`` are the indexes
    that have one, name and URL.
    """

    file: LockedFile | None = None
    urls: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    exposed: tuple[Place, ...] = ()
    names: tuple[tuple[str, str], ...] = ()

    @property
    def authorized(self) -> Iterator[str]:
        """The named indexes with the credentials that uv's variables hold for them."""
        for name, url in self.names:
            yield with_credentials(url, name)

    @property
    def indexes(self) -> tuple[str, ...]:
        """The indexes without credentials, in order."""
        return tuple(dict.fromkeys(without_credentials(url) for url in self.urls))

    @property
    def find_links_urls(self) -> tuple[str, ...]:
        """The pages of links without credentials, in order."""
        return tuple(dict.fromkeys(without_credentials(url) for url in self.pages))


def uv_settings(root: Path, folder: PurePosixPath) -> Settings:
    """uv's settings in ``folder``: its uv.toml, else the [tool.uv] of its pyproject.toml, as uv chooses."""
    for name, keys in (("uv.toml", ()), ("pyproject.toml", ("tool", "uv"))):
        path = folder / name
        if not (root / path).is_file():
            continue
        toml = read(root, path)
        tables = [toml.table(*keys), toml.table(*keys, "pip")]
        if name == "pyproject.toml" and not tables[0]:
            continue
        urls: list[str] = []
        pages: list[str] = []
        names: list[tuple[str, str]] = []
        for table in tables:
            indexes = [index for index in table.get("index") or [] if isinstance(index, dict)]
            names += [
                (i["name"], i["url"])
                for i in indexes
                if isinstance(i.get("name"), str) and isinstance(i.get("url"), str)
            ]
            urls += [
                index["url"]
                for index in table.get("index") or []
                if isinstance(index, dict) and isinstance(index.get("url"), str)
            ]
            urls += [table["index-url"]] if isinstance(table.get("index-url"), str) else []
            urls += [url for url in table.get("extra-index-url") or [] if isinstance(url, str)]
            pages += [page for page in table.get("find-links") or [] if isinstance(page, str)]
        urls = [url for url in urls if "://" in url and not url.startswith("file:")]
        pages = [page for page in pages if "://" in page and not page.startswith("file:")]
        return Settings(
            file=digests(root, [path])[0],
            urls=tuple(urls),
            pages=tuple(pages),
            names=tuple(names),
            exposed=tuple(toml.place(url) for url in [*urls, *pages] if has_credentials(url)),
        )
    return Settings()
