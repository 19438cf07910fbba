"""lint: what cannot be reproduced as it stands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprobox.lint.check import Report


def lint(root: Path, paths: Iterable[Path]) -> Report:
    """What cannot be reproduced as it stands, in all of the project's files or in those that ``paths`` name."""
    from reprobox.lint import check  # noqa: PLC0415 (slow to import)

    return check.lint(root, tuple(paths))
