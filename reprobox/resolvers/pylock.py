"""A pylock (PEP 751), a platform -> one wheel, else the sdist, per package; files per platform <-> lock files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

from reprobox.credentials import has_credentials, redact, without_credentials
from reprobox.errors import HashMismatch, InvalidInput, InvalidLock, Unlockable
from reprobox.files import explain
from reprobox.model import Digest, Platform, PythonVersion
from reprobox.resolvers.requirement_checks import inside, is_sdist

if TYPE_CHECKING:
    from packaging.tags import Tag

HEADER = "# written by `reprobox lock`; do not edit\n"
GLIBC = (2, 28)
"""The newest glibc whose wheels are taken: that of manylinux_2_28."""
OLDEST_GLIBC = 5
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """The file that a package comes from, a wheel or an sdist.

    ``url`` is set where a user named one, ``path`` (relative to the root) where the file is the project's own;
    with neither it comes from an index or a folder of wheels, by its name and digest. ``origin`` is where it was
    found today: a path, or a URL that may hold credentials and is written down nowhere.
    """

    name: str
    version: str
    file: str
    digest: Digest
    url: str | None = None
    path: PurePosixPath | None = None
    origin: Path | str = field(default="", compare=False, repr=False)

    @property
    def requirement(self) -> str:
        """As a requirements file says it."""
        if self.path is not None:
            return f"./{self.path}"
        return f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The files for one platform, sorted by name: wheels, and the sdists of packages that have no wheel for it.

    ``own_project``: the project itself was among the packages.
    """

    wheels: tuple[PackageFile, ...]
    sdists: tuple[PackageFile, ...] = ()
    own_project: bool = False


@dataclass(frozen=True, kw_only=True)
class Target:
    """What wheels are chosen for. ``root`` is the project's; ``folder`` the one that a pylock's paths start at."""

    root: Path
    folder: Path
    python: PythonVersion
    platform: Platform

    @property
    def markers(self) -> dict[str, str]:
        """The values of environment markers there."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.platform.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": str(self.python),
            "sys_platform": "linux",
        }


@cache
def tags(python: PythonVersion, platform: Platform) -> tuple[Tag, ...]:
    """The wheel tags that fit, the best first: of CPython ``python`` on glibc 2.28 and older, then plain linux."""
    from packaging.tags import compatible_tags, cpython_tags  # noqa: PLC0415 (slow to import)

    machine = platform.machine
    oldest = OLDEST_GLIBC if platform is Platform.LINUX_64 else 17
    platforms: list[str] = []
    for minor in range(GLIBC[1], oldest - 1, -1):
        platforms.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{machine}")
    platforms.append(f"linux_{machine}")
    version = (python.major, python.minor)
    interpreter = f"cp{python.major}{python.minor}"
    return (
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, interpreter=interpreter, platforms=platforms),
    )


def select(
    pylock: Mapping[str, Any],
    target: Target,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
    allowed: Mapping[str, frozenset[str]] | None = None,
    kept: Mapping[tuple[str, str], frozenset[str]] | None = None,
) -> Selection:
    """Choose one wheel, or where none fits the sdist, for every package of ``pylock`` that ``target`` needs.

    ``allowed`` are the sha256 (hex) that the user admits, by name; ``kept`` those of an earlier lock by name
    and version: such a file is taken again while it is there. Raises Unlockable for a package with neither,
    HashMismatch where no file has an admitted hash, InvalidInput for a pylock that contradicts itself.
    """
    found: dict[str, PackageFile] = {}
    own_project = False
    for package in pylock.get("packages", []):
        if not _wanted(package, target, extras, groups):
            continue
        name = package["name"]
        if name in found:
            raise InvalidInput(
                f"the lock file names {name} twice for {target.platform.value}",
                hint="make the markers of the two entries exclude each other",
            )
        if (directory := package.get("directory")) is not None:
            _refuse_directory(name, target.folder / directory["path"], target.root)
            own_project = True
            continue
        found[name] = _file(package, target, (allowed or {}).get(name, frozenset()), kept or {})
    files = [found[name] for name in sorted(found)]
    return Selection(
        wheels=tuple(file for file in files if file.file.endswith(".whl")),
        sdists=tuple(file for file in files if not file.file.endswith(".whl")),
        own_project=own_project,
    )


def _wanted(package: Mapping[str, Any], target: Target, extras: Sequence[str], groups: Sequence[str]) -> bool:
    from packaging.markers import Marker  # noqa: PLC0415 (slow to import)

    marker = package.get("marker")
    if not marker:
        return True
    values: dict[str, str | frozenset[str]] = {**target.markers}
    values |= {"extras": frozenset(extras), "dependency_groups": frozenset(groups)}
    return Marker(marker).evaluate(values, context="lock_file")


def _refuse_directory(name: str, folder: Path, root: Path) -> None:
    if folder.resolve() == root.resolve():
        return
    raise Unlockable(
        f"{name} is a source tree ({folder.name}); only the project itself is built from its tree",
        hint="build a wheel of it (pip wheel --no-deps FOLDER) and name that file",
    )


def _file(
    package: Mapping[str, Any],
    target: Target,
    allowed: frozenset[str],
    kept: Mapping[tuple[str, str], frozenset[str]],
) -> PackageFile:
    name, version = package["name"], package.get("version", "")
    label = f"{name} {version}".strip()
    if (vcs := package.get("vcs")) is not None:
        raise Unlockable(
            f"{label} comes from a repository ({redact(str(vcs.get('url', vcs.get('path'))))}); only a file with a "
            "sha256 is built from source",
            hint="use a released version, or build a wheel of that commit and name it as a local file",
        )
    direct = package.get("archive")
    sdist = [package["sdist"]] if package.get("sdist") else []
    files = [direct] if direct is not None else [*(package.get("wheels") or []), *sdist]
    candidates = [(file, file_name(file)) for file in files]
    fitting = _fitting([pair for pair in candidates if pair[1].endswith(".whl")], target)
    fitting += [pair for pair in candidates if is_sdist(pair[1], name) and (not fitting or _has_digest(pair[0]))]
    if not fitting:
        raise _no_wheel(label, [file for _, file in candidates], target)
    checked = [(file, plain, digest_of(file, label, target)) for file, plain in fitting]
    if allowed:
        admitted = [entry for entry in checked if entry[2].hex in allowed]
        if not admitted:
            raise HashMismatch(
                f"{label}: no file for {target.platform.value} has a hash that the requirements file admits: "
                f"{checked[0][1]} has {checked[0][2]}",
                hint="the file was changed at its source, or the requirements file lacks the hash of this wheel",
            )
        checked = admitted
    before = kept.get((name, version), frozenset())
    file, plain, digest = next((entry for entry in checked if entry[2].hex in before), checked[0])
    return PackageFile(
        name=name,
        version=version,
        file=plain,
        digest=digest,
        origin=_local(file, target) or str(file.get("url")),
        **_source(file, label, target, named=direct is not None),
    )


def _has_digest(file: Mapping[str, Any]) -> bool:
    return "sha256" in (file.get("hashes") or {})


def _fitting(candidates: list[tuple[Mapping[str, Any], str]], target: Target) -> list[tuple[Mapping[str, Any], str]]:
    """Those that fit, the best first: by tag, then by build number, then by name."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # noqa: PLC0415 (slow to import)

    ranks = {tag: rank for rank, tag in enumerate(tags(target.python, target.platform))}
    ranked = []
    for file, name in candidates:
        try:
            _, _, build, of_wheel = parse_wheel_filename(name)
        except InvalidWheelFilename:
            continue
        rank = min((ranks[tag] for tag in of_wheel if tag in ranks), default=None)
        if rank is not None:
            number, letters = build if build else (-1, "")
            ranked.append((rank, -number, letters, name, file))
    ranked.sort(key=lambda entry: entry[:4])
    return [(entry[4], entry[3]) for entry in ranked]


