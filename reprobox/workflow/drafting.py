"""init: a folder -> the first draft of its reprobox.yaml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reprobox import config, files
from reprobox.errors import InvalidInput, ReproboxError

if TYPE_CHECKING:
    from reprobox.draft.compose import Draft


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What `init` wrote, from what; ``refused``: why `lock` will not take it as it stands, as far as no solver is
    needed to know."""

    draft: Draft
    written: tuple[str, ...]
    refused: ReproboxError | None = None

    @property
    def exit_code(self) -> int:
        """0: a draft of everything that was seen; 1: it is known to miss something, or not to lock."""
        return 1 if self.refused or self.draft.lacking else 0


def init(root: Path, *, name: str | None = None) -> Drafted:
    """Draft reprobox.yaml, and a requirements file where none is there, from what lies in the folder.

    Overwrites nothing, and writes all of its files or none. Raises InvalidInput where reprobox.yaml exists, or where
    nothing says which packages are needed.
    """
    from reprobox.draft import compose, look  # noqa: PLC0415 (slow to import)
    from reprobox.resolvers import python  # noqa: PLC0415 (slow to import)

    there = next(
        (known for known in (config.CONFIG_FILE, *config.OTHER_CONFIG_FILES) if os.path.lexists(root / known)), None
    )
    if there:
        raise InvalidInput(
            f"{there} is there already, and is not overwritten",
            hint="edit it, then run `reprobox lock`; to see a new draft, move it away first",
        )
    if name is not None and compose.image_name(name) != name:
        raise InvalidInput(
            f"--name {name}: not the name of an image", hint=f"write --name {compose.image_name(name) or 'experiment'}"
        )
    if not root.is_dir():
        raise InvalidInput(f"there is no folder {root}", hint="name the project's folder: reprobox -C FOLDER init")
    draft = compose.draft(look.look(root), name=name)
    texts = {file: text.encode() for file, text in draft.files.items()}
    project = config.loads(texts[config.CONFIG_FILE], root=root)
    files.write_new_together(root, texts)
    refused = None
    try:
        python.read_inputs(project)
    except ReproboxError as error:
        refused = error
    return Drafted(draft=draft, written=tuple(texts), refused=refused)
