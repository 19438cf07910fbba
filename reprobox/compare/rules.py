"""Output, its file -> its digest under the declared rules: JSON without the nodes that the user ignores.

The nodes that an ``ignore`` rule selects (JSONPath, RFC 9535, evaluated on the document as it stands) are left out,
and one canonical spelling of the rest is hashed: keys sorted, no white space. Numbers are taken by their text,
never through a float: ``1.0`` and ``1.00`` differ. A key that stands twice in one object has no agreed meaning and
is refused. ``.jsonl`` and ``.ndjson`` files are taken line by line.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from reprobox.errors import InvalidInput, Uncomparable
from reprobox.model import MEBIBYTE, Digest, Output

if TYPE_CHECKING:
    from jsonpath import CompoundJSONPath, JSONPath

SIZE_LIMIT = 256 * MEBIBYTE
"""A larger file (bytes) is not parsed."""
DEPTH_LIMIT = 100
"""Lists and objects nested deeper than this are not followed: the JSONPath library's own limit for ``$..``."""
LINEWISE = frozenset({".jsonl", ".ndjson"})

_VERSION = 1
"""Rises with every change that gives another digest under the same rules: part of the rules' digest."""

_PLAIN_KEY = re.compile("[A-Za-z_][A-Za-z0-9_]*")

Queries: TypeAlias = "Mapping[str, JSONPath | CompoundJSONPath]"
Removed: TypeAlias = "dict[str | int, Removed | None]"
"""The nodes to leave out, as a tree of keys and indexes; None: this node with all that is in it."""


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """An output's digest under its rules, and the rules that selected nothing in it."""

    digest: Digest
    unmatched: tuple[str, ...] = ()


class _Number(float):
    """A number that keeps its text, and is a number to a rule's filter."""

    __slots__ = ("text",)
    text: str


def check(output: Output) -> None:
    """Raise InvalidInput where a rule of ``output`` is no JSONPath, or leaves nothing to compare."""
    for rule in output.ignore:
        _compiled(rule, output.path)


def rules_digest(output: Output) -> Digest | None:
    """The digest of the rules themselves (their order does not matter); None where there are none."""
    if not output.ignore:
        return None
    return Digest.of_json({"ignore": sorted(set(output.ignore)), "version": _VERSION})


def ruled(output: Output, path: Path, *, name: PurePosixPath | None = None) -> Ruled:
    """The digest of the file at ``path`` under the rules of ``output``, which has at least one.

    ``name`` is the file's path in the work folder, where it is stored under another name: a suffix of LINEWISE has
    it read line by line. Raises Uncomparable, with the reason, where the file is no JSON that the rules can be
    applied to, and InvalidInput where a rule is no JSONPath.
    """
    try:
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise _inapplicable(f"{size // MEBIBYTE} MiB, and at most {SIZE_LIMIT // MEBIBYTE} MiB are read")
        data = path.read_bytes()
    except OSError as error:
        raise _inapplicable(f"the file cannot be read: {error.strerror}") from error
    return ruled_bytes(output, data, name=name or PurePosixPath(path.name))


def ruled_bytes(output: Output, data: bytes, *, name: PurePosixPath) -> Ruled:
    """As ``ruled``, for bytes."""
    queries = _queries(output)
    unmatched = set(queries)
    hasher = hashlib.sha256()
    for where, document in _documents(data, name):
        pieces = _canonical(document, _removed(document, queries, unmatched, where))
        while batch := "".join(itertools.islice(pieces, 50_000)):
            hasher.update(batch.encode("ascii"))
        hasher.update(b"\n")
    return Ruled(digest=Digest(hasher.hexdigest()), unmatched=tuple(sorted(unmatched)))


def first_difference(output: Output, found: bytes, expected: bytes, *, name: PurePosixPath) -> str | None:
    """Where two JSON files first differ outside the rules: ``$.loss is 0.31, 0.30 expected``; None if nowhere.

    Raises Uncomparable where one of them is no JSON.
    """
    queries = _queries(output)
    here, there = list(_documents(found, name)), list(_documents(expected, name))
    for (where, one), (_, two) in zip(here, there, strict=False):
        left = _pruned(one, _removed(one, queries, set(), where))
        right = _pruned(two, _removed(two, queries, set(), where))
        if difference := _difference(left, right, "$"):
            return where + difference
    return None if len(here) == len(there) else f"{len(here)} lines, {len(there)} expected"


def _queries(output: Output) -> Queries:
    return {rule: _compiled(rule, output.path) for rule in sorted(set(output.ignore))}


def _compiled(rule: str, path: PurePosixPath) -> JSONPath | CompoundJSONPath:
    from jsonpath import JSONPath, JSONPathEnvironment  # noqa: PLC0415  (late: it costs 50 ms)

    try:
        query = JSONPathEnvironment(strict=True).compile(rule)
    except Exception as error:  # not all of the library's errors are its own: `$[1e5]` is a ValueError
        raise InvalidInput(
            f"the rule {rule!r} for {path} is no JSONPath: {_reason(error)}",
            hint="a rule begins at the root, such as $.seconds or $..time (RFC 9535)",
        ) from error
    if isinstance(query, JSONPath) and query.empty():
        raise InvalidInput(
            f"the rule {rule!r} for {path} ignores the whole file, and nothing is left to compare",
            hint="name the part that may differ, or take the output out of `outputs`",
        )
    return query


def _reason(error: Exception) -> str:
    """The library's own words. Not ``str(error)``: that fails for some of its errors, an empty rule's among them."""
    return str(error.args[0]) if error.args else type(error).__name__


