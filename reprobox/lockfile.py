"""Lock <-> reprobox.lock, and whether a lock still fits its project.

The file is made to be complete, read by people, stable to the byte (the same lock gives the same bytes, in
whatever order it was put together), small in its diffs (one package, one line), and hard to damage unnoticed:
the version is read first, and the last line is a checksum over all lines above it. It holds no time, no host
name and no path of a machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from reprobox import tree
from reprobox.errors import InvalidInput, InvalidLock
from reprobox.files import explain, read_plain
from reprobox.model import (
    MEBIBYTE,
    UNPRINTABLE,
    Digest,
    Lock,
    LockedBootstrap,
    LockedFile,
    LockedImage,
    LockedInterpreter,
    LockedSystem,
    LockedTool,
    Platform,
    Project,
    PythonVersion,
    SystemPackage,
)

LOCK_FILE = "reprobox.lock"
VERSION = 1
LARGEST = 16 * MEBIBYTE
"""Bytes: a larger file is no lock; one package is 200 bytes or so."""

_HEADER = "# Written by `reprobox lock`; do not edit.\n"
_CHECKSUM = "checksum: "
_AGAIN = "restore it from version control, or remove it and run `reprobox lock`"


# --- writing ----------------------------------------------------------------------------------


def dumps(lock: Lock) -> bytes:
    """The lock's one spelling, as bytes."""
    text = _HEADER + yaml.dump(
        _plain(lock), Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=10**9
    )
    body = text.encode()
    return body + f"{_CHECKSUM}{Digest.of(body)}\n".encode()


def digest(lock: Lock) -> Digest:
    """The lock's own digest: that of its file."""
    return Digest.of(dumps(lock))


class _Dumper(yaml.CSafeDumper if hasattr(yaml, "CSafeDumper") else yaml.SafeDumper):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Line(dict[str, str]):
    """A mapping that is written on one line."""


