"""Whole files or none: write beside, then rename; one process per project at a time; what killed ones left is swept up.

What a process works on it holds locked (flock), and a lock dies with its process: whatever is not locked any more
belongs to nobody.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from reprobox.errors import Busy, InvalidInput
from reprobox.model import MEBIBYTE, Digest

STATE_FOLDER = ".reprobox"
UNFINISHED = ".reprobox-new-"
"""How the name of a file begins that is not whole yet."""
LEFT_OVER = 60.0
"""Seconds: what is younger may have been made just now and not be locked yet."""

_PLACE_IS_FULL = {errno.ENOSPC, errno.EDQUOT}
_PLACE_IS_WRITTEN = _PLACE_IS_FULL | {errno.EROFS, errno.EISDIR, errno.EXDEV}


def explain(error: OSError, what: str) -> InvalidInput:
    """An operating system's refusal in the reader's words; of two names, the one that could not be written."""
    place = error.filename2 if error.filename2 and error.errno in _PLACE_IS_WRITTEN else error.filename
    known = not place or str(place) in what
    return InvalidInput(
        f"{what}: {error.strerror or error}" + ("" if known else f" ({place})"),
        hint="make room on the disk that holds it, then try again" if error.errno in _PLACE_IS_FULL else None,
    )


# --- reading ----------------------------------------------------------------------------------


def open_plain(path: Path) -> BinaryIO:
    """A file to read. Raises OSError for what is no regular file; a pipe, which may never say a word, too."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: Path, *, most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes. Raises OSError, for a longer one too."""
    with open_plain(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"Larger than {most // MEBIBYTE} MiB", str(path))
    return data


# --- writing ----------------------------------------------------------------------------------


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` under ``path``: at every moment the file is the old one or the new one, whole.

    Raises InvalidInput where the place cannot be written, with the old file left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, UNFINISHED)
        handle, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    except OSError as error:
        raise _cannot_write(error, path) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            _hold(handle)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _cannot_write(error, path) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` under ``path``, where nothing may be yet, not even a link: whole, or not at all.

    Raises InvalidInput where there is something, which stays as it is, or where the place cannot be written. Where a
    file system has no hard links, another process may put a file there in the last moment, and lose it.
    """
    try:
        with scratch(path.parent, UNFINISHED) as folder:
            write_whole(folder / path.name, data, mode=mode)
            try:
                os.link(folder / path.name, path)
            except FileExistsError:
                raise
            except OSError:  # no hard links here
                if os.path.lexists(path):
                    raise FileExistsError from None
                (folder / path.name).rename(path)
    except FileExistsError as error:
        raise InvalidInput(
            f"{path.name} is there already", hint="nothing is overwritten: move it away first"
        ) from error
    except OSError as error:
        raise explain(error, f"cannot write {path.name}") from error


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


def _cannot_write(error: OSError, path: Path) -> InvalidInput:
    if str(error.filename).startswith(str(path.parent / UNFINISHED)):
        error.filename = None  # a name that says nothing to the reader
    return explain(error, f"cannot write {path}")


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files of one meaning; the last one named is the one that makes the others count."""
    for name, data in files.items():
        write_whole(folder / name, data)


