"""Requirements files -> entries with file and line, and one clean text for uv. Starts nothing, fetches nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from reprobox.credentials import has_credentials, passwords, redact, without_credentials
from reprobox.errors import InvalidInput, Unlockable
from reprobox.files import explain
from reprobox.model import Digest, LockedFile
from reprobox.resolvers.requirement_checks import (
    SDISTS,
    check_url,
    fragment_hashes,
    inside,
    is_version_control,
    package_name,
    parse,
    refuse_version_control,
    split_url,
)
from reprobox.resolvers.requirement_lines import Place, decode, lines, refuse_option, sha256s, split_options

_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_SOURCE_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".zip")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One requirement or constraint.

    ``text`` is what uv is given; ``name`` is normalised, None for the project itself; ``hashes`` are the
    sha256 (hex) that the file allows, none for any. ``file`` is a local wheel or sdist, relative to the root.
    """

    place: Place
    text: str
    name: str | None
    hashes: frozenset[str] = frozenset()
    file: PurePosixPath | None = None
    constraint: bool = False


@dataclass(kw_only=True)
class Requirements:
    """A requirements file with all that it includes. URLs stand as the file has them, variables unexpanded."""

    files: dict[str, LockedFile] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    index_url: str | None = None
    extra_index_urls: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    trusted_hosts: list[str] = field(default_factory=list)
    only_binary: list[str] = field(default_factory=list)
    no_index: bool = False
    pre: bool = False
    prefer_binary: bool = False
    own_project: Place | None = None
    variables: dict[str, Place] = field(default_factory=dict)
    exposed: list[Place] = field(default_factory=list)

    @property
    def inputs(self) -> tuple[LockedFile, ...]:
        """Every file that was read and every local wheel or sdist, sorted by name."""
        return tuple(self.files[name] for name in sorted(self.files))

    @property
    def indexes(self) -> tuple[str, ...]:
        """The indexes that the files name, without credentials, in order; folders are not among them."""
        named = ([self.index_url] if self.index_url else []) + self.extra_index_urls
        return tuple(dict.fromkeys(without_credentials(url) for url in named if not url.startswith("file:")))

    @property
    def find_links_urls(self) -> tuple[str, ...]:
        """The pages of links that the files name, without credentials, in order; folders are not among them."""
        urls = [place for place in self.find_links if not place.startswith("file:")]
        return tuple(dict.fromkeys(without_credentials(url) for url in urls))

    @property
    def hashes(self) -> dict[str, frozenset[str]]:
        """What the files allow, by package: sha256 in hex. A package that is not in it may have any."""
        found: dict[str, frozenset[str]] = {}
        for entry in self.entries:
            if entry.name and entry.hashes:
                found[entry.name] = found.get(entry.name, frozenset()) | entry.hashes
        return found

    @property
    def options(self) -> str:
        """The lines for uv that say where packages come from."""
        lines = [f"--index-url {self.index_url}"] if self.index_url else []
        lines += [f"--extra-index-url {url}" for url in self.extra_index_urls]
        lines += [f"--find-links {place}" for place in self.find_links]
        lines += ["--no-index"] if self.no_index else []
        return "".join(line + "\n" for line in lines)

    @property
    def text(self) -> str:
        """The requirements and options for uv, in UTF-8 words; the order of lines in the files does not show."""
        lines = [f"--only-binary {packages}" for packages in sorted(set(self.only_binary))]
        return self.options + "".join(line + "\n" for line in [*lines, *self._sorted(constraint=False)])

    @property
    def constraints(self) -> str:
        """The constraints for uv, a file of their own."""
        return "".join(line + "\n" for line in self._sorted(constraint=True))

    @property
    def empty(self) -> bool:
        """Whether nothing is required."""
        return all(entry.constraint for entry in self.entries)

    def places(self, name: str) -> tuple[Place, ...]:
        """Where a package is asked for."""
        return tuple(sorted(entry.place for entry in self.entries if entry.name == name))

    def _sorted(self, *, constraint: bool) -> list[str]:
        return sorted({entry.text for entry in self.entries if entry.constraint == constraint})


def read(root: Path, path: PurePosixPath) -> Requirements:
    """Read the requirements file at ``path`` below ``root``, and what it includes.

    Raises InvalidInput for what cannot be read or means nothing here, Unlockable for what no lock can hold;
    both name file and line.
    """
    reader = _Reader(root=root.resolve())
    reader.read(path, constraint=False, through=())
    return reader.found


