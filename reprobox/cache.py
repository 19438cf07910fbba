"""Content-addressed files under the user's cache folder; a file stands under its digest only when whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from reprobox.errors import HashMismatch
from reprobox.files import explain
from reprobox.model import Digest


def folder() -> Path:
    """``$XDG_CACHE_HOME/reprobox`` or ``~/.cache/reprobox``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "reprobox"


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
    place = folder() / "sha256"
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".incoming-", dir=place)
    except OSError as error:
        raise explain(error, f"cannot write the cache in {place}") from error
    try:
        running = hashlib.sha256()
        with os.fdopen(handle, "wb") as stream:
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
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        return digest, path
    except OSError as error:
        raise explain(error, f"cannot write the cache in {place}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
