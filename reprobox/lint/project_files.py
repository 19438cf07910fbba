"""The project's files as such: secrets, junk, pointers and links that would go into the image, or stop it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from reprobox.lint.findings import Finding
from reprobox.lint.sources import Folder, Source
from reprobox.tree import POINTER

_SECRET = re.compile(
    r"\.env(?:\.(?!example$|sample$|template$|dist$)\w+)?|id_(?:rsa|dsa|ecdsa|ed25519)|_?\.?netrc|\.pypirc"
    r"|\.git-credentials|\.Renviron|kaggle\.json|.*\.(?:kdbx|p12|pfx)"
)
_SECRET_FOLDERS = frozenset({".aws", ".gnupg", ".ssh"})
_KEY = b"PRIVATE KEY-----"
_JUNK = re.compile(r".*\.py[co]|\.DS_Store|Thumbs\.db|desktop\.ini|.*\.sw[op]|.*~")
_JUNK_FOLDERS = frozenset({"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache"})


def check(folder: Folder) -> Iterator[Finding]:
    """The findings about files by their names, and by what they are."""
    junk = [source for source in folder.sources if _is_junk(source.path)]
    if junk:
        more = f" and {len(junk) - 1} more" if len(junk) > 1 else ""
        yield _finding(
            junk[0].path,
            "junk-file",
            f"this{more} would go into the image, and {_differs(junk[0].path)}",
            _leave_out(folder),
        )
    for source in folder.sources:
        if _is_secret(source):
            yield _finding(source.path, "secret-file", "a secret would go into the image", _leave_out(folder))
        if source.data is not None and source.data.startswith(POINTER):
            yield _finding(
                source.path, "lfs-pointer", "a git LFS pointer, and not the file itself", "run `git lfs pull`"
            )
        if source.link is not None and _leaves(folder.root, source):
            yield _finding(
                source.path,
                "link-out",
                f"a link that leads out of the project: {source.link}",
                "replace it by a relative link inside the project, or by the file itself",
            )


def _is_secret(source: Source) -> bool:
    path = source.path
    if _SECRET_FOLDERS & set(path.parts[:-1]) or (path.parts[-2:] == (".docker", "config.json")):
        return True
    if path.suffix in {".pem", ".key"} or path.name.startswith("id_"):
        return source.data is not None and _KEY in source.data
    return source.link is None and _SECRET.fullmatch(path.name) is not None


def _is_junk(path: PurePosixPath) -> bool:
    return _JUNK.fullmatch(path.name) is not None or bool(_JUNK_FOLDERS & set(path.parts))


def _differs(path: PurePosixPath) -> str:
    return "holds times of the machine" if path.suffix in {".pyc", ".pyo"} else "differs between machines"


def _leave_out(folder: Folder) -> str:
    if folder.git:
        return "`git rm --cached` it, and name it in .gitignore"
    return "move it out of the folder: without git, every file here goes into the image"


def _leaves(root: Path, source: Source) -> bool:
    target = source.link or ""
    reads = os.path.normpath(source.path.parent / target)
    if target.startswith("/") or reads == ".." or reads.startswith("../"):
        return True
    try:
        leads = os.path.realpath((root / source.path.parent) / target)
    except OSError:
        return True
    return not Path(leads).is_relative_to(os.path.realpath(root))


def _finding(path: PurePosixPath, rule: str, what: str, todo: str) -> Finding:
    return Finding(rule=rule, file=str(path), line=None, what=what, todo=todo)
