"""Words that start something in a container, a Makefile or a README -> a command of reprobox.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from reprobox.draft.facts import Command, Place
from reprobox.survey import shell

_PREFIXES = (("uv", "run"), ("poetry", "run"), ("pipenv", "run"), ("pdm", "run"))
_NOT_EXPERIMENTS = re.compile(r"(setup|conftest|manage|test_.*|.*_test|tests)\.py")
_README_LINE = re.compile(r"\s*(?:[$>%]\s+)?((?:(?:uv|poetry|pipenv) run )?python3?\s+\S.*)")
_MAKE_LINE = re.compile(r"\t[@-]*(.*)")
_MAKE_PYTHON = re.compile(r"\$[({](?:PYTHON3?|PY)[)}]")
_UNKNOWN = re.compile(r"[$`|<>;&*]")
"""What only a shell would fill in or carry out."""


class Commands:
    """Reads commands with a view of the folder: only a script that is there can be started."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        self._exists = exists

    def of(self, words: Sequence[str], place: Place, *, workdir: str = "/") -> Command | None:
        """One command; a single word is shell text. None where it starts no script of the folder."""
        if len(words) == 1:
            simple = shell.split(words[0])
            if len(simple) != 1 or re.search(r"[|<>]", words[0]):
                return None
            words = simple[0].words
        words = [word for word in words if word not in {"$@", "$*", "${@}"}]
        for prefix in _PREFIXES:
            if tuple(words[:2]) == prefix:
                words = words[2:]
        if not words or any(_UNKNOWN.search(word) or not word.isprintable() for word in words):
            return None
        program = PurePosixPath(words[0]).name
        if re.fullmatch(r"python3?(\.[0-9]+)?", program):
            program = "python"
        elif program not in {"bash", "sh"}:
            return None
        found = self._started(list(words[1:]), workdir)
        return Command(words=(program, *found), place=place) if found else None

    def _started(self, words: list[str], workdir: str) -> list[str] | None:
        """The arguments of an interpreter with the script's path inside the folder; None where it is not there."""
        for at, word in enumerate(words):
            if word == "-m" and at + 1 < len(words):
                module = words[at + 1].replace(".", "/")
                here = any(map(self._exists, (f"{module}.py", f"{module}/__main__.py")))
                return words if here else None
            if word.startswith("-"):
                if word in {"-c", "-"}:
                    return None
                continue
            script = next((tail for tail in tails(word) if self._exists(tail)), None)
            if script is None or _NOT_EXPERIMENTS.fullmatch(PurePosixPath(script).name):
                return None
            rest = [
                each.removeprefix(f"{workdir.rstrip('/')}/") if workdir != "/" else each for each in words[at + 1 :]
            ]
            return [*words[:at], script, *rest]
        return None

    def of_readme(self, text: str, file: str) -> Iterator[Command]:
        """The commands of a README, each on a line of its own."""
        yield from self._of_lines(text, file, _README_LINE)

    def of_makefile(self, text: str, file: str) -> Iterator[Command]:
        """The commands of a Makefile's recipes."""
        yield from self._of_lines(_MAKE_PYTHON.sub("python", text), file, _MAKE_LINE)

    def _of_lines(self, text: str, file: str, form: re.Pattern[str]) -> Iterator[Command]:
        for number, line in enumerate(text.splitlines(), 1):
            if (match := form.fullmatch(line)) and (found := self.of([match[1]], Place(file=file, line=number))):
                yield found


def tails(path: str) -> list[str]:
    """A container's path, and what is left of it folder by folder: /app/a/b.py -> app/a/b.py, a/b.py, b.py."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return ["/".join(parts[start:]) for start in range(len(parts)) if ".." not in parts[start:]]
