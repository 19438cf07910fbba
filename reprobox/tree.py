"""A checkout -> ProjectTree: which files are the project's, and what is in them.

In a git checkout these are the tracked files as they are in the work tree; elsewhere all files but those that
nobody would commit. Either way reprobox's own files are left out, so that writing a lock or recording a baseline
does not change the image.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from reprobox import proc
from reprobox.config import OWN_FILES, OWN_FOLDERS, RENDERED_FILES, is_own
from reprobox.errors import InvalidInput, ProgramFailed
from reprobox.files import STATE_FOLDER, explain, read_plain, state_folder, state_place, write_whole
from reprobox.model import MEBIBYTE, SMALL_INPUT, Digest, Project, ProjectTree, TreeFile

__all__ = [
    "OWN_FILES", "OWN_FOLDERS", "RENDERED_FILES", "RENDERED_MARK", "digests", "git", "is_own", "is_rendered", "read",
    "tracked", "walk",
]  # fmt: skip

RENDERED_MARK = b"rendered by reprobox"
"""What the first line of a rendered file holds; a Dockerfile without it is the user's own."""

NEVER_COMMITTED = frozenset(
    {
        STATE_FOLDER,
        ".git",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".venv",
        "__pycache__",
        "venv",
    }
)
"""Names that are left out, at any depth, where no git says what belongs to the project."""

POINTER_SIZE = 1024
"""Bytes: a git LFS pointer is smaller than this."""
POINTER = b"version https://git-lfs.github.com/spec/"

DIGESTS_FILE = "digests.json"
RACY = 2 * 10**9
"""Nanoseconds: a file changed as recently as this may change again without its times showing it."""

_SUBMODULE = b"160000"

# What ties git to another place than the folder it is started in, as in a hook.
_PLACE_VARIABLES = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)


def read(project: Project) -> ProjectTree:
    """The files of the project's checkout, sorted by the bytes of their paths, without reprobox's own.

    Smoke inputs are among them where they are tracked or smaller than SMALL_INPUT. Digests come from the cache
    in ``.reprobox`` where a file is unchanged since. Raises InvalidInput for what cannot be part of a tree (named),
    ProgramMissing and ProgramFailed where there is a git checkout that git cannot or will not read.
    """
    root = project.root
    prefix = _prefix(root)
    inputs = _inputs(project)
    if prefix is None:
        names = [path for path in walk(root, but=set(_outputs(project))) if path not in inputs]
    else:
        names = _tracked(root, PurePosixPath())
        if not names:
            raise InvalidInput(
                f"git tracks no file in {root}", hint="`git add` the project's files; what git ignores is not seen"
            )
    outputs = set(_outputs(project))
    own = {path for path in names if _left_out(project, path) or outputs & {path, *path.parents}}
    entries = _entries(root, [path for path in names if path not in own], inputs)
    with _Digests(root) as known:
        files = tuple(_file(root, path, entries[path], known) for path in sorted(entries, key=_path_bytes))
        known.keep([*entries, *inputs])
    if prefix is None:
        return ProjectTree(files=files)
    return ProjectTree(files=files, dirty=_dirty(project, prefix, own), revision=_revision(root))


def digests(root: Path, paths: Iterable[PurePosixPath]) -> Mapping[PurePosixPath, Digest]:
    """The digests of files below ``root``, from the same cache. Raises InvalidInput for what is no regular file."""
    with _Digests(root) as known:
        return {path: known.of(path, _status(root, path)) for path in sorted(paths, key=_path_bytes)}


def tracked(root: Path) -> tuple[PurePosixPath, ...] | None:
    """What git tracks below ``root``, or None where there is no git. Raises as ``read`` does."""
    return None if _prefix(root) is None else tuple(_tracked(root, PurePosixPath()))


def left_out(project: Project) -> tuple[PurePosixPath, ...]:
    """What lies in the checkout and not in the image, sorted: declared outputs that git tracks, and files that git
    neither tracks nor ignores. Empty where there is no git. Raises as ``read`` does.
    """
    names = tracked(project.root)
    if names is None:
        return ()
    outputs = set(_outputs(project))
    listed = git(project.root, "ls-files", "--others", "--exclude-standard", "-z").stdout.split(b"\0")
    others = {_checked(name) for name in listed if name}
    inside = {path for path in names if outputs & {path, *path.parents}}
    return tuple(sorted(inside | {path for path in others if not is_own(path)}, key=_path_bytes))


