"""What a ``pip install`` or a list of packages names -> a line for a requirements file. Pure."""

from __future__ import annotations

import re

from reprobox.draft.facts import Line, Place

_NO_VERSION = "a lock cannot hold this; write a version of it"


def requirement_line(text: str, place: Place) -> Line:
    """One package as pip takes it; a comment where no lock could hold it."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 (slow to import)

    text = text.strip()
    if re.fullmatch(r"\./?(\[[^\]]*\])?", text):
        return Line(text=f"-e {text}", place=place)
    try:
        url = Requirement(text).url
    except InvalidRequirement:
        return Line(text=text, place=place, because=_NO_VERSION)
    if url and not url.partition("#")[0].endswith((".whl", ".tar.gz", ".zip")):
        return Line(text=text, place=place, because=_NO_VERSION)
    return Line(text=text, place=place)
