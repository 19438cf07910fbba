"""A requirements file's bytes -> logical lines with their numbers, requirement and options apart."""

from __future__ import annotations

import codecs
import difflib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from reprobox.credentials import redact
from reprobox.errors import InvalidInput

_SHORT = {"-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links"}
_WITH_VALUE = {
    "--requirement",
    "--constraint",
    "--editable",
    "--index-url",
    "--extra-index-url",
    "--find-links",
    "--trusted-host",
    "--no-binary",
    "--only-binary",
}
_WITHOUT_VALUE = {"--no-index", "--pre", "--prefer-binary", "--require-hashes"}
_COMMENT = re.compile(r"(^|\s+)#.*$")
_COOKIE = re.compile(rb"coding[:=]\s*([-\w.]+)")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A line of a file of the project's: its path relative to the root, and the line counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def decode(data: bytes, file: str) -> str:
    """The text of a requirements file: by its byte order mark, its coding cookie, else UTF-8. Raises InvalidInput."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], encoding, file, "its byte order mark")
    for line in data.split(b"\n")[:2]:
        if line.lstrip().startswith(b"#") and (cookie := _COOKIE.search(line)):
            return _decode(data, cookie.group(1).decode("ascii", "replace"), file, "its coding line")
    text = _decode(data, "utf-8", file, None)
    if "\0" in text:
        raise InvalidInput(
            f"{file} is not text: it holds NUL bytes, as UTF-16 without a byte order mark does",
            hint="save it as UTF-8",
        )
    return text


def _decode(data: bytes, encoding: str, file: str, source: str | None) -> str:
    because = f", which {source} names" if source else ""
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise InvalidInput(f"{file}: no such encoding: {encoding}{because}", hint="save it as UTF-8") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(
            f"{file}:{line}: not {encoding}{because}: byte 0x{data[error.start]:02x}",
            hint="save it as UTF-8, or name its encoding in the first line: # -*- coding: latin-1 -*-",
        ) from error
    except UnicodeError as error:  # idna, punycode, undefined: codecs that say no byte
        raise InvalidInput(f"{file}: not {encoding}{because}", hint="save it as UTF-8") from error


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first line: continuations joined, comments and blank lines gone."""
    start, joined = 0, ""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        start = start or number
        comment = re.match(r"\s*#", line)
        if line.endswith("\\") and not comment:
            joined += line[:-1]
            continue
        joined += " " if comment and joined else line
        if kept := _COMMENT.sub("", joined).strip():
            yield start, kept
        start, joined = 0, ""
    if kept := _COMMENT.sub("", joined).strip():
        yield start, kept


def split_options(line: str, place: Place) -> tuple[str, list[tuple[str, str]]]:
    """A line's requirement (or nothing) and its options with their values, short names written out."""
    words = line.split()
    first = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    requirement = " ".join(words[:first])
    try:
        rest = shlex.split(" ".join(words[first:])) if first else shlex.split(line)
    except ValueError as error:
        raise InvalidInput(f"{place}: {error}", hint="close the quotation mark") from error
    options: list[tuple[str, str]] = []
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not word.startswith("--"):
            option, equals, value = word[:2], word[2:3], word[2:].removeprefix("=")
            option = _SHORT.get(option, word)
        if option in _WITHOUT_VALUE:
            if equals:
                raise InvalidInput(f"{place}: {option} takes no value", hint=f"write {option} alone")
            value = ""
        elif option in _WITH_VALUE or option == "--hash":
            if not equals:
                if not rest:
                    raise InvalidInput(f"{place}: {option} needs a value", hint=f"write {option} VALUE")
                value = rest.pop(0)
        else:
            refuse_option(option, place)
        options.append((option, value))
    return requirement, options


def refuse_option(option: str, place: Place) -> None:
    known = sorted({*_WITH_VALUE, *_WITHOUT_VALUE, "--hash", *_SHORT})
    near = difflib.get_close_matches(option, known, 1)
    raise InvalidInput(
        f"{place}: the option {redact(option)} has no meaning here",
        hint=f"do you mean {near[0]}?" if near else "remove it; what cannot be kept is not ignored",
    )


def sha256s(options: list[tuple[str, str]], place: Place) -> frozenset[str]:
    kinds: set[str] = set()
    found: set[str] = set()
    for option, value in options:
        if option != "--hash":
            raise InvalidInput(
                f"{place}: {option} cannot stand behind a requirement", hint=f"put {option} on a line of its own"
            )
        kind, _, digest = value.partition(":")
        kinds.add(kind)
        if kind == "sha256":
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise InvalidInput(f"{place}: not a sha256: {value}", hint="write --hash=sha256:<64 hex digits>")
            found.add(digest)
    if kinds and not found:
        raise InvalidInput(
            f"{place}: hashes of the kind {', '.join(sorted(kinds))} only", hint="add --hash=sha256:<64 hex digits>"
        )
    return frozenset(found)