def _raise(name: str, error: InvalidInput) -> None:
    raise error


def walk(
    root: Path, *, but: Container[PurePosixPath] = (), refuse: Callable[[str, InvalidInput], None] = _raise
) -> Iterator[PurePosixPath]:
    """All files and links below a folder that no git looks after, ``but`` some, and never what nobody would commit.

    ``refuse`` is told each path that cannot be one of a tree, and why; by default it raises InvalidInput.
    """
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(os.fsencode(root), folder)) as found:  # noqa: PTH118
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            name = os.fsdecode(folder)
            refused = explain(error, f"cannot read the folder {name or root}")
            refused.__cause__ = error
            refuse(name or ".", refused)
            continue
        for entry in entries:
            if os.fsdecode(entry.name) in NEVER_COMMITTED:
                continue
            below = folder + b"/" + entry.name if folder else entry.name
            try:
                path = _checked(below)
            except InvalidInput as error:
                refuse(os.fsdecode(below), error)
                continue
            if path in but or (is_own(path) and path.name in OWN_FOLDERS):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(below)
            else:
                yield path


# --- which files ------------------------------------------------------------------------------


def _left_out(project: Project, path: PurePosixPath) -> bool:
    """Whether a path is reprobox's own; an environment file that the user names is the project's."""
    if path == project.environment.path:
        return False
    return is_own(path) or (len(path.parts) == 1 and path.name in RENDERED_FILES and is_rendered(project.root / path))


def is_rendered(path: Path) -> bool:
    """Whether there is a file that reprobox has rendered. Raises InvalidInput where it cannot be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as stream:
            return RENDERED_MARK in stream.readline(POINTER_SIZE)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, f"cannot read {path.name}") from error


def _outputs(project: Project) -> Iterator[PurePosixPath]:
    if project.smoke is not None:
        yield from (output.path for output in project.smoke.outputs)


def _inputs(project: Project) -> dict[PurePosixPath, os.stat_result]:
    """The declared inputs, each with its status (links followed)."""
    paths = project.smoke.inputs if project.smoke is not None else ()
    missing = [path for path in paths if not os.path.lexists(project.root / path)]
    if missing:
        raise InvalidInput(
            f"smoke.inputs names what does not exist: {_listed(missing)}",
            hint="fetch or generate the data first, or correct the path",
        )
    return {path: _status(project.root, path) for path in paths}


def _status(root: Path, path: PurePosixPath) -> os.stat_result:
    """The status of a regular file that a user names, links followed."""
    try:
        status = (root / path).stat()
    except OSError as error:
        raise explain(error, f"cannot read {path}") from error
    if stat.S_ISDIR(status.st_mode):
        raise InvalidInput(f"{path} is a folder, where a file is meant", hint="name the files in it one by one")
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{path} is not a regular file", hint="only the bytes of a file can be held by a lock")
    return status


def _entries(
    root: Path, names: Iterable[PurePosixPath], inputs: Mapping[PurePosixPath, os.stat_result]
) -> dict[PurePosixPath, os.stat_result]:
    """What there is of ``names``, and the small ones of ``inputs``, each with its status."""
    entries: dict[PurePosixPath, os.stat_result] = {}
    folders: dict[PurePosixPath, bool] = {}
    special: list[PurePosixPath] = []
    for path in names:
        status = _lstat(root, path, folders)
        if status is None or stat.S_ISDIR(status.st_mode):
            continue
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            special.append(path)
        entries[path] = status
    if special:
        raise InvalidInput(
            f"not a file, folder or link: {_listed(special)}", hint="remove it; an image cannot carry it"
        )
    for path, status in inputs.items():
        if path in entries or status.st_size >= SMALL_INPUT:
            continue
        link = next((parent for parent in path.parents if parent in entries), None)
        if link is not None:
            raise InvalidInput(
                f"the input {path} is reached through the link {link}", hint="name the file by its own path"
            )
        entries[path] = status
    return entries


def _lstat(root: Path, path: PurePosixPath, folders: dict[PurePosixPath, bool]) -> os.stat_result | None:
    """The status of a path itself; none where it is gone, or a folder above it has become something else."""
    parent = path.parent
    if parent.parts and parent not in folders:
        above = _lstat(root, parent, folders)
        folders[parent] = above is not None and stat.S_ISDIR(above.st_mode)
    if parent.parts and not folders[parent]:
        return None
    try:
        return (root / path).lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, f"cannot read {path}") from error


def _checked(name: bytes) -> PurePosixPath:
    """A path as the operating system has it. Refuses, by name, what no other machine could be told."""
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the name of a file is not UTF-8: {name!r}", hint="rename the file") from error
    if "\n" in text or "\r" in text:
        raise InvalidInput(f"the name of a file holds a line break: {text!r}", hint="rename the file")
    return PurePosixPath(text)


def _path_bytes(path: PurePosixPath) -> bytes:
    return str(path).encode()


def _listed(paths: Iterable[PurePosixPath]) -> str:
    names = sorted(str(path) for path in paths)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# --- git --------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str, check: bool = True) -> proc.Finished:
    """git about the checkout of ``folder``, whatever the environment (a hook's, say) calls the current one.

    Raises ProgramMissing, and with ``check`` ProgramFailed.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _PLACE_VARIABLES}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return proc.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            check=check,
            hint="this is a git checkout, and git says which files are the project's: install git",
        )
    except ProgramFailed as error:
        _refused(error.code, error.tail)


