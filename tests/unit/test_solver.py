"""uv itself, on a folder of wheels: what it chooses is heard while it works, and its log stays out of its words."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from reprobox.console import Console, Step
from reprobox.resolvers.solver import Solver, solver


def _wheel(folder: Path, name: str, requires: str = "") -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n" + (
        f"Requires-Dist: {requires}\n" if requires else ""
    )
    with zipfile.ZipFile(folder / f"{name}-1.5-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}-1.5.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}-1.5.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.5.dist-info/RECORD", "")


class Spy(Step):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, detail: str) -> None:
        self.said.append(detail)


def _compile(uv: Solver, folder: Path, requirement: str) -> tuple[int, str]:
    (folder / "requirements.in").write_text(requirement)
    done = uv.run(
        ["pip", "compile", "requirements.in", "--no-index", "--find-links", ".", "--python", sys.executable], cwd=folder
    )
    return done.code, uv.words(done)


def test_what_uv_chooses_is_said_while_it_works(tmp_path: Path) -> None:
    _wheel(tmp_path, "outer", "inner>1")
    _wheel(tmp_path, "inner")
    spy = Spy()
    with solver(Console(), step=spy) as uv:
        assert _compile(uv, tmp_path, "outer")[0] == 0
    assert spy.said == ["outer 1.5", "inner 1.5"]


def test_uv_s_log_is_no_part_of_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_LOG", "trace")
    _wheel(tmp_path, "outer")
    with solver(Console()) as uv:
        code, words = _compile(uv, tmp_path, "outer>2")
    assert code == 1
    assert "DEBUG" not in words and "TRACE" not in words
    assert "outer" in words and "No solution found" in words
