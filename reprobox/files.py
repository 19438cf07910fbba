"""Whole files or none: write beside, then rename; one writing process per project at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reprobox.errors import Busy, InvalidInput

STATE_FOLDER = ".reprobox"


def explain(error: OSError, what: str) -> InvalidInput:
    """An operating system's refusal in the reader's words."""
    return InvalidInput(f"{what}: {error.strerror or error}" + (f" ({error.filename})" if error.filename else ""))


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` under ``path``: at every moment the file is the old one or the new one, whole.

    Raises InvalidInput where the place cannot be written, with the old file left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise explain(error, f"cannot write {path}") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise explain(error, f"cannot write {path}") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` under ``path``, where nothing may be yet, not even a link: whole, or not at all.

    Raises InvalidInput where there is something, which stays as it is, or where the place cannot be written.
    """
    try:
        path.open("xb").close()  # the name is ours from here on
    except FileExistsError as error:
        raise InvalidInput(
            f"{path.name} is there already", hint="nothing is overwritten: move it away first"
        ) from error
    except OSError as error:
        raise explain(error, f"cannot write {path.name}") from error
    try:
        write_whole(path, data, mode=mode)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_new_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files where none may be yet: all of them, in order, or none. Raises InvalidInput."""
    written: list[Path] = []
    try:
        for name, data in files.items():
            write_new(folder / name, data)
            written.append(folder / name)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files of one meaning; the last one named is the one that makes the others count."""
    for name, data in files.items():
        write_whole(folder / name, data)


def state_folder(root: Path) -> Path:
    """The project's folder for this checkout's state, made and hidden from git when it is first needed."""
    folder = root / STATE_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise explain(error, f"cannot keep state in {folder}") from error
    return folder


@contextmanager
def exclusive(root: Path) -> Iterator[Path]:
    """Be the only writing reprobox in this project; yields the state folder.

    The lock is the kernel's (flock), so a killed process leaves none behind. Raises Busy.
    """
    folder = state_folder(root)
    try:
        busy = (folder / "busy").open("a+")
    except OSError as error:
        raise explain(error, f"cannot work in {folder}") from error
    with busy as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            raise Busy(
                f"another reprobox works in this project (process {owner})",
                hint="wait for it to end, or stop it",
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield folder


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder that is gone when the block is left."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
