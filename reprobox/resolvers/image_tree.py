"""An image's layers -> what lies in it: its Pythons and a few files, read as a stream, never unpacked on the disk."""

from __future__ import annotations

import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

from reprobox.errors import RegistryFailed, ResolutionFailed
from reprobox.model import MEBIBYTE, PythonVersion
from reprobox.registry import Descriptor, Reference

APT = "usr/bin/apt-get"
DPKG_STATUS = "var/lib/dpkg/status"
OS_RELEASES = ("etc/os-release", "usr/lib/os-release")

_PYTHON = re.compile(r"(?:.+/)?bin/python(\d+\.\d+)")
_STANDARD = re.compile(r"(.*?lib/python(?:\d+\.\d+)?)/ensurepip/__init__\.py")
_WHEEL = re.compile(r"(?:.*/ensurepip/_bundled|usr/share/python-wheels)/pip-[^/]+\.whl")


_READ = frozenset({DPKG_STATUS, *OS_RELEASES})
"""Files whose content is wanted too."""
_MOST = 64 * MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A path of interest in one layer: a file that is there, a link (``target``), or something taken away.

    ``unread``: why the content of a file that is read elsewhere could not be.
    """

    path: str
    kind: Literal["file", "link", "gone", "opaque"]
    target: str = ""
    content: bytes = b""
    unread: str = ""


def read_layer(blob: Path, layer: Descriptor, reference: Reference) -> tuple[Entry, ...]:
    """The paths of interest in a layer, links and deletions among them. Raises RegistryFailed for what is no layer."""
    try:
        with (
            blob.open("rb") as stream,
            _decompressed(stream, layer, reference) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            return tuple(entry for member in tar if (entry := _entry(member, tar)))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise RegistryFailed(
            f"the layer {layer.digest} of {reference} cannot be read: {error}", hint="choose another image"
        ) from None


def _decompressed(stream: IO[bytes], layer: Descriptor, reference: Reference) -> IO[bytes]:
    start = stream.read(4)
    stream.seek(0)
    if start[:2] == b"\x1f\x8b":
        import gzip  # noqa: PLC0415 (only where a layer has it)

        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if start == b"\x28\xb5\x2f\xfd":
        try:
            from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 (new in 3.14)
        except ImportError:
            raise ResolutionFailed(
                f"the layer {layer.digest.short} of {reference} is compressed with zstd, which this Python cannot read",
                hint="run reprobox with Python 3.14 or newer, or choose an image with gzip layers",
            ) from None
        return cast(IO[bytes], zstd.ZstdFile(stream))
    return stream


def _entry(member: tarfile.TarInfo, tar: tarfile.TarFile) -> Entry | None:
    path = posixpath.normpath(member.name.lstrip("/"))
    folder, _, name = path.rpartition("/")
    if name == ".wh..wh..opq":
        return Entry(path=folder, kind="opaque")
    if name.startswith(".wh."):
        return Entry(path=posixpath.join(folder, name[4:]), kind="gone")
    if member.issym():
        return Entry(
            path=path, kind="link", target=posixpath.normpath(posixpath.join("/", folder, member.linkname))[1:]
        )
    if _PYTHON.fullmatch(path):
        runs = (member.isfile() or member.islnk()) and member.mode & 0o111
        return Entry(path=path, kind="file" if runs else "gone")
    return _file(path, member, tar) if member.isfile() or member.islnk() else None


def _file(path: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> Entry | None:
    if path in _READ:
        if member.islnk():
            return Entry(path=path, kind="file", unread=f"it is a hard link to /{member.linkname.lstrip('/')}")
        if member.size > _MOST:
            return Entry(path=path, kind="file", unread=f"it is larger than {_MOST // MEBIBYTE} MiB")
        stream = tar.extractfile(member)
        return Entry(path=path, kind="file", content=stream.read() if stream else b"")
    wanted = path == APT or _STANDARD.fullmatch(path) or _WHEEL.fullmatch(path)
    return Entry(path=path, kind="file") if wanted else None


@dataclass
class ImageTree:
    """What is known of an image after its upper layers: what an upper layer says about a path, no lower one changes."""

    files: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    _hidden: set[str] = field(default_factory=set)
    _emptied: set[str] = field(default_factory=set)

    def add(self, entries: Iterable[Entry]) -> None:
        """The next lower layer. Its own deletions count for the layers below it only."""
        hidden: set[str] = set()
        emptied: set[str] = set()
        for entry in entries:
            if self._covered(entry.path):
                continue
            if entry.kind == "opaque":
                emptied.add(entry.path)
                continue
            hidden.add(entry.path)
            if entry.kind == "file":
                self.files.add(entry.path)
                self.contents[entry.path] = entry.content
                if entry.unread:
                    self.unread[entry.path] = entry.unread
            elif entry.kind == "link":
                self.links[entry.path] = entry.target
        self._hidden |= hidden
        self._emptied |= emptied

    def _covered(self, path: str) -> bool:
        """Whether upper layers have this path, or took away it or a folder above it."""
        if path in self._hidden:
            return True
        above = [path[: match.start()] for match in re.finditer("/", path)]
        return any(folder in self._hidden or folder in self._emptied for folder in above) or "" in self._emptied

    def real(self, path: str) -> str | None:
        """The file behind a path, through links in any of its parts; None where there is none."""
        for _ in range(40):
            if path in self.files:
                return path
            parts = path.split("/")
            for end in range(1, len(parts) + 1):
                target = self.links.get("/".join(parts[:end]))
                if target is not None:
                    path = posixpath.normpath(posixpath.join(target, *parts[end:]))
                    break
            else:
                return None
        return None

    def read(self, path: str) -> bytes | None:
        """The content of one of the files that are read, or None where there is none (yet).

        Raises RegistryFailed where it is there and cannot be read: an older one of a lower layer is not it.
        """
        real = self.real(path)
        if real in self.unread:
            raise RegistryFailed(
                f"the base image's /{real} cannot be read: {self.unread[real]}",
                hint="choose another image, or leave out `system`",
            )
        return None if real is None else self.contents[real]

    def pythons(self) -> dict[str, set[str]]:
        """Version -> paths, links included."""
        found: dict[str, set[str]] = {}
        for path in (*self.files, *self.links):
            match = _PYTHON.fullmatch(path)
            if match and self.real(path):
                found.setdefault(match.group(1), set()).add(path)
        return found

    def lacks(self, path: str, version: PythonVersion) -> str | None:
        """What this Python misses of what `python -m venv` needs, or None."""
        real = self.real(path) or path
        library = f"{posixpath.dirname(posixpath.dirname(real))}/lib/python{version}".lstrip("/")
        if self.real(f"{library}/ensurepip/__init__.py") is None:
            return "ensurepip"
        bundled = any(file.startswith(f"{library}/ensurepip/_bundled/pip-") for file in self.files)
        shared = any(file.startswith("usr/share/python-wheels/pip-") for file in self.files)
        return None if bundled or shared else "pip's wheel"

    def interpreter(self, version: PythonVersion, path: tuple[str, ...]) -> PurePosixPath | None:
        """The Python that the image's PATH finds first and that can make a virtual environment."""
        candidates = self.pythons().get(str(version), set())
        named = [f"{folder}/python{version}" for folder in path]
        ordered = [name for name in named if name in candidates or self.real(name)]
        ordered += sorted(name for name in candidates - set(ordered) if name.startswith(("usr/", "opt/")))
        for name in ordered:
            if self.lacks(name, version) is None:
                return PurePosixPath("/", name)
        return None

    def nothing(self, version: PythonVersion, reference: str) -> ResolutionFailed:
        pythons = self.pythons()
        if str(version) in pythons:
            path = min(pythons[str(version)])
            lacks = self.lacks(path, version)
            return ResolutionFailed(
                f"{reference} has Python {version} (/{path}) without {lacks}, so it cannot make a virtual environment",
                hint="on Debian and Ubuntu that is the package python3-venv; choose an image that has it, "
                f"such as python:{version}-slim, or a bootstrapped base",
            )
        there = ", ".join(
            f"{found} (/{min(paths)})" for found, paths in sorted(pythons.items(), key=lambda item: _number(item[0]))
        )
        return ResolutionFailed(
            f"{reference} has no Python {version}, " + (f"only {there}" if there else "and no other"),
            hint=f"choose python:{version}-slim, or a bootstrapped base such as {{bootstrap: debian, suite: bookworm}}",
        )


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