def _no_wheel(label: str, names: list[str], target: Target) -> Unlockable:
    wheels = sorted(name for name in names if name.endswith(".whl"))
    others = f"; it has {', '.join(wheels[:3])}{' and others' if len(wheels) > 3 else ''}" if wheels else ""
    return Unlockable(
        f"{label} has no wheel for {target.platform.value} with Python {target.python} and glibc "
        f"{GLIBC[0]}.{GLIBC[1]}{others}, and no sdist (NAME-VERSION.tar.gz)",
        hint="pin a version that has one, or build a wheel and name it as a local file",
    )


def file_name(file: Mapping[str, Any]) -> str:
    """The name of a file of a pylock: as it says, else the last part of its URL or path."""
    name = file.get("name")
    if isinstance(name, str):
        return name
    path = file.get("path")
    return PurePosixPath(path if path else unquote(urlsplit(file["url"]).path)).name


def digest_of(file: Mapping[str, Any], label: str, target: Target) -> Digest:
    """The sha256 of a file of a pylock; that of a local file is computed. Raises HashMismatch, Unlockable.

    What an index says of its own files is believed, be it a folder of this machine: who installs them checks it.
    """
    claimed = (file.get("hashes") or {}).get("sha256")
    path = _local(file, target)
    of_index = claimed and "path" not in file and path and not path.is_relative_to(target.root)
    if path is not None and not of_index:
        try:
            digest = Digest.of_file(path)
        except OSError as error:
            raise explain(error, f"cannot read the file of {label}") from error
        if claimed and claimed != digest.hex:
            raise HashMismatch(
                f"{path.name} is not what the lock file names: expected sha256:{claimed}, got {digest}",
                hint="restore the file, or make the lock file anew",
            )
        return digest
    if not claimed:
        raise Unlockable(
            f"{label}: {file_name(file)} has no sha256", hint="make the lock file anew from an index that has hashes"
        )
    return Digest.parse(claimed)


def _local(file: Mapping[str, Any], target: Target) -> Path | None:
    if path := file.get("path"):
        return target.folder / str(path)
    url = str(file.get("url") or "")
    return Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None


