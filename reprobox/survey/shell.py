"""Shell text -> its simple commands, each with its words and line. Tolerant: never raises, whatever the text is."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

DEEPEST = 8
"""Commands inside commands (``$(...)``, ``bash -c``) are followed this far."""

_OPERATOR = re.compile(r"\|&|&&|\|\||;;|[;|&()\n]")
_REDIRECTION = re.compile(r"(?:\d*|&)(?:>>|>\||>&|<&|<>|>|<)(?!\()[ \t]*(?:&?[-\d]+(?=[\s;|&)]|$))?")
_HEREDOC = re.compile(r"""\d*<<-?[ \t]*(?:'([^'\n]+)'|"([^"\n]+)"|\\?([\w.+/-]+))""")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=.*", re.DOTALL)
_PLAIN = re.compile(r"[^\s\\'\"`$;|&()<>]+")
_KEYWORDS = frozenset({"!", "do", "elif", "else", "if", "then", "time", "until", "while", "{", "}"})
_SHELLS = frozenset({"ash", "bash", "dash", "ksh", "sh", "zsh"})
_WRAPPERS = {
    "command": frozenset[str](),
    "env": frozenset({"-C", "-u", "--chdir", "--unset"}),
    "exec": frozenset({"-a"}),
    "nice": frozenset({"-n"}),
    "nohup": frozenset[str](),
    "sudo": frozenset({"-C", "-D", "-g", "-h", "-p", "-r", "-t", "-u", "--group", "--user"}),
    "time": frozenset({"-f", "-o"}),
    "timeout": frozenset({"-k", "-s"}),
}
"""Commands whose arguments are a command, with those of their options that take a value."""


@dataclass(frozen=True, kw_only=True)
class Simple:
    """One command: its words without quotes, environment prefixes and redirections; the line of its first word.

    ``into`` is the program that its output is piped into, through any others between.
    """

    words: tuple[str, ...]
    line: int
    into: str | None = None

    @property
    def program(self) -> str:
        """The name without its folder."""
        return self.words[0].rpartition("/")[2]


def split(text: str, *, line: int = 1) -> tuple[Simple, ...]:
    """The simple commands of a script, in the order of their lines; ``line`` is the number of its first one.

    Commands inside ``$(...)``, backticks, ``sh -c`` and the heredocs of a shell are among them.
    """
    found = sorted(_Reading(text.replace("\r\n", "\n"), line, 0).commands(), key=lambda command: command.line)
    return tuple(found)