# --- reading ----------------------------------------------------------------------------------


def _documents(data: bytes, name: PurePosixPath) -> Iterator[tuple[str, Any]]:
    """The documents of a file, each with the words that place it in a message: ``line 3: `` or nothing."""
    if name.suffix.lower() not in LINEWISE:
        yield "", _parsed(data, "")
        return
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield f"line {number}: ", _parsed(line, f"line {number}: ")


def _parsed(data: bytes, where: str) -> Any:
    try:
        document = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_integer,
            parse_constant=_number,
        )
    except UnicodeDecodeError as error:
        raise _inapplicable(f"{where}not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if where else f"line {error.lineno}, column {error.colno}"
        raise _inapplicable(f"{where}not JSON ({error.msg}, {place})") from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except ValueError as error:
        raise _inapplicable(f"{where}{error}") from error
    _hold_depth(document, where)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {json.dumps(twice)} stands twice in one object")
    return found


def _number(text: str) -> _Number:
    number = _Number(text)
    number.text = text
    return number


def _integer(text: str) -> int | _Number:
    """An int says its own text, except where Python refuses its length and for a negative zero."""
    return _number(text) if text == "-0" or len(text) > 4000 else int(text)


def _hold_depth(document: Any, where: str) -> None:
    level = [document]
    for _ in range(DEPTH_LIMIT):
        containers = [value for value in level if isinstance(value, dict | list)]
        if not containers:
            return
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    if any(isinstance(value, dict | list) for value in level):
        raise _too_deep(where)


def _too_deep(where: str) -> Uncomparable:
    return _inapplicable(f"{where}nested deeper than {DEPTH_LIMIT} levels")


def _inapplicable(reason: str) -> Uncomparable:
    return Uncomparable(
        f"the rules cannot be applied: {reason}",
        hint="`ignore` is for JSON files; change the output, or take its rules away",
    )


# --- leaving out ------------------------------------------------------------------------------


def _removed(document: Any, queries: Queries, unmatched: set[str], where: str) -> Removed:
    """The nodes of ``document`` that any query selects; takes the rules that select one out of ``unmatched``."""
    removed: Removed = {}
    if not isinstance(document, dict | list):
        return removed
    for rule, query in queries.items():
        try:
            for match in query.finditer(document):
                unmatched.discard(rule)
                _mark(removed, match.parts)
        except Exception as error:  # a filter meets any value here, and the library's own failures are many
            raise _inapplicable(f"{where}{rule} fails on this file: {_reason(error)}") from error
    return removed


def _mark(removed: Removed, parts: tuple[int | str, ...]) -> None:
    node = removed
    for part in parts[:-1]:
        inner = node.setdefault(part, {})
        if inner is None:
            return
        node = inner
    node[parts[-1]] = None


def _pruned(value: Any, removed: Removed) -> Any:
    """``value`` without the removed nodes."""
    if isinstance(value, dict):
        return {key: _pruned(inner, removed.get(key) or {}) for key, inner in value.items() if _stays(key, removed)}
    if isinstance(value, list):
        return [_pruned(inner, removed.get(at) or {}) for at, inner in enumerate(value) if _stays(at, removed)]
    return value


def _stays(key: str | int, removed: Removed) -> bool:
    return key not in removed or removed[key] is not None


def _canonical(value: Any, removed: Removed) -> Iterator[str]:
    """One spelling of ``value`` without the removed nodes, in pieces, in ASCII."""
    if isinstance(value, dict):
        yield "{"
        for count, key in enumerate(sorted(key for key in value if _stays(key, removed))):
            yield f"{',' if count else ''}{json.dumps(key)}:"
            yield from _canonical(value[key], removed.get(key) or {})
        yield "}"
    elif isinstance(value, list):
        yield "["
        for count, at in enumerate(at for at in range(len(value)) if _stays(at, removed)):
            if count:
                yield ","
            yield from _canonical(value[at], removed.get(at) or {})
        yield "]"
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    return value.text if isinstance(value, _Number) else json.dumps(value)


# --- explaining -------------------------------------------------------------------------------


def _difference(found: Any, expected: Any, at: str) -> str | None:
    """The first difference, keys in sorted order; both values in the words of JSON."""
    if isinstance(found, dict) and isinstance(expected, dict):
        places = ((key, _place(at, key)) for key in sorted(found.keys() | expected.keys()))
        differences = (_member_difference(found, expected, key, place) for key, place in places)
        return next(filter(None, differences), None)
    if isinstance(found, list) and isinstance(expected, list):
        pairs = enumerate(zip(found, expected, strict=False))
        differences = (_difference(one, two, f"{at}[{index}]") for index, (one, two) in pairs)
        lengths = None if len(found) == len(expected) else f"{at} has {len(found)} items, {len(expected)} expected"
        return next(filter(None, differences), lengths)
    scalars = not isinstance(found, dict | list) and not isinstance(expected, dict | list)
    if scalars and _scalar(found) == _scalar(expected):
        return None
    return f"{at} is {_short(found)}, {_short(expected)} expected"


def _member_difference(found: dict[str, Any], expected: dict[str, Any], key: str, place: str) -> str | None:
    if key not in found:
        return f"{place} is missing, {_short(expected[key])} expected"
    if key not in expected:
        return f"{place} is new: {_short(found[key])}"
    return _difference(found[key], expected[key], place)


def _place(at: str, key: str) -> str:
    return f"{at}.{key}" if _PLAIN_KEY.fullmatch(key) else f"{at}[{json.dumps(key)}]"


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = _scalar(value)
    return text if len(text) <= 32 else text[:29] + "..."
