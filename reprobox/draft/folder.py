"""A folder's files, read within limits: no link is followed out of it, and what cannot be read is noted, not raised."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprobox.draft.facts import Note, Place
from reprobox.tree import NEVER_COMMITTED

if TYPE_CHECKING:
    from yaml.nodes import Node

MOST_BYTES = 16 * 1024 * 1024
"""Bytes: lock files and notebooks are smaller than this."""
MOST_YAML_BYTES = 256 * 1024
"""Bytes: reading YAML is slow, and environments by hand are short."""
MOST_FILES = 500
"""How many scripts and how many notebooks are looked at."""
DEEPEST = 3
"""How many folders below the project's own are looked into."""
_SKIPPED = NEVER_COMMITTED | {"node_modules", "site-packages", "build", "dist"}


class Folder:
    """The files of one folder. ``unseen`` grows by a note for each that is there and cannot be read."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.unseen: list[Note] = []

    def note(self, file: str, text: str, *, line: int | None = None, lacking: bool = False) -> None:
        """Remember that something was not seen, once."""
        note = Note(place=Place(file=file, line=line), text=text, lacking=lacking)
        if note not in self.unseen:
            self.unseen.append(note)

    @property
    def names(self) -> frozenset[str]:
        """What lies in the folder itself, of any kind, by its printable names."""
        return frozenset(path.name for path in self.root.iterdir() if path.name.isprintable())

    def has(self, file: str) -> bool:
        """Whether there is something of this name, readable or not."""
        return os.path.lexists(self.root / file)

    def data(self, file: str, *, most: int = MOST_BYTES) -> bytes | None:
        """The bytes of a file below the folder; None where there is none or it cannot be read, which is noted."""
        path = self.root / file
        if not os.path.lexists(path):
            return None
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(self.root):
                self.note(file, "is a link out of this folder; it was not followed", lacking=True)
            elif not stat.S_ISREG(real.stat().st_mode):
                self.note(file, "is not a file")
            elif real.stat().st_size > most:
                self.note(file, f"is larger than {most // 1024} KiB; it was not read", lacking=True)
            else:
                return real.read_bytes()
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            self.note(file, f"cannot be read: {getattr(error, 'strerror', None) or 'its links go in a circle'}")
        return None

    def text(self, file: str, *, most: int = MOST_BYTES) -> str | None:
        """The text of a file in UTF-8; None where there is none."""
        data = self.data(file, most=most)
        if data is None:
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.note(file, "is not UTF-8", line=data.count(b"\n", 0, error.start) + 1, lacking=True)
            return None
        if "\0" in text:
            self.note(file, "is not text: it holds NUL bytes", lacking=True)
            return None
        return text

    def toml(self, file: str) -> tuple[dict[str, Any], str] | None:
        """The content of a TOML file, and its text for the numbers of lines."""
        text = self.text(file)
        if text is None:
            return None
        try:
            return tomllib.loads(text), text
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            line = re.search(r"line (\d+)", str(error))
            reason = re.sub(r" \(at .*\)$", "", str(error))
            self.note(file, f"is not TOML: {reason}", line=int(line[1]) if line else None, lacking=True)
            return None

    def json(self, file: str) -> dict[str, Any] | None:
        """The content of a JSON file that holds an object."""
        text = self.text(file)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except (json.JSONDecodeError, RecursionError, ValueError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            self.note(file, f"is not JSON: {reason}", line=getattr(error, "lineno", None), lacking=True)
            return None
        if not isinstance(value, dict):
            self.note(file, "holds no JSON object", lacking=True)
            return None
        return value

    def yaml(self, file: str) -> Node | None:
        """The nodes of a YAML file, of which no object is made."""
        import yaml  # noqa: PLC0415 (slow to import)

        text = self.text(file, most=MOST_YAML_BYTES)
        if text is None:
            return None
        try:
            node: Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or "it cannot be parsed"
            self.note(file, f"is not YAML: {reason}", line=mark.line + 1 if mark else None, lacking=True)
            return None
        return node

    def walk(self, suffix: str) -> list[str]:
        """The files below the folder that end in ``suffix``, shallow ones first, then by name; links are left out."""
        found = sorted(self._walk(suffix), key=lambda file: (file.count("/"), file))
        if len(found) > MOST_FILES:
            self.note(f"*{suffix}", f"only the first {MOST_FILES} of {len(found)} files were looked at")
        return found[:MOST_FILES]

    def _walk(self, suffix: str) -> Iterator[str]:
        for place, folders, files in os.walk(self.root):
            inner = Path(place).relative_to(self.root)
            deep = len(inner.parts) >= DEEPEST
            folders[:] = [] if deep else [n for n in folders if n not in _SKIPPED and not n.startswith(".")]
            for name in files:
                path = Path(place, name)
                if not (inner / name).as_posix().isprintable():  # nothing a file of text could name
                    continue
                if name.endswith(suffix) and not name.startswith(".") and path.is_file() and not path.is_symlink():
                    yield (inner / name).as_posix()


def line_of(text: str, *needles: str) -> int | None:
    """The first line that holds the first of ``needles``, after which the next is looked for; None without one."""
    lines, start = text.splitlines(), 0
    found = None
    for needle in needles:
        found = next((n for n, line in enumerate(lines[start:], start + 1) if needle in line), None)
        if found is None:
            return None
        start = found - 1
    return found
