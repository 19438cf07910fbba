"""A folder -> the files that lint looks at. With git those that it tracks; else those of the image, up to a bound."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from reprobox import tree
from reprobox.config import CONFIG_FILE, is_own
from reprobox.errors import InvalidInput
from reprobox.lint.findings import ignored

LARGEST = 2 * 1024 * 1024
"""Bytes: a larger file is not read."""
MOST_FILES = 100_000

_NO_CODE = frozenset({"env", "node_modules", "site-packages"})
_SHEBANG = re.compile(rb"#!.*\b(?:ba|da|z|k)?sh\b")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file: its path below the root, its bytes where lint reads such files, where it points if it is a link.

    ``foreign``: in a folder whose code is not the project's; what it is counts, since it goes into the image too.
    """

    path: PurePosixPath
    data: bytes | None = None
    link: str | None = None
    foreign: bool = False

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def text(self) -> str:
        """The bytes as UTF-8; what is not is replaced, and has been noted as not read."""
        return (self.data or b"").decode("utf-8-sig", "replace").replace("\r\n", "\n")

    @cached_property
    def silenced(self) -> Mapping[int, frozenset[str]]:
        """By line the rules that a comment there silences; one on a line of its own speaks for the next line too."""
        found: dict[int, frozenset[str]] = {}
        for number, line in enumerate(self.text.split("\n"), 1):
            if rules := ignored(line):
                found[number] = found.get(number, frozenset()) | rules
                if line.lstrip().startswith("#"):
                    found[number + 1] = rules
        return found

    def silences(self, rule: str, line: int | None) -> bool:
        return line is not None and rule in self.silenced.get(line, frozenset())

    def line_with(self, text: str) -> int:
        """The first line that holds ``text``, else the first line."""
        return next((number for number, line in enumerate(self.text.split("\n"), 1) if text in line), 1)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What is looked at. ``unread`` says why a file (or what is beyond it) was not read."""

    root: Path
    sources: tuple[Source, ...]
    git: bool
    unread: tuple[tuple[str, str], ...] = ()
    by_path: Mapping[PurePosixPath, Source] = field(default_factory=dict)

    @property
    def code(self) -> tuple[Source, ...]:
        """What is not ``foreign``."""
        return tuple(source for source in self.sources if not source.foreign)

    def find(self, path: PurePosixPath) -> Source | None:
        """The file of this path among ``code``, ``..`` resolved."""
        found = self.by_path.get(PurePosixPath(os.path.normpath(path)))
        return found if found and not found.foreign else None

    def has(self, path: PurePosixPath) -> bool:
        return self.find(path) is not None


def read(root: Path, paths: Iterable[Path] = ()) -> tuple[Folder, frozenset[PurePosixPath]]:
    """The project's files, and those of them that were asked for (all of them without ``paths``).

    Raises InvalidInput for a path that is not there or not below the root.
    """
    unread: list[tuple[str, str]] = []
    tracked = tree.tracked(root)
    names = set(_walk(root, unread) if tracked is None else tracked)
    asked = [_below(root, path) for path in paths]
    named = [PurePosixPath(CONFIG_FILE), *asked]  # seen even where git does not track them
    foreign = _foreign(names) if tracked is None else frozenset()
    foreign -= set(named)
    names |= {path for path in named if os.path.lexists(root / path) and not (root / path).is_dir()}

    def wanted(path: PurePosixPath) -> bool:
        return not asked or any(path.is_relative_to(some) for some in asked)

    sources = []
    for path in sorted(names, key=str):
        if not is_own(path) or path == PurePosixPath(CONFIG_FILE):
            source = _source(root, path, unread, foreign=path in foreign)
            sources += [source] if source else []
    folder = Folder(
        root=root,
        sources=tuple(sources),
        git=tracked is not None,
        unread=tuple(sorted(one for one in unread if wanted(PurePosixPath(one[0])))),
        by_path={source.path: source for source in sources},
    )
    return folder, frozenset(filter(wanted, folder.by_path))


def kind(path: PurePosixPath) -> str:
    """What lint takes a file for by its name: ``python``, ``notebook``, ``shell``, ... or nothing."""
    name = path.name.lower()
    where = f"{path.parent.name.lower()}/{name}"
    return next((known for pattern, known in _KINDS if pattern.fullmatch(where)), "")


_KINDS = tuple(
    (re.compile(rf"(?:.*/)?(?:{names})"), known)
    for names, known in (
        (r"setup\.(?:py|cfg)", "setup"),
        (r"pyproject\.toml", "pyproject"),
        (r"pipfile", "pipfile"),
        (r".+\.py", "python"),
        (r".+\.ipynb", "notebook"),
        (r".+\.(?:sh|bash)", "shell"),
        (r".+\.def|singularity(?:\.[\w.-]+)?", "definition"),
        (r"(?:.+\.)?(?:docker|container)file|(?:docker|container)file\.(?!dockerignore$).+", "dockerfile"),
        (r"(?:.*[-_.])?requirements?(?:[-_.].*)?\.(?:txt|in|pip)", "requirements"),
        (r"requirements/.+\.(?:txt|in)|constraints?(?:[-_.].*)?\.(?:txt|in)", "requirements"),
        (r"(?:conda[-_])?env(?:ironment)?(?:[-_.].*)?\.ya?ml", "conda"),
    )
)


# --- the disk ---------------------------------------------------------------------------------


def _below(root: Path, path: Path) -> PurePosixPath:
    full = Path(os.path.normpath(root / path))
    if not os.path.lexists(full):
        raise InvalidInput(f"there is no {path}", hint="name files or folders of the project")
    if not full.is_relative_to(root):
        raise InvalidInput(f"{path} is not in {root}", hint="name files or folders of the project")
    return PurePosixPath(full.relative_to(root))


def _walk(root: Path, unread: list[tuple[str, str]]) -> Iterator[PurePosixPath]:
    """What ``tree`` would take, but what it refuses is noted."""

    def note(name: str, error: InvalidInput) -> None:
        cause = error.__cause__
        reason = "its name is not UTF-8" if isinstance(cause, UnicodeDecodeError) else "its name holds a line break"
        if isinstance(cause, OSError):
            reason = cause.strerror or "cannot be read"
        unread.append((name if name.isprintable() else ascii(name), reason))

    for count, path in enumerate(tree.walk(root, refuse=note), 1):
        if count > MOST_FILES:
            unread.append((str(path.parent), f"only {MOST_FILES} files are looked at; the rest is not"))
            return
        yield path


def _foreign(names: Iterable[PurePosixPath]) -> frozenset[PurePosixPath]:
    """What lies in hidden folders, virtual environments and installed packages."""
    environments = {path.parent for path in names if path.name == "pyvenv.cfg"}
    return frozenset(
        path
        for path in names
        if any(part.startswith(".") or part in _NO_CODE for part in path.parts[:-1])
        or not environments.isdisjoint(path.parents)
    )


def _source(root: Path, path: PurePosixPath, unread: list[tuple[str, str]], *, foreign: bool) -> Source | None:
    try:
        status = (root / path).lstat()
        if stat.S_ISLNK(status.st_mode):
            return Source(path=path, link=str((root / path).readlink()), foreign=foreign)
        if not stat.S_ISREG(status.st_mode):
            if not stat.S_ISDIR(status.st_mode):
                unread.append((str(path), "is not a regular file"))
            return None
        wanted = not foreign and (kind(path) or path.name == CONFIG_FILE)
        told = status.st_size < tree.POINTER_SIZE or path.suffix in {".pem", ".key"} or path.name.startswith("id_")
        script = not foreign and not path.suffix and status.st_size < LARGEST
        if wanted and status.st_size > LARGEST:
            unread.append((str(path), f"is larger than {LARGEST // 1024 // 1024} MiB"))
        elif wanted or told or (script and _is_script(root / path)):
            return Source(path=path, data=_read(root / path), foreign=foreign)
    except FileNotFoundError:
        return None
    except OSError as error:
        unread.append((str(path), error.strerror or "cannot be read"))
    return Source(path=path, foreign=foreign)


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(LARGEST)


def _is_script(path: Path) -> bool:
    with path.open("rb") as stream:
        return _SHEBANG.match(stream.readline(200)) is not None


def is_shell(source: Source) -> bool:
    """Whether a file is a shell script: by its name, or without one by its first line."""
    if kind(source.path):
        return kind(source.path) == "shell"
    return not source.path.suffix and source.data is not None and _SHEBANG.match(source.data) is not None