# --- entries ----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Reader:
    root: Path
    found: Requirements = field(default_factory=Requirements)
    seen: set[tuple[str, bool]] = field(default_factory=set)

    def read(
        self, path: PurePosixPath, *, constraint: bool, through: tuple[str, ...], place: Place | None = None
    ) -> None:
        file = str(path)
        named = f"{place}: " if place else ""
        if file in through:
            raise InvalidInput(
                f"{named}requirements files include each other in a circle: {' -> '.join([*through, file])}",
                hint="remove one of the -r or -c lines",
            )
        if (file, constraint) in self.seen:
            return
        self.seen.add((file, constraint))
        full = self.root / path
        if not full.is_file():
            raise InvalidInput(
                f"{named}there is no file {file}",
                hint="paths of -r and -c start at the file they are in" if place else "name the file that is there",
            )
        text = decode(self._take(path), file)
        for number, line in lines(text):
            self._line(line, Place(file=file, line=number), constraint=constraint, through=(*through, file))

    def _take(self, path: PurePosixPath) -> bytes:
        try:
            data = (self.root / path).read_bytes()
        except OSError as error:
            raise explain(error, f"cannot read {path}") from error
        self.found.files[str(path)] = LockedFile(name=str(path), digest=Digest.of(data))
        return data

    def _line(self, line: str, place: Place, *, constraint: bool, through: tuple[str, ...]) -> None:
        requirement, options = split_options(line, place)
        if requirement:
            self._requirement(requirement, sha256s(options, place), place, constraint=constraint)
            return
        for option, value in options:
            self._option(option, value, place, constraint=constraint, through=through)

    # options

    def _option(self, option: str, value: str, place: Place, *, constraint: bool, through: tuple[str, ...]) -> None:
        found = self.found
        match option:
            case "--requirement" | "--constraint":
                included = self._included(value, place)
                self.read(included, constraint=constraint or option == "--constraint", through=through, place=place)
            case "--editable":
                self._requirement(value, frozenset(), place, constraint=constraint, editable=True)
            case "--index-url":
                found.index_url = self._url(value, place)
            case "--extra-index-url":
                found.extra_index_urls.append(self._url(value, place))
            case "--find-links":
                found.find_links.append(self._find_links(value, place))
            case "--trusted-host":
                found.trusted_hosts.append(value)
            case "--no-binary" | "--only-binary" if value == ":none:":
                pass
            case "--no-binary":
                raise Unlockable(
                    f"{place}: --no-binary {value} asks to build from source, which is not supported yet",
                    hint="remove the line, or build a wheel and name it as a local file",
                )
            case "--only-binary":
                found.only_binary.append(value)
            case "--no-index" | "--pre" | "--prefer-binary":
                setattr(found, option.removeprefix("--").replace("-", "_"), True)
            case "--require-hashes":
                pass  # a lock always does
            case _:
                refuse_option(option, place)

    def _included(self, value: str, place: Place) -> PurePosixPath:
        if "://" in value and not value.startswith("file:"):
            raise Unlockable(
                f"{place}: a requirements file from the network can change: {redact(value)}",
                hint="download it into the project and name the file",
            )
        path = Path(_file_path(value)) if value.startswith("file:") else Path(value)
        return inside(self.root, (self.root / place.file).parent / path, place, value)

    def _url(self, value: str, place: Place) -> str:
        self._note_variables(value, place)
        split_url(value, place)
        if "://" not in value:
            path = self.root / value
            inside(self.root, path, place, value)
            return path.resolve().as_uri()
        if value.startswith("file:") and not _VARIABLE.search(value):
            inside(self.root, Path(_file_path(value)), place, value)
        rest = _VARIABLE.sub("", value.rpartition("@")[2])
        if any(_VARIABLE.sub("", secret) for secret in passwords(value)) or has_credentials(rest):
            self.found.exposed.append(place)
        return value

    def _find_links(self, value: str, place: Place) -> str:
        if "://" in value and not value.startswith("file:"):
            return self._url(value, place)
        path = Path(_file_path(value)) if value.startswith("file:") else Path(value)
        beside = (self.root / place.file).parent / path
        folder = beside if beside.exists() else self.root / path
        inside(self.root, folder, place, value, hint="name folders of this machine in uv's or pip's configuration")
        if not folder.is_dir():
            raise InvalidInput(f"{place}: there is no folder {value}", hint="--find-links names a folder of wheels")
        return folder.resolve().as_uri()

    def _note_variables(self, value: str, place: Place) -> None:
        for variable in _VARIABLE.findall(value):
            self.found.variables.setdefault(variable, place)

    # requirements

    def _requirement(
        self, text: str, hashes: frozenset[str], place: Place, *, constraint: bool, editable: bool = False
    ) -> None:
        if is_version_control(text):
            refuse_version_control(text, place)
        if _VARIABLE.search(text):
            raise Unlockable(
                f"{place}: a requirement that depends on a variable of the machine: {redact(text)}",
                hint="write the value; variables are for the addresses of indexes",
            )
        target, tail = _split_marker(text)
        if editable or _looks_local(target):
            self._local(target, tail, hashes, place, constraint=constraint, editable=editable, whole=text)
        elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", target):
            self._nameless_url(target, tail, hashes, place, constraint=constraint)
        else:
            self._named(text, hashes, place, constraint=constraint)

    def _named(self, text: str, hashes: frozenset[str], place: Place, *, constraint: bool) -> None:
        name, url = parse(text, place)
        if url and (url.startswith(("file:", ".", "/")) or "://" not in url):
            _, _, rest = text.partition("@")
            target, tail = _split_marker(rest.strip())
            self._local(target, tail, hashes, place, constraint=constraint, editable=False, whole=text)
            return
        if url:
            hashes |= check_url(url, name, place)
        self.found.entries.append(
            Entry(place=place, text=" ".join(text.split()), name=name, hashes=hashes, constraint=constraint)
        )

    def _nameless_url(self, url: str, tail: str, hashes: frozenset[str], place: Place, *, constraint: bool) -> None:
        file = PurePosixPath(unquote(split_url(url, place).path)).name
        hashes |= check_url(url, file or url, place)
        name = package_name(file, place)
        text = f"{name} @ {url}{tail}"
        self.found.entries.append(Entry(place=place, text=text, name=name, hashes=hashes, constraint=constraint))

    def _local(
        self,
        target: str,
        tail: str,
        hashes: frozenset[str],
        place: Place,
        *,
        constraint: bool,
        editable: bool,
        whole: str,
    ) -> None:
        if constraint:
            raise InvalidInput(
                f"{place}: a constraint cannot be a path: {whole}", hint="a constraint is a name and a version"
            )
        target, extras = _split_extras(target)
        plain, _, fragment = target.partition("#")
        hashes |= fragment_hashes(fragment, place)
        path = Path(_file_path(plain)) if plain.startswith("file:") else Path(plain)
        relative = inside(self.root, self.root / path, place, whole, hint=_outside_hint(whole))
        full = self.root / relative
        if not full.exists():
            raise InvalidInput(f"{place}: there is no {plain}", hint="paths start at the folder of reprobox.yaml")
        if full.is_dir():
            self._tree(full, extras, tail, place, editable=editable, whole=whole)
        elif full.name.endswith((".whl", *SDISTS)):
            self._take(relative)
            name = package_name(full.name, place)
            self.found.entries.append(
                Entry(
                    place=place,
                    text=f"{name}{extras} @ {full.as_uri()}{tail}",
                    name=name,
                    hashes=hashes,
                    file=relative,
                )
            )
        else:
            raise Unlockable(
                f"{place}: {plain} is neither a wheel nor an sdist (.tar.gz)",
                hint=f"build a wheel of it (pip wheel --no-deps {plain}) and name that file",
            )

    def _tree(self, folder: Path, extras: str, tail: str, place: Place, *, editable: bool, whole: str) -> None:
        if folder != self.root:
            raise Unlockable(
                f"{place}: {whole} is a source tree; only the project itself is built from its tree",
                hint="build a wheel of it (pip wheel --no-deps FOLDER) and name that file, or list its requirements",
            )
        if not any((folder / file).is_file() for file in ("pyproject.toml", "setup.py", "setup.cfg")):
            raise InvalidInput(
                f"{place}: {whole} is no Python project: it has no pyproject.toml and no setup.py",
                hint="remove the line; the project's files are in the image anyway",
            )
        self.found.own_project = place
        text = f"{'-e ' if editable else ''}{folder.as_uri()}{extras}{tail}"
        self.found.entries.append(Entry(place=place, text=text, name=None))