_Dumper.add_representer(
    _Line, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


def _plain(lock: Lock) -> dict[str, Any]:
    plain: dict[str, Any] = {"version": VERSION, "project": _sorted(lock.wants), "inputs": _files(lock.inputs)}
    if lock.data:
        plain["data"] = _files(lock.data)
    if lock.indexes:
        plain["indexes"] = list(lock.indexes)
    if lock.find_links:
        plain["find-links"] = list(lock.find_links)
    plain |= {
        "base": _plain_base(lock.base),
        "interpreter": {"version": str(lock.interpreter.version), "path": str(lock.interpreter.path)},
        "uv": {
            "version": lock.uv.version,
            "wheels": {
                platform.value: {"file": wheel.name, "sha256": wheel.digest.hex}
                for platform, wheel in sorted(lock.uv.wheels.items(), key=lambda item: item[0].value)
            },
        },
        "environment": _files(lock.natives),
        **({"package": str(lock.own_package)} if lock.own_package is not None else {}),
        "variables": dict(sorted(lock.variables.items())),
        "epoch": lock.epoch,
    }
    return plain


def _plain_base(base: LockedImage | LockedBootstrap) -> dict[str, Any]:
    if isinstance(base, LockedImage):
        manifests = sorted((platform.value, str(manifest)) for platform, manifest in base.manifests.items())
        plain = {"image": base.reference, "digest": str(base.digest), "manifests": dict(manifests)}
        return {**plain, "system": _plain_system(base.system)} if base.system else plain
    return {
        "bootstrap": base.distribution,
        "suite": base.suite,
        "platform": base.platform.value,
        **({"snapshot": base.snapshot} if base.snapshot else {}),
        "rootfs": str(base.rootfs),
        "packages": _plain_packages(base.packages),
    }


def _plain_system(system: LockedSystem) -> dict[str, Any]:
    found = sorted(system.packages.items(), key=lambda item: item[0].value)
    return {
        "distribution": system.distribution,
        "suite": system.suite,
        "snapshot": system.snapshot,
        "packages": {platform.value: _plain_packages(packages) for platform, packages in found},
    }


def _plain_packages(packages: tuple[SystemPackage, ...]) -> list[_Line]:
    return [
        _Line(name=p.name, version=p.version, architecture=p.architecture, file=p.file, sha256=p.digest.hex)
        for p in sorted(packages, key=lambda p: (p.name, p.architecture))
    ]


def _files(files: tuple[LockedFile, ...]) -> dict[str, str]:
    return {file.name: str(file.digest) for file in sorted(files, key=lambda file: file.name)}


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


# --- reading ----------------------------------------------------------------------------------

# A lock may come from anybody, and what it says becomes lines of a Dockerfile: each value is checked for its form.
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:-]*")
_RELEASE = re.compile(r"[a-z][a-z0-9.-]*")
_SNAPSHOT = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.!+_-]*")
_IMAGE = re.compile(  # registry.parse_reference, which is slow to import, says more of what is wrong
    r"(?:(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


def read(root: Path) -> Lock:
    """The project's lock. Raises InvalidInput where there is none, InvalidLock where it cannot be trusted."""
    path = root / LOCK_FILE
    try:
        data = read_plain(path, most=LARGEST)
    except FileNotFoundError as error:
        raise InvalidInput(f"there is no {LOCK_FILE}", hint="run `reprobox lock` first") from error
    except OSError as error:
        raise explain(error, f"cannot read {LOCK_FILE}") from error
    return loads(data)


def loads(data: bytes) -> Lock:
    """Raises InvalidLock, with the reason, for anything but a whole lock of a version that is known here."""
    body, found, last = data.rpartition(b"\n" + _CHECKSUM.encode())
    plain = _parse(data)
    version = plain.get("version")
    if not isinstance(version, int):
        raise InvalidLock(f"{LOCK_FILE} does not begin with its version", hint=_AGAIN)
    if version > VERSION:
        raise InvalidLock(
            f"{LOCK_FILE} has version {version} and this reprobox reads up to version {VERSION}",
            hint="upgrade reprobox",
        )
    if not found or not last.endswith(b"\n"):
        raise InvalidLock(f"{LOCK_FILE} is cut short: its last line, the checksum, is missing", hint=_AGAIN)
    if last.decode("ascii", "replace").strip() != str(Digest.of(body + b"\n")):
        raise InvalidLock(f"{LOCK_FILE} was changed by hand or by a merge: its checksum does not fit", hint=_AGAIN)
    try:
        return _lock(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidLock(f"{LOCK_FILE} is damaged: {type(error).__name__}: {error}", hint=_AGAIN) from error


def _parse(data: bytes) -> dict[str, Any]:
    try:
        plain = yaml.load(data.decode(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (safe loaders)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidLock(f"{LOCK_FILE} is damaged: {reason}", hint=_AGAIN) from error
    if not isinstance(plain, dict):
        raise InvalidLock(f"{LOCK_FILE} is damaged: it is not a mapping", hint=_AGAIN)
    return plain


def _lock(plain: dict[str, Any]) -> Lock:
    uv = plain["uv"]
    return Lock(
        wants=dict(plain["project"]),
        inputs=_read_files(plain["inputs"]),
        data=_read_files(plain.get("data", {})),
        indexes=tuple(_line(index) for index in plain.get("indexes", [])),
        find_links=tuple(_line(place) for place in plain.get("find-links", [])),
        base=_read_base(plain["base"]),
        interpreter=LockedInterpreter(
            version=PythonVersion.parse(_text(plain["interpreter"]["version"])),
            path=_program(plain["interpreter"]["path"]),
        ),
        uv=LockedTool(
            version=_fitting(uv["version"], _VERSION, "a version"),
            wheels={
                Platform(platform): LockedFile(name=_inside(wheel["file"]), digest=Digest.parse(wheel["sha256"]))
                for platform, wheel in uv["wheels"].items()
            },
        ),
        natives=_read_files(plain["environment"]),
        own_package=PurePosixPath(_inside(plain["package"])) if "package" in plain else None,
        variables={
            _fitting(name, _VARIABLE, "the name of a variable"): _line(value)
            for name, value in plain["variables"].items()
        },
        epoch=int(plain["epoch"]),
    )


def _read_base(plain: dict[str, Any]) -> LockedImage | LockedBootstrap:
    if "image" in plain:
        return LockedImage(
            reference=_fitting(plain["image"], _IMAGE, "an image reference"),
            digest=Digest.parse(plain["digest"]),
            manifests={Platform(key): Digest.parse(value) for key, value in plain["manifests"].items()},
            system=_read_system(plain["system"]) if "system" in plain else None,
        )
    return LockedBootstrap(
        distribution=_fitting(plain["bootstrap"], _RELEASE, "a distribution"),
        suite=_fitting(plain["suite"], _RELEASE, "a suite"),
        platform=Platform(plain["platform"]),
        rootfs=Digest.parse(plain["rootfs"]),
        packages=_read_packages(plain["packages"]),
        snapshot=_snapshot(plain.get("snapshot", "")),
    )


def _read_system(plain: dict[str, Any]) -> LockedSystem:
    return LockedSystem(
        distribution=_fitting(plain["distribution"], _RELEASE, "a distribution"),
        suite=_fitting(plain["suite"], _RELEASE, "a suite"),
        snapshot=_snapshot(plain["snapshot"]),
        packages={Platform(key): _read_packages(packages) for key, packages in plain["packages"].items()},
    )


def _read_packages(plain: list[dict[str, Any]]) -> tuple[SystemPackage, ...]:
    return tuple(
        SystemPackage(
            name=_fitting(package["name"], _COMPONENT, "a package's name, version or architecture"),
            version=_fitting(package["version"], _COMPONENT, "a package's name, version or architecture"),
            architecture=_fitting(package["architecture"], _COMPONENT, "a package's name, version or architecture"),
            file=_inside(package["file"]),
            digest=Digest.parse(package["sha256"]),
        )
        for package in plain
    )


def _read_files(plain: dict[str, str]) -> tuple[LockedFile, ...]:
    return tuple(LockedFile(name=_inside(name), digest=Digest.parse(digest)) for name, digest in plain.items())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    return value


def _line(value: object) -> str:
    """Text that stays on its line, in a Dockerfile and on a terminal."""
    text = _text(value)
    if UNPRINTABLE.search(text):
        raise ValueError(f"a line break or a control character: {text!r}")
    return text


def _fitting(value: object, pattern: re.Pattern[str], what: str) -> str:
    """A word that a Dockerfile's line holds as it is."""
    word = _text(value)
    if not pattern.fullmatch(word):
        raise ValueError(f"not {what}: {word!r}")
    return word


def _snapshot(value: object) -> str:
    return _text(value) and _fitting(value, _SNAPSHOT, "a time such as 20260711T101637Z")


def _program(value: object) -> PurePosixPath:
    path = PurePosixPath(_line(value))
    if not path.is_absolute():
        raise ValueError(f"not an absolute path: {str(path)!r}")
    return path


def _inside(value: object) -> str:
    name = _line(value)
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError(f"a path that leaves its folder: {name!r}")
    return name


# --- does it still fit ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """One reason why a lock no longer answers its project, with both sides."""

    what: str
    locked: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: the lock has {self.locked}, the project has {self.found}"


def misfits(lock: Lock, project: Project, *, inputs: tuple[LockedFile, ...]) -> tuple[Misfit, ...]:
    """Every reason why ``lock`` no longer fits, offline and without a solver; none means it fits.

    ``inputs`` are the environment files as they are read now. Smoke inputs and the native lock files are
    digested here.
    """
    found: list[Misfit] = []
    wants = project.wants
    for key in sorted(wants.keys() | lock.wants.keys()):
        if wants.get(key) != lock.wants.get(key):
            found.append(Misfit(what=key, locked=_show(lock.wants.get(key)), found=_show(wants.get(key))))
    found += _changed("environment file", lock.inputs, {file.name: file.digest for file in inputs}.get)
    locked = {file.name for file in lock.inputs}
    found += [
        Misfit(what=f"environment file {file.name}", locked="nothing", found=file.digest.short)
        for file in inputs
        if file.name not in locked
    ]
    on_disk = _digester(project.root)
    data = {str(path) for path in project.smoke.inputs} if project.smoke else set()
    known = {file.name for file in lock.data}
    found += [Misfit(what=f"smoke input {name}", locked="nothing", found="it") for name in sorted(data - known)]
    found += [Misfit(what=f"smoke input {name}", locked="it", found="nothing") for name in sorted(known - data)]
    there = [PurePosixPath(name) for name in data & known if (project.root / name).is_file()]
    now = {str(path): digest for path, digest in tree.digests(project.root, there).items()}
    found += _changed("smoke input", tuple(file for file in lock.data if file.name in data), now.get)
    found += _changed("lock file", lock.natives, on_disk)
    return tuple(found)


def _changed(kind: str, files: tuple[LockedFile, ...], now: Callable[[str], Digest | None]) -> list[Misfit]:
    changed = []
    for file in files:
        digest_now = now(file.name)
        if digest_now != file.digest:
            found = digest_now.short if digest_now else "no such file"
            changed.append(Misfit(what=f"{kind} {file.name}", locked=file.digest.short, found=found))
    return changed


def _digester(root: Path) -> Callable[[str], Digest | None]:
    def digest_of(name: str) -> Digest | None:
        path = root / name
        try:
            return Digest.of_file(path) if path.is_file() else None
        except OSError as error:
            raise explain(error, f"cannot read {name}") from error

    return digest_of


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_show(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)
