"""lint: what cannot be reproduced as it stands."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprobox.lint.check import Report


def lint(root: Path, paths: Iterable[Path]) -> Report:
    """What cannot be reproduced as it stands, in all of the project's files or in those that ``paths`` name."""
    from reprobox.lint import check  # noqa: PLC0415 (slow to import)

    return check.lint(root, tuple(paths))


def workflow_commands(root: Path, report: Report) -> list[str]:
    """A report's findings as GitHub Actions wants them; none anywhere else."""
    from reprobox.report import lint as written  # noqa: PLC0415

    if os.environ.get("GITHUB_ACTIONS") != "true":
        return []
    checkout = Path(os.environ.get("GITHUB_WORKSPACE") or root)
    inside = root.relative_to(checkout) if root.is_relative_to(checkout) else Path()
    return written.workflow_commands(report, folder=PurePosixPath(inside))
