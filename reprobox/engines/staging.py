"""Context -> a folder that an engine's builder reads; outputs -> files of ours, confined and hashed once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, cast

from reprobox import cache
from reprobox.errors import OutputRefused
from reprobox.files import explain, remove
from reprobox.model import MEBIBYTE, Context, Digest, OutputFile

OUTPUT_LIMIT = 4096 * MEBIBYTE
"""No run's outputs may be larger than this together, in bytes."""
OUTPUT_COUNT = 10_000
"""Nor more files than this."""

_CHUNK = MEBIBYTE


def lay_out(context: Context, folder: Path) -> None:
    """Write ``folder/Dockerfile`` and ``folder/context``, anew; files of the cache are linked, others copied."""
    remove(folder)
    root = folder / "context"
    try:
        root.mkdir(parents=True)
        (folder / "Dockerfile").write_text(context.dockerfile, encoding="utf-8")
        (folder / "Dockerfile.dockerignore").write_text("", encoding="utf-8")  # not the project's own .dockerignore
        for path, content in context.files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                place.write_bytes(content)
            elif content.is_relative_to(cache.folder()):
                link_or_copy(content, place)
            else:  # a copy: what the user edits from now on is not what is built
                shutil.copyfile(content, place, follow_symlinks=False)
                shutil.copymode(content, place, follow_symlinks=False)
        for path, target in context.links.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
    except OSError as error:
        raise explain(error, f"cannot lay out the build in {folder}") from error


def link_or_copy(source: Path, place: Path) -> None:
    """The same file under another name: a hard link, or a copy where there can be none."""
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, place, follow_symlinks=False)


def _told(declared: PurePosixPath, name: str) -> str:
    """A file's name as a baseline and a report can hold it."""
    if name.isprintable() and not any("\ud800" <= character <= "\udfff" for character in name):
        return name
    shown = name.encode("utf-8", "surrogateescape")
    raise OutputRefused(
        f"output {declared}: the name of a file in it is no printable text: {shown!r}",
        hint="let the command give its files plain names",
    )


class _Stream:
    """Chunks of bytes as the readable object that tarfile wants."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def take_out(
    declared: PurePosixPath, archive: Iterable[bytes], into: Path, *, limit: int = OUTPUT_LIMIT
) -> list[OutputFile]:
    """Unpack the tar of one declared output below ``into``, hashing each file as it is written.

    The archive's first part is the output itself, named by its last component. Only plain files and folders
    come out; a link, a device, a name that leaves the folder, or more than ``limit`` bytes is OutputRefused.
    """
    taken: list[OutputFile] = []
    total = 0
    try:
        with tarfile.open(fileobj=cast(IO[bytes], _Stream(archive)), mode="r|", bufsize=_CHUNK) as tar:
            for member in tar:
                inner = PurePosixPath(_told(declared, member.name))
                if inner.is_absolute() or ".." in inner.parts or inner.parts[:1] != (declared.name,):
                    raise OutputRefused(f"output {declared}: archive member {member.name!r} leaves its folder")
                path = declared.parent / inner
                if member.isdir():
                    continue
                if not member.isreg():
                    raise OutputRefused(
                        f"output {path} is {_kind(member)}; only plain files and folders are taken out",
                        hint="let the command write a plain file",
                    )
                total += member.size
                if total > limit or len(taken) >= OUTPUT_COUNT:
                    raise OutputRefused(
                        f"output {declared} is larger than {limit // MEBIBYTE} MiB, or more than {OUTPUT_COUNT} files",
                        hint="declare fewer or smaller outputs",
                    )
                source = tar.extractfile(member)
                assert source is not None
                taken.append(_write(source, path, into))
    except tarfile.TarError as error:
        raise OutputRefused(f"output {declared} could not be read from the engine: {error}") from error
    return taken


def _write(source: IO[bytes], path: PurePosixPath, into: Path) -> OutputFile:
    place = into / path
    running, size = hashlib.sha256(), 0
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            while chunk := source.read(_CHUNK):
                running.update(chunk)
                size += len(chunk)
                stream.write(chunk)
    except OSError as error:
        place.unlink(missing_ok=True)  # a part of it would only fill the disk
        raise explain(error, f"cannot keep output {path} in {into}") from error
    return OutputFile(path=path, digest=Digest(running.hexdigest()), size=size, stored=place)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"a link to {member.linkname}"
    if member.islnk():
        return f"a hard link to {member.linkname}"
    return "a device" if member.isdev() else "not a plain file"
