"""Content-addressed files under the user's cache folder; a file stands under its digest only when whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from reprobox.errors import HashMismatch
from reprobox.files import cache_folder as folder
from reprobox.files import explain, scratch
from reprobox.model import Digest

__all__ = ["folder", "get", "path_of", "put"]


def path_of(digest: Digest) -> Path:
    """Where the bytes of ``digest`` are, or would be."""
    return folder() / "sha256" / digest.hex[:2] / digest.hex


def get(digest: Digest) -> Path | None:
    """The cached file, its bytes checked against the digest; a damaged one is removed and counts as absent."""
    path = path_of(digest)
    if not path.is_file():
        return None
    if Digest.of_file(path) != digest:
        path.unlink(missing_ok=True)
        return None
    return path


def put(chunks: Iterable[bytes], *, expected: Digest | None = None, what: str = "file") -> tuple[Digest, Path]:
    """Store bytes under their own digest. Raises HashMismatch, keeping nothing, where it is not the expected one."""
    place = folder() / "tmp"
    with scratch(place, "incoming-") as incoming:
        try:
            running = hashlib.sha256()
            with (incoming / "file").open("xb") as stream:
                for chunk in chunks:
                    running.update(chunk)
                    stream.write(chunk)
            digest = Digest(running.hexdigest())
            if expected is not None and digest != expected:
                raise HashMismatch(
                    f"{what} is not what the lock names: expected {expected}, got {digest}",
                    hint="the file was changed at its source or damaged on the way; nothing of it was kept",
                )
            path = path_of(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            (incoming / "file").chmod(0o644)
            (incoming / "file").replace(path)
        except OSError as error:
            raise explain(error, f"cannot write the cache in {folder()}") from error
    return digest, path
