"""The face of the program: exit codes, words, help. Nothing here needs an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reprobox.cli import cli


def _run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reprobox", "-C", str(root), *words], capture_output=True, text=True, check=False
    )


VERBS = sorted(cli.commands)


WITHOUT_CONFIG = {"completion", "doctor", "init", "lint", "run", "schema"}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in WITHOUT_CONFIG])
def test_a_folder_without_a_config_is_exit_code_2_without_a_traceback(verb: str, tmp_path: Path) -> None:
    done = _run(tmp_path, verb)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "reprobox.yaml" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("words", [["no-such-verb"], ["verify", "--runs", "0"], ["lock", "--check", "--upgrade", "x"]])
def test_wrong_words_are_exit_code_2(words: list[str], tmp_path: Path) -> None:
    done = _run(tmp_path, *words)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert done.stdout == ""


def test_all_problems_of_a_config_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text("name: x\nenviroment: requirements.in\npython: 3.10\nbase: debian:12\n")
    done = _run(tmp_path, "lock")
    assert done.returncode == 2
    assert "reprobox.yaml:2" in done.stderr
    assert "environment" in done.stderr
    assert "reprobox.yaml:3" in done.stderr
    assert "quote it" in done.stderr


def test_a_project_without_a_lock_is_told_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text('name: x\nenvironment: requirements.in\npython: "3.11"\nbase: debian:12\n')
    (tmp_path / "requirements.in").write_text("")
    for words in (["lock", "--check"], ["build"], ["render"]):
        done = _run(tmp_path, *words)
        assert (done.returncode, done.stderr) == (
            2,
            "error: there is no reprobox.lock\nhint: run `reprobox lock` first\n",
        )


def test_the_schema_is_json_on_stdout(tmp_path: Path) -> None:
    assert json.loads(_run(tmp_path, "schema").stdout)["additionalProperties"] is False


def test_a_platform_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    done = _run(tmp_path, "render", "--platform", "win-64")
    assert done.returncode == 2
    assert "there is no platform win-64" in done.stderr
    assert "linux-64" in done.stderr
