"""Python code, of a file or of a notebook's cells -> its syntax trees, and what its names stand for in full."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from reprobox.credentials import redact
from reprobox.errors import InvalidInput
from reprobox.lint.sources import Source
from reprobox.model import PythonVersion
from reprobox.survey import notebook

_ASKED = (ast.Call, ast.Constant, ast.Expr, ast.If, ast.Import, ast.ImportFrom, ast.JoinedStr)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A syntax tree, and the file's line of each of its lines."""

    tree: ast.Module
    line_of: Callable[[int], int]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A Python file or a notebook, parsed. ``names`` says what each imported name stands for, in full."""

    path: PurePosixPath
    parts: tuple[Part, ...]
    names: Mapping[str, str]

    @cached_property
    def nodes(self) -> tuple[tuple[ast.AST, int], ...]:
        """Every node of a kind that a rule asks for, with the file's line."""
        return tuple(
            (node, part.line_of(node.lineno))
            for part in self.parts
            for node in ast.walk(part.tree)
            if isinstance(node, _ASKED)
        )

    def calls(self) -> Iterator[tuple[ast.Call, str, int]]:
        """Every call, with the full name of what is called, empty where that is no name."""
        for node, line in self.nodes:
            if isinstance(node, ast.Call):
                yield node, self.name_of(node.func), line

    def name_of(self, node: ast.AST) -> str:
        """The full dotted name of an expression, as far as imports tell."""
        words: list[str] = []
        while isinstance(node, ast.Attribute):
            words.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        words.append(self.names.get(node.id, node.id))
        return ".".join(reversed(words))

    def imported(self, name: str) -> bool:
        """Whether a full name begins with something that is imported here."""
        return name.partition(".")[0] in self._roots

    @cached_property
    def _roots(self) -> frozenset[str]:
        return frozenset(full.partition(".")[0] for full in self.names.values())


def parse(source: Source) -> Code:
    """A Python file. Raises InvalidInput where it is none."""
    return _code(source.path, [Part(tree=_tree(source.data or b"", source), line_of=lambda line: line)])


def parse_notebook(source: Source, cells: Sequence[notebook.Cell]) -> Code:
    """The Python cells of a notebook; those that do not parse (a magic of another kind) are left out."""
    parts: list[Part] = []
    for cell in cells:
        try:
            parts.append(Part(tree=_tree(cell.python.encode("utf-8", "replace"), source), line_of=cell.line_of))
        except InvalidInput:
            continue
    return _code(source.path, parts)


def _tree(data: bytes, source: Source) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a user's file is not our warning
            return ast.parse(data)
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise InvalidInput(f"{source.path}{line}: not Python: {error.msg}", hint=_hint()) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidInput(f"{source.path}: not Python: {error or 'nested too deeply'}", hint=_hint()) from error


def _hint() -> str:
    return f"correct it; it was read as Python {sys.version_info.major}.{sys.version_info.minor}"


def too_new(python: PythonVersion | None) -> bool:
    """Whether the project's Python may know syntax that this one does not."""
    return python is not None and (python.major, python.minor) > sys.version_info[:2]


def _code(path: PurePosixPath, parts: Sequence[Part]) -> Code:
    names: dict[str, str] = {}
    code = Code(path=path, parts=tuple(parts), names=names)
    for node, _ in code.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                names[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return code


# --- small questions --------------------------------------------------------------------------


def call_attribute(call: ast.Call) -> str:
    """The last name of what is called: ``exists`` of ``path.parent.exists()``."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def first_argument(call: ast.Call) -> ast.expr | None:
    return call.args[0] if call.args else None


def text_of(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def short(text: str, most: int = 60) -> str:
    """A quotation; what is secret in it is masked before it is cut, where it can still be told."""
    shown = redact(" ".join(text.split()))
    return shown if len(shown) <= most else shown[: most - 3] + "..."