@dataclass
class _Reading:
    """One pass over a text."""

    text: str
    line: int
    depth: int
    place: int = 0
    words: list[str] = field(default_factory=list)
    began: int = 1
    pipeline: list[Simple] = field(default_factory=list)
    inner: list[Simple] = field(default_factory=list)
    heredocs: list[tuple[str, bool]] = field(default_factory=list)

    def commands(self) -> Iterator[Simple]:
        while self.place < len(self.text):
            character = self.text[self.place]
            if self.text.startswith("\\\n", self.place):
                self._step(2)
            elif character in " \t":
                self._step(1)
            elif character == "#":
                end = self.text.find("\n", self.place)
                self.place = len(self.text) if end < 0 else end
            elif (heredoc := _HEREDOC.match(self.text, self.place)) and not self.text.startswith("<<<", self.place):
                self._heredoc(heredoc)
            elif redirection := _REDIRECTION.match(self.text, self.place):
                self._step(len(redirection[0]))
                if redirection[0][-1] in "<>|& \t":
                    self._word()  # the file
            elif operator := _OPERATOR.match(self.text, self.place):
                yield from self._operator(operator[0])
            else:
                at = self.line
                word = self._word()
                if not self.words:
                    self.began = at
                self.words.append(word)
        yield from self._operator("")

    def _step(self, count: int) -> None:
        self.line += self.text.count("\n", self.place, self.place + count)
        self.place += count

    def _operator(self, operator: str) -> Iterator[Simple]:
        self._finish()
        if operator not in {"|", "|&"}:
            last = self.pipeline[-1].program if len(self.pipeline) > 1 else None
            for command in self.pipeline[:-1]:
                yield replace(command, into=last)
            yield from self.pipeline[-1:]
            self.pipeline = []
            yield from self.inner
            self.inner = []
        self._step(len(operator))
        if operator == "\n" and self.heredocs:
            yield from self._bodies()

    def _finish(self) -> None:
        """The command that the words so far make, without what stands before it."""
        words, self.words = _bare(self.words), []
        if not words:
            return
        command = Simple(words=tuple(words), line=self.began)
        self.pipeline.append(command)
        if command.program in _SHELLS and len(words) > 2:
            flag = next((at for at, word in enumerate(words) if re.fullmatch(r"-[a-z]*c", word)), None)
            if flag is not None and flag + 1 < len(words):
                self._follow(words[flag + 1], self.began)

    def _follow(self, text: str, line: int) -> None:
        if self.depth < DEEPEST:
            self.inner.extend(_Reading(text, line, self.depth + 1).commands())

    def _heredoc(self, match: re.Match[str]) -> None:
        words = _bare(self.words)
        script = not words or words[0].rpartition("/")[2] in _SHELLS
        self.heredocs.append((match[1] or match[2] or match[3], script))
        self._step(len(match[0]))

    def _bodies(self) -> Iterator[Simple]:
        """The bodies of the heredocs of the line that has just ended: those of a shell are scripts."""
        for end, script in self.heredocs:
            places = self._endings[end]
            at = bisect_left(places, (self.place, 0))
            if at == len(places):
                continue  # a shell would take all that follows; what follows is read as commands instead
            start, stop = places[at]
            body, line = self.text[self.place : start], self.line
            self._step(stop - self.place)
            if script and self.depth < DEEPEST:
                yield from _Reading(body, line, self.depth + 1).commands()
        self.heredocs = []

    @cached_property
    def _endings(self) -> Mapping[str, list[tuple[int, int]]]:
        """Where each line of the text begins and ends, by its words without leading tabs."""
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        place = 0
        for line in self.text.split("\n"):
            found[line.lstrip("\t")].append((place, place + len(line)))
            place += len(line) + 1
        return found

    def _word(self) -> str:
        """The word at this place, quotes removed; commands inside it are followed."""
        parts: list[str] = []
        quote = ""
        while self.place < len(self.text):
            character = self.text[self.place]
            if plain := _PLAIN.match(self.text, self.place):
                parts.append(self._take(len(plain[0])))
            elif character == quote:
                quote = ""
                self._step(1)
            elif quote == "'":
                parts.append(self._take(1))
            elif character == "\\":
                self._escaped(parts, quote)
            elif self.text.startswith(("$(", "<(", ">("), self.place) and not (quote and character != "$"):
                parts.append(self._substitution())
            elif self.text.startswith("${", self.place):
                end = self.text.find("}", self.place)
                parts.append(self._take((end + 1 if end >= 0 else len(self.text)) - self.place))
            elif character == "`":
                end = self.text.find("`", self.place + 1)
                end = len(self.text) if end < 0 else end
                self._follow(self.text[self.place + 1 : end], self.line)
                parts.append(self._take(end + 1 - self.place))
            elif not quote and character in "'\"":
                quote = character
                self._step(1)
            elif not quote and character in " \t\n;|&()<>":
                break
            else:
                parts.append(self._take(1))
        return "".join(parts)

    def _take(self, count: int) -> str:
        taken = self.text[self.place : self.place + count]
        self._step(count)
        return taken

    def _escaped(self, parts: list[str], quote: str) -> None:
        following = self.text[self.place + 1 : self.place + 2]
        if quote and following not in {"$", "`", '"', "\\", "\n"}:
            parts.append("\\")
            self._step(1)
            return
        if following != "\n":
            parts.append(following)
        self._step(2)

    def _substitution(self) -> str:
        """``$(...)``, ``$((...))`` or ``<(...)`` as it is written."""
        start, depth, quote = self.place, 0, ""
        at = self.place + 1
        while at < len(self.text):
            character = self.text[at]
            if character == "\\" and quote != "'":
                at += 1
            elif quote:
                quote = "" if character == quote else quote
            elif character in "'\"":
                quote = character
            elif character == "(":
                depth += 1
            elif character == ")":
                depth -= 1
                if depth == 0:
                    break
            at += 1
        written = self.text[start : at + 1]
        if not written.startswith("$(("):
            self._follow(written[2:].removesuffix(")"), self.line)
        return self._take(len(written))


def _bare(words: list[str]) -> list[str]:
    """The words of a command without keywords, environment prefixes, ``sudo`` and its like before it."""
    place = 0
    while place < len(words):
        word = words[place]
        if word in _KEYWORDS or _ASSIGNMENT.fullmatch(word):
            place += 1
        elif (options := _WRAPPERS.get(word.rpartition("/")[2])) is not None:
            place += 1
            while place < len(words) and words[place].startswith("-"):
                place += 2 if words[place] in options else 1
            if word.rpartition("/")[2] == "timeout":
                place += 1  # its duration
        else:
            return words[place:]
    return []