_PATH = re.compile(r"[\w./+!~-]+", re.ASCII)
"""A path that a requirements file and a Dockerfile's mount hold as it is."""


def _source(file: Mapping[str, Any], label: str, target: Target, *, named: bool) -> dict[str, Any]:
    """Where a file is named from: a path in the project, a user's URL, or nowhere (an index)."""
    path = _local(file, target)
    if path is not None:
        if not named and not path.resolve().is_relative_to(target.root.resolve()):
            return {}
        relative = inside(target.root, path, label, str(path), hint="put the file into the project")
        if not _PATH.fullmatch(str(relative)):
            raise Unlockable(
                f"{label}: a requirements file cannot name the path {relative}",
                hint="use letters, digits, dots, dashes and underscores in folder names",
            )
        return {"path": relative}
    if not named:
        return {}
    url = urldefrag(file["url"]).url
    if has_credentials(url):
        raise Unlockable(
            f"the URL of {label} holds credentials, and a lock is public: {without_credentials(url)}",
            hint="put them into ~/.netrc and write the URL without them",
        )
    return {"url": url}


# --- requirements.lock ------------------------------------------------------------------------


def render(selections: Mapping[Platform, Selection], *, sdists: bool = False) -> bytes:
    """requirements.lock, or sdists.lock with ``sdists``.

    Sorted, hashed, with a marker where platforms differ, without hosts and times.
    """
    by_line: dict[tuple[str, str], dict[Platform, PackageFile]] = {}
    for platform, selection in selections.items():
        for file in selection.sdists if sdists else selection.wheels:
            by_line.setdefault((file.name, file.requirement), {})[platform] = file
    text = HEADER
    for (_, requirement), files in sorted(by_line.items(), key=lambda item: (item[0][0], _machines(item[1]))):
        text += "".join(f"# {name}\n" for name in sorted({file.file for file in files.values()}))
        marker = ""
        if len(files) < len(selections):
            marker = " ; " + " or ".join(f'platform_machine == "{machine}"' for machine in _machines(files))
        hashes = sorted({file.digest.hex for file in files.values()})
        text += requirement + marker + "".join(f" \\\n    --hash=sha256:{digest}" for digest in hashes) + "\n"
    return text.encode()


def _machines(platforms: Iterable[Platform]) -> list[str]:
    return sorted(platform.machine for platform in platforms)


@dataclass(frozen=True, kw_only=True)
class LockedPackage:
    """An entry of a lock file: the package, the line that asks for it, its files and their sha256 (hex).

    ``direct``: it comes by URL or path. ``machines`` is empty where all count.
    """

    name: str
    version: str
    requirement: str
    direct: bool
    machines: frozenset[str]
    files: tuple[str, ...]
    hashes: frozenset[str]

    def holds_on(self, platform: Platform) -> bool:
        """Whether the entry counts there."""
        return not self.machines or platform.machine in self.machines


_ENTRY = re.compile(
    r"(?P<files>(?:# [^\s/]+\.(?:whl|tar\.gz|zip)\n)+)(?P<requirement>[^\s#;][^\n;]*?)(?P<marker> ; [^\n\\]+?)?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


def parse(data: bytes, name: str = "requirements.lock", *, sdists: bool = False) -> tuple[LockedPackage, ...]:
    """Read back what ``render`` wrote. Raises InvalidLock, naming the file, where anything else stands there."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _edited(name, data.count(b"\n", 0, error.start) + 1) from error
    if not text.startswith(HEADER):
        raise _edited(name, 1)
    position = len(HEADER)
    found: list[LockedPackage] = []
    while position < len(text):
        entry = _ENTRY.match(text, position)
        package = _entry(entry, sdists=sdists) if entry else None
        if not entry or not package:
            raise _edited(name, text.count("\n", 0, position) + 1)
        found.append(package)
        position = entry.end()
    return tuple(found)


def _entry(entry: re.Match[str], *, sdists: bool) -> LockedPackage | None:
    from packaging.utils import (  # noqa: PLC0415 (slow to import)
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    if entry["requirement"].startswith("./") and not _PATH.fullmatch(entry["requirement"]):
        return None
    files = tuple(line.removeprefix("# ") for line in entry["files"].splitlines())
    try:
        name, version = parse_sdist_filename(files[0]) if sdists else parse_wheel_filename(files[0])[:2]
    except (InvalidSdistFilename, InvalidWheelFilename):
        return None
    named = re.fullmatch(rf"{re.escape(name)}==(\S+)", entry["requirement"])
    return LockedPackage(
        name=name,
        version=named[1] if named else str(version),
        requirement=entry["requirement"],
        direct=not named,
        machines=frozenset(re.findall(r'platform_machine == "(\w+)"', entry["marker"] or "")),
        files=files,
        hashes=frozenset(re.findall(r"sha256:([0-9a-f]{64})", entry["hashes"])),
    )


def _edited(name: str, line: int) -> InvalidLock:
    return InvalidLock(
        f"{name}:{line} is not as reprobox writes it",
        hint="restore the file, or remove it and run `reprobox lock` to resolve everything anew",
    )
