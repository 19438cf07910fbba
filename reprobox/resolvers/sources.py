"""What is built from source, an sdist or the project itself -> what building it needs. Runs nothing of it."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from reprobox import cache
from reprobox.credentials import redact
from reprobox.errors import InvalidInput, ReproboxError, ResolutionFailed, Unlockable
from reprobox.files import explain
from reprobox.model import MEBIBYTE, Platform
from reprobox.resolvers import pyproject, solver
from reprobox.resolvers.indexes import authorization
from reprobox.resolvers.pylock import PackageFile
from reprobox.resolvers.pyproject import Toml

LARGEST_SDIST = 2048 * MEBIBYTE
"""Bytes; a larger sdist is not fetched, nor read where it unpacks to more than twice of this."""
LARGEST_TOML = MEBIBYTE
"""Bytes; a larger pyproject.toml in an sdist is not read."""
_CHUNK = MEBIBYTE


@dataclass(frozen=True, kw_only=True)
class Source:
    """Something that is built: its name in messages, and the requirements of its build, sorted."""

    label: str
    requires: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.label} ({', '.join(self.requires)})"


def of_project(root: Path, folder: PurePosixPath) -> Source:
    """The project's own package in ``folder``. Raises InvalidInput and Unlockable, with file and line."""
    path = folder / "pyproject.toml"
    toml = pyproject.read(root, path) if (root / path).is_file() else Toml(file=str(path), data={}, text="")
    return Source(label="the project itself", requires=pyproject.build_requirements(toml))


def of_sdist(sdist: PackageFile, path: Path) -> Source:
    """The sdist that lies at ``path``. Raises InvalidInput, also where it is no archive, and Unlockable."""
    data = read_pyproject(path, sdist.file)
    name = f"{sdist.file}/pyproject.toml"
    try:
        text = data.decode("utf-8-sig")
        toml = Toml(file=name, data=tomllib.loads(text), text=text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"{name} is not TOML: {error}", hint=_OTHER) from error
    return Source(label=f"{sdist.name} {sdist.version}", requires=pyproject.build_requirements(toml))


_OTHER = "pin another version, or build a wheel and name it as a local file"


# --- inside an sdist --------------------------------------------------------------------------


def read_pyproject(path: Path, name: str) -> bytes:
    """The pyproject.toml of an sdist (``name`` says of which kind), nothing where it has none.

    Nothing is unpacked. Raises InvalidInput for what is no archive, or one too large to read.
    """
    try:
        read = _from_zip if name.endswith(".zip") else _from_tar
        return read(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, gzip.BadGzipFile, RuntimeError, ValueError) as error:
        raise InvalidInput(f"{name} is not an archive that can be read: {error}", hint=_OTHER) from error
    except OSError as error:
        raise explain(error, f"cannot read {name}") from error


def _is_ours(name: str) -> bool:
    """Whether a member is the pyproject.toml in the one folder that an sdist holds."""
    parts = PurePosixPath(name).parts
    return len(parts) == 2 and parts[1] == "pyproject.toml"


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it is longer than it may be."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it unpacks to more than an sdist may hold")
        return data


def _from_tar(path: Path) -> bytes:
    with gzip.open(path) as whole:
        stream = cast(IO[bytes], _Bounded(cast(IO[bytes], whole), 2 * LARGEST_SDIST))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.isreg() and _is_ours(member.name):
                    if member.size > LARGEST_TOML:
                        raise ValueError("its pyproject.toml is too large")
                    content = archive.extractfile(member)
                    return content.read() if content else b""
    return b""


def _from_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if _is_ours(member.filename):
                if member.file_size > LARGEST_TOML:
                    raise ValueError("its pyproject.toml is too large")
                with archive.open(member) as content:
                    return content.read(LARGEST_TOML)
    return b""


# --- fetching one -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Brings sdists into the cache. ``known`` are URLs of indexes, with credentials; ``secrets`` are never printed."""

    known: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()

    def fetch(self, sdist: PackageFile) -> Path:
        """The sdist's bytes, from the cache or its origin, just those of its digest.

        Raises HashMismatch, ResolutionFailed where it cannot be had, InvalidInput where it cannot be read.
        """
        if cached := cache.get(sdist.digest):
            return cached
        if isinstance(sdist.origin, Path):
            return cache.put(_pieces(sdist.origin), expected=sdist.digest, what=sdist.file)[1]
        from reprobox.web import Web, WebFailed  # noqa: PLC0415 (slow to import)

        try:
            with Web(plain=True).request(sdist.origin, authorization(sdist.origin, self.known)) as answer:
                if answer.status != 200:
                    raise WebFailed(f"the server answers {answer.status}")
                chunks = _limited(answer.chunks(), sdist.file)
                return cache.put(chunks, expected=sdist.digest, what=sdist.file)[1]
        except WebFailed as error:
            reason = redact(error.reason, secrets=self.secrets)
            raise ResolutionFailed(
                f"cannot fetch {sdist.file}, which is built from source: {reason}",
                hint="check the network, HTTPS_PROXY, SSL_CERT_FILE and the credentials of the index (~/.netrc)",
            ) from error


def _limited(chunks: Iterable[bytes], file: str) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > LARGEST_SDIST:
            raise InvalidInput(f"{file} is larger than {LARGEST_SDIST // MEBIBYTE} MiB", hint=_OTHER)
        yield chunk


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


# --- failures ---------------------------------------------------------------------------------


def explain_failure(words: str, built: Sequence[Source]) -> ReproboxError:
    """An error from uv's words on the build requirements, naming all packages that ask."""
    asked = f"what building {' and '.join(map(str, built))} needs"
    error = solver.explain_failure(words, asked=asked)
    if re.search(r"no (?:usable )?wheels|no wheels with", words):
        return Unlockable(error.message, hint="what a build needs must have wheels: " + _OTHER)
    if len(built) > 1 and "unsatisfiable" in words:
        return ResolutionFailed(
            error.message, hint="all are built in one environment: pin another version of one, or one with a wheel"
        )
    return error


def no_wheel(file: PackageFile, platform: Platform, built: Sequence[Source]) -> Unlockable:
    """The error for a build requirement that would have to be built itself."""
    packages = " and ".join(map(str, built))
    return Unlockable(
        f"{file.name} {file.version}, needed to build {packages}, has no wheel for {platform.value}",
        hint="what a build needs must have wheels: " + _OTHER,
    )
