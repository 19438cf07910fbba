"""Draft -> what was found, what was not, what was written and what comes next; for people and for programs. Pure."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from reprobox.console import has_colour, one_line
from reprobox.draft.compose import Draft
from reprobox.draft.facts import Note
from reprobox.errors import ReproboxError

_WIDEST_PLACE = 34
_NARROWEST = 60


def for_stream(draft: Draft, written: Sequence[str], stream: TextIO, *, refused: ReproboxError | None) -> str:
    """The report as ``stream`` can show it: its width, its colours, its characters."""
    text = render(
        draft, written, width=shutil.get_terminal_size().columns, colour=has_colour(stream), refused=refused
    )  # fmt: skip
    encoding = getattr(stream, "encoding", None) or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def render(
    draft: Draft, written: Sequence[str], *, width: int = 80, colour: bool = False, refused: ReproboxError | None = None
) -> str:
    """The report, ``width`` columns wide; ``refused`` is why `lock` will not take the draft as it is."""
    notes = [*draft.found, *draft.unseen]
    column = min(max((len(_place(note)) for note in notes), default=0), _WIDEST_PLACE)
    parts = [
        *_section("Found", draft.found, column, width, colour),
        *_section("Not in the draft", draft.unseen, column, width, colour),
        _title(f"Wrote {', '.join(written)}.", colour),
    ]
    if refused:
        parts.append(f"`reprobox lock` will not take it as it is: {refused.message}")
        parts += [f"  {refused.hint}"] if refused.hint else []
        parts.append("next: correct that, then run `reprobox lock`")
    elif draft.lacking:
        parts.append("next: see to what is marked with ! above, then run `reprobox lock`")
    else:
        parts.append("next: reprobox lock")
    return "\n".join(parts) + "\n"


def as_json(draft: Draft, written: Sequence[str], *, refused: str | None) -> dict[str, Any]:
    """The same facts as plain JSON values; ``refused`` is null where nothing is known against the draft."""
    return {
        "written": list(written),
        "found": [_facts(note) for note in draft.found],
        "not_in_the_draft": [_facts(note) for note in draft.unseen],
        "complete": not draft.lacking,
        "refused": refused,
    }


def _facts(note: Note) -> dict[str, Any]:
    return {"file": note.place.file, "line": note.place.line, "text": note.text, "lacking": note.lacking}


def _section(title: str, notes: Iterable[Note], column: int, width: int, colour: bool) -> list[str]:
    lines = []
    for note in notes:
        place = _place(note)
        head = f"{'!' if note.lacking else ' '} {place:<{column}}  "
        first = "" if len(place) <= column else f"{head.rstrip()}\n"
        lines.append(first + textwrap.fill(
            one_line(note.text), width=max(width, _NARROWEST), initial_indent=" " * (column + 4) if first else head,
            subsequent_indent=" " * (column + 4), break_long_words=False, break_on_hyphens=False,
        ))  # fmt: skip
    return [_title(f"{title}:", colour), *lines, ""] if lines else []


def _place(note: Note) -> str:
    return one_line(str(note.place))


def _title(text: str, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text
