"""What is remembered of a config is what would be read, and nothing else is believed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprobox import cache, config, config_memory
from reprobox.errors import InvalidConfig
from reprobox.model import Digest

WHOLE = """\
name: warm-start
environment: {file: pyproject.toml, extras: [cpu], groups: [dev]}
python: "3.11"
base: {bootstrap: debian, suite: bookworm}
platforms: [linux-aarch64, linux-64]
system: [git]
determinism: off
env: {B_C: "2", A: "1"}
epoch: 7
exclude-newer: 2026-01-31
smoke:
  command: [python, train.py]
  inputs: [data/é.npz]
  outputs: [out/model.npz, {path: out/metrics.json, ignore: [$.seconds]}]
  control: [python, train.py, "1"]
  timeout: 2m
  cpus: 2
  memory: 1.5GiB
"""
SMALL = 'name: small\nenvironment: requirements.in\npython: "3.12"\nbase: debian:bookworm-slim\n'


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The configs that were checked and not remembered."""
    found: list[bytes] = []
    checked = config._checked
    monkeypatch.setattr(config, "_checked", lambda data: found.append(data) or checked(data))
    return found


def _memories() -> list[Path]:
    return sorted((cache.folder() / "configs").glob("*"))


@pytest.mark.parametrize("text", [WHOLE, SMALL])
def test_a_remembered_config_is_the_same_project(text: str, tmp_path: Path, checks: list[bytes]) -> None:
    (tmp_path / "reprobox.yaml").write_text(text)
    first, again = config.load(tmp_path), config.load(tmp_path)
    assert len(checks) == 1
    assert again == first == config.loads(text.encode(), root=tmp_path)


def test_a_changed_config_is_checked_anew(tmp_path: Path, checks: list[bytes]) -> None:
    for name in ("one", "two"):
        (tmp_path / "reprobox.yaml").write_text(SMALL.replace("small", name))
        assert config.load(tmp_path).name == name
    assert len(checks) == 2


def test_a_config_with_a_fault_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text(SMALL + "unknown: 1\n")
    for _ in range(2):
        with pytest.raises(InvalidConfig):
            config.load(tmp_path)
    assert _memories() == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"config": {}}', "edited"])
def test_a_damaged_memory_is_not_believed(damage: str, tmp_path: Path, checks: list[bytes]) -> None:
    (tmp_path / "reprobox.yaml").write_text(SMALL)
    first = config.load(tmp_path)
    (memory,) = _memories()
    memory.write_text(memory.read_text().replace("small", "other") if damage == "edited" else damage)
    assert config.load(tmp_path) == first
    assert len(checks) == 2
    assert json.loads(memory.read_bytes())["config"]["name"] == "small"


def test_other_checks_have_other_memories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: list[bytes]) -> None:
    (tmp_path / "reprobox.yaml").write_text(SMALL)
    config.load(tmp_path)
    monkeypatch.setattr(config_memory, "_CHECKS", ("config.py", "model.py"))
    config.load(tmp_path)
    assert len(checks) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reprobox.yaml").write_text(SMALL)
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert config.load(tmp_path) == config.load(tmp_path)


def test_a_remembered_config_imports_neither_pydantic_nor_yaml(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text(WHOLE)
    config.load(tmp_path)
    program = f"import sys, pathlib; from reprobox import config; config.load(pathlib.Path({str(tmp_path)!r}));"
    program += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pydantic", "pydantic_core", "yaml", "jsonpath"} & set(done.stdout.split())


@pytest.mark.parametrize("part", ["version", *config_memory._CHECKS])
def test_a_memory_is_of_these_checks_and_this_version(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = config_memory._place(b"x")
    if part == "version":
        monkeypatch.setattr(config_memory, "__version__", "99")
    else:
        of_file = Digest.of_file
        monkeypatch.setattr(Digest, "of_file", lambda path: Digest.of(b"") if path.name == part else of_file(path))
    assert config_memory._place(b"x") != before
    assert {"config.py", "config_yaml.py", "config_model.py", "model.py"} == set(config_memory._CHECKS)


def test_of_many_memories_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_memory, "MOST", 2)
    for number in range(5):
        config_memory.keep(bytes([number]), {"number": number})
        os.utime(config_memory._place(bytes([number])), (number, number))
    assert len(_memories()) == 2
    assert [number for number in range(5) if config_memory.recall(bytes([number]))] == [3, 4]