def copy_whole(source: Path, path: Path) -> None:
    """Put a copy of ``source`` under ``path``, whole or not at all. Raises InvalidInput."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch(path.parent, UNFINISHED) as folder:
            shutil.copyfile(source, folder / path.name)
            (folder / path.name).replace(path)
    except OSError as error:
        raise _cannot_write(error, path) from error


def require_writable(folder: Path, *, hint: str) -> None:
    """Raises InvalidInput where nothing can be written into ``folder``: better said before the work than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, f"the folder {folder} cannot be made") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        why = "this file system is read-only" if _is_read_only(folder) else "this user may not write there"
        raise InvalidInput(f"the folder {folder} cannot be written: {why}", hint=hint)


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def remove(path: Path) -> None:
    """Remove what stands under ``path``, whatever it is: a link itself, never what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder that is gone when the block is left; those of killed processes go too. Raises InvalidInput."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as error:
        raise explain(error, f"cannot work in {parent}") from error
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _hold(handle)
        yield folder
    except OSError as error:
        elsewhere = error.filename and not str(error.filename2 or error.filename).startswith(str(folder))
        if elsewhere or error.errno not in _PLACE_IS_FULL:
            raise
        raise explain(error, f"cannot work in {folder}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path, prefix: str) -> None:
    """Remove the files and folders of ``folder`` that killed processes left: named so, and locked by nobody."""
    with os.scandir(folder) as entries:
        names = [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]
    for path in names:
        try:
            if time.time() - path.lstat().st_mtime < LEFT_OVER:
                continue
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone already, or another user's
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        except OSError:
            pass  # at work
        finally:
            os.close(handle)


def _hold(handle: int) -> None:
    """Say that a file or folder is at work; where a file system knows no locks, its leftovers stay."""
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


# --- this checkout's state --------------------------------------------------------------------


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/reprobox`` or ``~/.cache/reprobox``. Raises InvalidInput where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "reprobox"  # noqa: PTH117
    except RuntimeError as error:
        raise InvalidInput("this user has no home folder", hint="set HOME, or XDG_CACHE_HOME") from error


def memory_place(root: Path) -> Path:
    """Where is kept what must not come with a checkout: in the user's cache. Raises InvalidInput."""
    return cache_folder() / "projects" / f"{root.name}-{Digest.of(os.fsencode(root)).short}"


def state_place(root: Path) -> Path:
    """Where this checkout's state is kept: in the project, or in the user's cache where that cannot be written.

    Raises InvalidInput where a checkout brings a link in its place: what is behind it would be written, and removed.
    """
    folder = root / STATE_FOLDER
    if folder.is_symlink():
        raise _is_a_link(folder, "folder")
    return folder if os.access(folder if folder.exists() else root, os.W_OK) else memory_place(root)


def _is_a_link(path: Path, kind: str) -> InvalidInput:
    return InvalidInput(f"{path} is a link", hint=f"remove it; reprobox makes the {kind} itself")


def state_folder(root: Path) -> Path:
    """The folder for this checkout's state, made and hidden from git when it is first needed."""
    folder = state_place(root)
    try:
        folder.mkdir(parents=folder.parent != root, exist_ok=True)
        ignore = folder / ".gitignore"
        if not os.path.lexists(ignore):  # a link that leads nowhere would be followed
            write_whole(ignore, b"*\n")
    except OSError as error:
        raise explain(error, f"cannot keep state in {folder}") from error
    return folder


@contextmanager
def exclusive(root: Path, *, waiting: Callable[[str], None] | None = None) -> Iterator[Path]:
    """Be the only writing reprobox in this project; yields the state folder.

    Where another one is at work, ``waiting`` is told who that is, and then it is waited for; without it that is
    Busy. The lock is the kernel's (flock), so a killed process leaves none behind.
    """
    folder = state_folder(root)
    busy = folder / "busy"
    try:
        handle = os.open(busy, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _is_a_link(busy, "file") from error
        raise explain(error, f"cannot work in {folder}") from error
    try:
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                other = f"another reprobox{_alive(os.pread(handle, 32, 0))}"
                if waiting is None:
                    raise Busy(f"{other} works in this project", hint="wait for it to end, or stop it") from error
                waiting(other)
                fcntl.flock(handle, fcntl.LOCK_EX)
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise explain(error, f"cannot work in {folder}") from error
        yield folder
    finally:
        os.close(handle)


def _alive(process: bytes) -> str:
    """`` (process 123)``, where there is such a process; a dead one's number tells nobody anything."""
    known = process.isdigit() and Path("/proc", process.decode()).exists()
    return f" (process {process.decode()})" if known else ""