def _refused(code: int, tail: str) -> NoReturn:
    hint = "git must be able to read this checkout"
    if "dubious ownership" in tail:
        hint = "the checkout belongs to another user: become its owner, or trust it with the command that git names"
    elif "not a git repository" in tail:
        hint = "the checkout's .git is damaged or points nowhere: repair it, or remove it to go without git"
    raise ProgramFailed("git", code, tail, hint=hint)


def _prefix(root: Path) -> bytes | None:
    """The path of ``root`` inside its git checkout, ending in a slash if not empty; None where there is no git."""
    if not any(os.path.lexists(folder / ".git") for folder in (root, *root.parents)):
        return None
    found = git(root, "rev-parse", "--show-prefix", check=False)
    if found.code == 0:
        return found.stdout.removesuffix(b"\n")
    # In these words git has looked and found none: a `.git` further up is something else.
    if "not a git repository (or any" in found.tail and not os.path.lexists(root / ".git"):
        return None
    _refused(found.code, found.tail)


def _tracked(root: Path, folder: PurePosixPath) -> list[PurePosixPath]:
    """What git tracks in a checkout below ``root``, and in its submodules."""
    found: dict[PurePosixPath, None] = {}
    for line in git(root / folder, "ls-files", "-s", "-z").stdout.split(b"\0"):
        if not line:
            continue
        facts, _, name = line.partition(b"\t")
        path = folder / _checked(name)
        if facts.startswith(_SUBMODULE):
            if not os.path.lexists(root / path / ".git"):
                raise InvalidInput(
                    f"the submodule {path} is not here", hint="run `git submodule update --init --recursive`"
                )
            found |= dict.fromkeys(_tracked(root, path))
        else:
            found[path] = None
    return list(found)


def _dirty(project: Project, prefix: bytes, own: set[PurePosixPath]) -> bool:
    """Whether a file of the project's differs from the last commit; reprobox's own files do not count."""
    status = git(
        project.root,
        "status",
        "--porcelain=v1",
        "-z",
        "--no-renames",
        "--untracked-files=no",
        "--ignore-submodules=untracked",
        "--",
        ".",
    )
    names = (line[3:].removeprefix(prefix).decode(errors="replace") for line in status.stdout.split(b"\0") if line)
    return any(path not in own and not _left_out(project, path) for path in map(PurePosixPath, names))


def _revision(root: Path) -> str | None:
    found = git(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False)
    return found.text.strip() if found.code == 0 else None


# --- what is in them --------------------------------------------------------------------------


