"""A Dockerfile's text -> its instructions and stages, each with its line. Never raises: junk is an instruction too."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(r"#\s*escape\s*=\s*([\\`])\s*", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#\s*[A-Za-z][A-Za-z0-9]*\s*=\s*\S.*")
_HEREDOC = re.compile(r"""(?:^|(?<=\s))\d*<<(?P<tabs>-?)(?P<quote>["']?)(?P<end>[\w.+/-]+)(?P=quote)(?=[\s;&|>)]|$)""")
_WITH_HEREDOC = frozenset({"ADD", "COPY", "RUN"})
_FLAG = re.compile(r"\s*--([a-z]+)(?:=(\S*))?(?=\s|$)")
_SHELL_FLAGS = re.compile(r"(?:(?:\s|\\\n)*--[a-z]+(?:=(?:[^\s\\]|\\(?!\n))*)?(?=\s|\\\n|$))+")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:(:?[-+])([^}]*))?\}|(\w+))")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction: its keyword in upper case, its value with continuations joined, its first line from 1.

    ``value`` holds the bodies of its heredocs. ``script`` is the same with every line of the file still a line:
    a joined one ends in a backslash, so that a shell reader that counts lines from ``line`` counts right.
    """

    keyword: str
    value: str
    line: int
    script: str = ""

    @property
    def flags(self) -> dict[str, str]:
        """The leading options, such as ``{"from": "build"}`` for ``COPY --from=build``."""
        return {match[1]: match[2] or "" for match in self._flags()}

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words behind the flags: of the exec form's list (JSON), else split at white space."""
        return self._exec_form or tuple(self.value[self._behind_flags :].split())

    @property
    def shell(self) -> str:
        """What a RUN gives to the shell, its first line being ``line``: the script behind the flags."""
        if self._exec_form:
            return shlex.join(self._exec_form)
        flags = _SHELL_FLAGS.match(self.script)
        return "\\\n" * flags[0].count("\n") + self.script[flags.end() :] if flags else self.script

    @property
    def trigger(self) -> Instruction | None:
        """The instruction behind ONBUILD."""
        if self.keyword != "ONBUILD" or not self.value.strip():
            return None
        keyword, value = _keyword(self.value)
        return Instruction(keyword=keyword, value=value, line=self.line, script=_keyword(self.script)[1])

    @property
    def _exec_form(self) -> tuple[str, ...] | None:
        try:
            words = json.loads(self.value[self._behind_flags :])
        except (ValueError, RecursionError):
            return None
        return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None

    def _flags(self) -> Iterator[re.Match[str]]:
        place = 0
        while match := _FLAG.match(self.value, place):
            yield match
            place = match.end()

    @property
    def _behind_flags(self) -> int:
        return max((match.end() for match in self._flags()), default=0)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A FROM: the reference as written, with the defaults of ARGs filled in, and the name behind AS.

    ``earlier`` says that the reference is the name of a stage above, and no image.
    """

    base: str
    line: int
    name: str | None = None
    platform: str | None = None
    earlier: bool = False


def read(text: str) -> tuple[Instruction, ...]:
    """The instructions of a Dockerfile, in order."""
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    escape, place = _directives(lines)
    found: list[Instruction] = []
    while place < len(lines):
        if not _content(lines[place]):
            place += 1
            continue
        instruction, place = _instruction(lines, place, escape)
        found.append(instruction)
    return tuple(found)


def stages(instructions: Iterable[Instruction]) -> tuple[Stage, ...]:
    """The stages, in order. A variable without a default stays in the reference as it is written."""
    variables: dict[str, str] = {}
    found: list[Stage] = []
    for instruction in instructions:
        if instruction.keyword == "ARG" and not found:
            for word in instruction.arguments:
                name, equals, value = word.partition("=")
                if equals:
                    variables[name] = _filled(value.strip("\"'"), variables)
        if instruction.keyword != "FROM" or not instruction.arguments:
            continue
        words = instruction.arguments
        base = _filled(words[0], variables)
        named = len(words) > 2 and words[1].lower() == "as"
        names = {stage.name.lower() for stage in found if stage.name}
        found.append(
            Stage(
                base=base,
                line=instruction.line,
                name=words[2] if named else None,
                platform=instruction.flags.get("platform"),
                earlier=base.lower() in names,
            )
        )
    return tuple(found)


def _directives(lines: Sequence[str]) -> tuple[str, int]:
    """The escape character, and where the parser directives at the top end."""
    escape = "\\"
    for place, line in enumerate(lines):
        if match := _ESCAPE.fullmatch(line.strip()):
            escape = match[1]
        elif not _DIRECTIVE.fullmatch(line.strip()):
            return escape, place
    return escape, len(lines)


def _content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _instruction(lines: Sequence[str], start: int, escape: str) -> tuple[Instruction, int]:
    """The instruction that begins at a place, and the place behind it."""
    continued = re.compile(re.escape(escape) + r"[ \t]*$")
    parts: list[str] = []
    script: list[str] = []
    place = start
    while place < len(lines):
        line = lines[place]
        place += 1
        if parts and not _content(line):
            script.append("\\")
            continue
        more = continued.search(line)
        parts.append(line[: more.start()] if more else line)
        script.append(parts[-1] + "\\" if more else line)
        if not more:
            break
    keyword, value = _keyword("".join(parts))
    _, shown = _keyword("\n".join(script))
    holds = _keyword(value)[0] if keyword == "ONBUILD" else keyword
    if holds in _WITH_HEREDOC:
        for heredoc in _HEREDOC.finditer(value):
            end = _end(lines, place, heredoc["end"], tabs=bool(heredoc["tabs"]))
            if end is None:
                continue  # BuildKit refuses this; nothing that follows is swallowed
            body = "".join(f"\n{line}" for line in lines[place : end + 1])
            value, shown, place = value + body, shown + body, end + 1
    return Instruction(keyword=keyword, value=value, line=start + 1, script=shown), place


def _keyword(text: str) -> tuple[str, str]:
    """The first word in upper case, and the rest; the rest keeps every line break that stands before it."""
    match = re.match(r"\s*(\S+?)(?=\s|\\\n|$)[ \t]*", text)
    if not match:
        return text.strip().upper(), ""
    return match[1].upper(), text[match.end() :].rstrip(" \t")


def _end(lines: Sequence[str], start: int, word: str, *, tabs: bool) -> int | None:
    for place in range(start, len(lines)):
        if (lines[place].lstrip("\t") if tabs else lines[place]) == word:
            return place
    return None


def _filled(text: str, variables: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, operator, word = match[1] or match[4], match[2] or "", match[3] or ""
        if operator.endswith("+"):
            return word if name in variables else ""
        return variables.get(name) or (word if operator else match[0])

    return _VARIABLE.sub(value, text)