# --- paths ------------------------------------------------------------------------------------


def _split_marker(text: str) -> tuple[str, str]:
    """A path or URL, and its marker as `` ; marker`` or nothing."""
    target, separator, marker = text.partition(";")
    return target.strip(), f" ; {marker.strip()}" if separator else ""


def _split_extras(target: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*?)(\[[^\[\]]*\])", target)
    return (found.group(1).strip(), found.group(2)) if found else (target, "")


def _looks_local(target: str) -> bool:
    if target.startswith((".", "/", "file:", "~")):
        return True
    plain = _split_extras(target)[0]
    if "://" in plain or " @ " in plain:
        return False
    return plain.endswith((".whl", *_SOURCE_ARCHIVES)) or bool(re.match(r"[\w.-]+[/\\]", plain))


def _file_path(url: str) -> str:
    """The path behind ``file:x``, ``file:///x`` or ``file://localhost/x``."""
    parts = urlsplit(url)
    return unquote(parts.path if parts.netloc in {"", "localhost"} else f"//{parts.netloc}{parts.path}")


def _outside_hint(text: str) -> str:
    name = text.partition("@")[0].strip() if "@" in text else ""
    if re.fullmatch(_NAME, name):
        return f"this is a trace of pip freeze on one machine; write {name} with its version: {name}==VERSION"
    return "build a wheel of it, put it into the project and name it by a relative path"