def _file(root: Path, path: PurePosixPath, status: os.stat_result, known: _Digests) -> TreeFile:
    if stat.S_ISLNK(status.st_mode):
        target = _target(root, path)
        data = target.encode()
        return TreeFile(path=path, executable=False, digest=Digest.of(data), size=len(data), link=target)
    digest = known.of(path, status)
    return TreeFile(path=path, executable=bool(status.st_mode & stat.S_IXUSR), digest=digest, size=status.st_size)


def _target(root: Path, path: PurePosixPath) -> str:
    """Where a link points, if that is inside the tree and can be written down."""
    try:
        raw = os.readlink(os.fsencode(root / path))  # noqa: PTH115
    except OSError as error:
        raise explain(error, f"cannot read the link {path}") from error
    try:
        target = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the link {path} points to a name that is not UTF-8: {raw!r}") from error
    if "\n" in target or "\r" in target:
        raise InvalidInput(f"the link {path} points to a name with a line break: {target!r}")
    hint = "replace the link by a relative one inside the project, or by the file itself"
    if target.startswith("/"):
        raise InvalidInput(f"the link {path} is absolute: {target}", hint=hint)
    # Twice: as it reads, and as this machine resolves it, since another link on its way may lead out.
    reads = os.path.normpath(path.parent / target)
    leads = os.path.realpath((root / path).parent / target)
    if reads == ".." or reads.startswith("../") or not Path(leads).is_relative_to(os.path.realpath(root)):
        raise InvalidInput(f"the link {path} leads out of the project: {target}", hint=hint)
    return target


@dataclass
class _Digests:
    """Digests by path, remembered in the checkout's state as long as a file's status is what it was."""

    root: Path
    known: dict[str, list[int | str]] = field(default_factory=dict)
    changed: bool = False

    def __enter__(self) -> _Digests:
        try:
            data = read_plain(state_place(self.root) / DIGESTS_FILE, most=64 * MEBIBYTE)
            plain = json.loads(data)
        except (OSError, ValueError, RecursionError):
            plain = None  # none yet, or damaged: it is only a memory
        if isinstance(plain, dict):
            self.known = {path: entry for path, entry in plain.items() if _is_entry(entry)}
        return self

    def __exit__(self, *_: object) -> None:
        if not self.changed:
            return
        data = json.dumps(self.known, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        with contextlib.suppress(InvalidInput):  # what cannot be written is read all the same, only slower
            write_whole(state_folder(self.root) / DIGESTS_FILE, data)

    def of(self, path: PurePosixPath, status: os.stat_result) -> Digest:
        """The digest of a regular file with this status."""
        name = str(path)
        entry = self.known.get(name)
        if entry is not None and entry[:-1] == _signs(status):
            return Digest(str(entry[-1]))
        now = time.time_ns()
        digest = self._read(path, status)
        if now - max(status.st_mtime_ns, status.st_ctime_ns) > RACY:
            self.known[name] = [*_signs(status), digest.hex]
            self.changed = True
        elif entry is not None:
            del self.known[name]
            self.changed = True
        return digest

    def _read(self, path: PurePosixPath, status: os.stat_result) -> Digest:
        try:
            with (self.root / path).open("rb") as stream:
                if status.st_size < POINTER_SIZE and stream.read(len(POINTER)) == POINTER:
                    raise InvalidInput(
                        f"{path} is a git LFS pointer, and not the file itself", hint="run `git lfs pull`"
                    )
                stream.seek(0)
                digest = Digest(hashlib.file_digest(stream, "sha256").hexdigest())
                after = os.fstat(stream.fileno())
        except OSError as error:
            raise explain(error, f"cannot read {path}") from error
        if _signs(after) != _signs(status):
            raise InvalidInput(f"{path} changed while it was read", hint="end what writes it, then try again")
        return digest

    def keep(self, paths: Iterable[PurePosixPath]) -> None:
        """Forget all other paths."""
        names = {str(path) for path in paths}
        if not names >= self.known.keys():
            self.known = {name: entry for name, entry in self.known.items() if name in names}
            self.changed = True


def _signs(status: os.stat_result) -> list[int | str]:
    """What of a file's status changes with its content: size, times in nanoseconds, and which file it is."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino]


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 6:
        return False
    *signs, digest = entry
    if not all(type(sign) is int for sign in signs) or not isinstance(digest, str):
        return False
    try:
        Digest(digest)
    except ValueError:
        return False
    return True
