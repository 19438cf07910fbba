"""Which image was built of a project last: remembered in the user's cache, where no checkout can bring a note of its
own and so say which image is the project's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from reprobox import files
from reprobox.model import MEBIBYTE, Digest, Image


@dataclass(frozen=True, kw_only=True)
class Note:
    """An image, and the digest of the context that it was built from."""

    context: Digest
    image: Image


def place(root: Path, engine: str) -> Path:
    return files.memory_place(root) / f"image-{engine}.json"


def read(root: Path, engine: str) -> Note | None:
    """What was noted last; None where there is no note, or none that can be read: the image is built again."""
    try:
        facts = json.loads(files.read_plain(place(root, engine), most=MEBIBYTE))
        if facts.pop("checksum") != str(Digest.of_json(facts)):
            return None  # its digest goes into baselines: a damaged one must not be believed
        image = {name: str(facts["image"][name]) for name in ("engine", "reference", "handle")}
        return Note(
            context=Digest.parse(facts["context"]),
            image=Image(**image, digest=Digest.parse(facts["image"]["digest"])),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write(root: Path, note: Note) -> None:
    """Raises InvalidInput where the cache cannot be written."""
    facts: dict[str, object] = {"context": str(note.context), "image": image_facts(note.image)}
    facts["checksum"] = str(Digest.of_json(facts))
    files.write_whole(place(root, note.image.engine), json.dumps(facts, indent=2, sort_keys=True).encode())


def image_facts(image: Image) -> dict[str, str]:
    """An image as plain JSON values."""
    return {**vars(image), "digest": str(image.digest)}
