from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from examples import project
from reprobox import tree, workflow
from reprobox.errors import InvalidInput


def test_a_file_edited_while_a_build_is_prepared_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "requirements.in").write_text("")
    (tmp_path / "train.py").write_text("print(1)\n")
    wanted = project(tmp_path)
    prepared: Any = SimpleNamespace(project=wanted, tree=tree.read(wanted))
    workflow._require_unchanged(prepared)
    (tmp_path / "train.py").write_text("print(2)\n")
    with pytest.raises(InvalidInput, match="files changed while the build was being prepared"):
        workflow._require_unchanged(prepared)
