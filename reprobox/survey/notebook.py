"""A Jupyter notebook -> its kernel and its code cells, Python and shell apart, each with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprobox.errors import InvalidInput

_SOURCE = re.compile(r'"(?:source|input)"\s*:\s*(\[[ \t]*\r?\n)?')
_SHELL_CELL = re.compile(r"%%(?:bash|sh|!|(?:script|sx|system)\b.*\b(?:ba|da|z)?sh\b)")
_PYTHON_CELL = re.compile(r"%%(?:capture|time|timeit|prun|memit|mprun|debug|python3?|py)\b")
_BANG = re.compile(r"(?P<indent>\s*)(?:[A-Za-z_][\w., ]*=\s*)?!{1,2}(?P<command>[^=!].*)")
_MAGIC = re.compile(r"(?P<indent>\s*)(?:[A-Za-z_][\w., ]*=\s*)?%(?P<name>[A-Za-z_]\w*)(?P<rest>.*)")
_HELP = re.compile(r"\s*\?{1,2}[\w.*]+\s*|\s*[\w.*]+\?{1,2}\s*")
_INSTALLERS = frozenset({"conda", "mamba", "micromamba", "pip", "uv"})
_SHELLS = frozenset({"sx", "system"})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A code cell: its number among all cells, from 1; the file's line where its source begins; its source.

    ``line`` is exact where the file has a line for each line of source, as Jupyter writes it, else the line of
    the cell's source as a whole (``exact`` says which); 1 where even that cannot be told.
    """

    number: int
    line: int
    source: str
    exact: bool = False

    def line_of(self, line: int) -> int:
        """The file's line of a line of the source, both counted from 1."""
        return self.line + line - 1 if self.exact else self.line

    @property
    def python(self) -> str:
        """The source as Python: magics, shell and help lines are ``pass``, and every line is still where it was."""
        return self._apart[0]

    @property
    def shell(self) -> str:
        """What the cell gives to a shell (``!wget``, ``%pip install``, ``%%bash``), each on its line."""
        return self._apart[1]

    @property
    def _apart(self) -> tuple[str, str]:
        lines = self.source.split("\n")
        first = next((number for number, line in enumerate(lines) if line.strip()), 0)
        if lines[first].startswith("%%"):
            if _SHELL_CELL.match(lines[first]):
                return "", "\n".join([*[""] * (first + 1), *lines[first + 1 :]])
            if not _PYTHON_CELL.match(lines[first]):
                return "", ""
        python: list[str] = []
        shell: list[str] = []
        continued = False
        for number, line in enumerate(lines):
            command = line if continued else _command(line)
            if number == first and line.startswith("%%"):
                command = ""
            indent = line[: len(line) - len(line.lstrip())]
            python.append(line if command is None else "" if continued else f"{indent}pass")
            shell.append(command or "")
            continued = command is not None and line.endswith("\\")
        return "\n".join(python), "\n".join(shell)


@dataclass(frozen=True, kw_only=True)
class Notebook:
    """What a notebook says of itself: ``language`` and ``kernel`` may be empty; its code cells in order."""

    language: str
    kernel: str
    python_version: str | None
    cells: tuple[Cell, ...]


def read(text: str, *, name: str) -> Notebook:
    """The notebook in the text of the file ``name``. Raises InvalidInput where it is none."""
    try:
        plain = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise InvalidInput(f"{name}:{line}: not a notebook: it is not JSON", hint=_hint()) from error
    cells = _cells(plain)
    if cells is None:
        raise InvalidInput(f"{name}: not a notebook: it has no list of cells", hint=_hint())
    metadata = _mapping(_mapping(plain).get("metadata"))
    kernel, language = _mapping(metadata.get("kernelspec")), _mapping(metadata.get("language_info"))
    spoken = _text(kernel.get("language")) or _text(language.get("name"))
    return Notebook(
        language=spoken.lower(),
        kernel=_text(kernel.get("name")),
        python_version=(_text(language.get("version")) or None)
        if spoken.lower() in {"python", "ipython", ""}
        else None,
        cells=tuple(_code(cells, _places(text, len(cells)))),
    )


def _hint() -> str:
    return "open it in Jupyter and save it again, or remove it"


def _command(line: str) -> str | None:
    """What a line gives to a shell: nothing for another magic, None for a line of Python."""
    if match := _BANG.fullmatch(line):
        return match["command"]
    if match := _MAGIC.fullmatch(line):
        if match["name"] in _INSTALLERS:
            return f"{match['name']}{match['rest']}"
        return match["rest"] if match["name"] in _SHELLS else ""
    return "" if _HELP.fullmatch(line) else None


def _code(cells: Sequence[Any], places: Sequence[tuple[int, bool]]) -> list[Cell]:
    found = []
    for number, (cell, (line, exact)) in enumerate(zip(cells, places, strict=True), 1):
        plain = _mapping(cell)
        if plain.get("cell_type") != "code":
            continue
        source = plain.get("source", plain.get("input", ""))
        pieces = source if isinstance(source, list) else [source]
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        whole = exact and all(isinstance(piece, str) and piece.find("\n") in {-1, len(piece) - 1} for piece in pieces)
        found.append(Cell(number=number, line=line, source=text, exact=whole))
    return found


def _cells(plain: Any) -> list[Any] | None:
    """The cells of format 4, or of the worksheets of format 3."""
    notebook = _mapping(plain)
    sheets = notebook.get("worksheets")
    if isinstance(sheets, list):
        return [cell for sheet in sheets for cell in _cells(sheet) or []]
    cells = notebook.get("cells")
    return cells if isinstance(cells, list) else None


def _places(text: str, count: int) -> list[tuple[int, bool]]:
    """For each cell, the line where its source begins, and whether each source line has a line of the file.

    A quotation mark inside a JSON string is escaped, so this finds keys alone; other keys of that name (in the
    data of an output) spoil the count, and then nothing is said.
    """
    keys = list(_SOURCE.finditer(text))
    if len(keys) != count:
        return [(1, False)] * count
    places, line, seen = [], 1, 0
    for key in keys:
        line += text.count("\n", seen, key.end())
        seen = key.end()
        places.append((line, key[1] is not None))
    return places


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
