"""`reprobox lint` as a program: streams, exit codes, annotations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(root: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return subprocess.run(
        [sys.executable, "-m", "reprobox", "-C", str(root), "lint", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment | variables,
    )


@pytest.fixture
def warned(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("open('/home/alice/x')\n")
    return tmp_path


def test_a_warning_is_exit_code_0_and_with_strict_1(warned: Path) -> None:
    assert (run(warned).returncode, run(warned, "--strict").returncode) == (0, 1)
    assert run(warned).stdout.startswith("a.py:1: host-path: ")


def test_an_error_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("x")
    assert run(tmp_path).returncode == 1


def test_json_is_all_that_goes_to_stdout(warned: Path) -> None:
    (warned / "big.py").write_bytes(b" " * (2 * 1024 * 1024 + 1))
    done = run(warned, "--json", GITHUB_ACTIONS="true")
    assert [one["rule"] for one in json.loads(done.stdout)["findings"]] == ["host-path"]
    assert done.stderr == "not read: big.py is larger than 2 MiB\n"


def test_github_actions_gets_annotations_with_paths_of_the_repository(warned: Path) -> None:
    done = run(warned, GITHUB_ACTIONS="true", GITHUB_WORKSPACE=str(warned.parent))
    assert f"::warning file={warned.name}/a.py,line=1,title=reprobox lint%3A host-path::" in done.stderr
    assert run(warned).stderr == ""


def test_paths_are_relative_to_where_the_user_is(warned: Path) -> None:
    done = run(warned, "no-such.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: there is no " in done.stderr


def test_a_broken_config_is_exit_code_2(warned: Path) -> None:
    (warned / "reprobox.yaml").write_text("name: 3\n")
    done = run(warned)
    assert done.returncode == 2
    assert "reprobox.yaml:1" in done.stderr
