"""The smoke command -> the project's files that it runs: scripts, what they import, and scripts that these start."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from reprobox.lint.code import Code
from reprobox.lint.sources import Folder, Source, is_shell, kind
from reprobox.survey import shell

_RUNS = frozenset({"dockerfile", "notebook", "python", "shell"})


def reached(command: Sequence[str], folder: Folder, parsed: Mapping[PurePosixPath, Code]) -> frozenset[PurePosixPath]:
    """The code that a command runs, as far as its words and the imports tell."""
    found: set[PurePosixPath] = set()
    waiting = list(named(command, folder))
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path in parsed:
            waiting += _imported(parsed[path], folder)
        elif is_shell(folder.by_path[path]):
            for simple in shell.split(folder.by_path[path].text):
                waiting += named(simple.words, folder)
    return frozenset(found)


def named(words: Sequence[str], folder: Folder) -> Iterator[PurePosixPath]:
    """The files of code that a command's words name, ``-m module`` among them."""
    for place, word in enumerate(words):
        source = folder.find(PurePosixPath(word)) if word and not word.startswith(("-", "/")) else None
        if source is not None and _is_code(source):
            yield source.path
        if word == "-m" and place + 1 < len(words):
            yield from _module(words[place + 1], PurePosixPath(), folder)


def _is_code(source: Source) -> bool:
    return kind(source.path) in _RUNS or is_shell(source)


def _imported(code: Code, folder: Folder) -> Iterator[PurePosixPath]:
    here = code.path.parent
    for node, _ in code.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(alias.name, here, folder)
        elif isinstance(node, ast.ImportFrom):
            base = here
            for _ in range(node.level - 1):
                base = base.parent
            names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
            for name in names:
                yield from _module(name, base, folder)


def _module(name: str, here: PurePosixPath, folder: Folder) -> Iterator[PurePosixPath]:
    """The files that importing a module runs: its packages', and its own."""
    parts = name.split(".")
    if not all(parts):
        return
    for base in dict.fromkeys((here, PurePosixPath(), PurePosixPath("src"))):
        for count in range(1, len(parts) + 1):
            path = base.joinpath(*parts[:count])
            for file in (path.with_name(path.name + ".py"), path / "__init__.py", path / "__main__.py"):
                if folder.has(file):
                    yield file
