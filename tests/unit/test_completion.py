"""Completion as real shells ask for it: quick, silent, right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from reprobox.cli import cli
from reprobox.command_line import SHELLS, locked_packages

LOCK = """\
# numpy-not-here==1
numpy==2.1.0 --hash=sha256:00
Nested-Name==3
    --hash=sha256:00
local @ file:x.whl
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with `reprobox` as a program, a project with a lock, and a project whose lock is not text."""
    program = tmp_path / "bin" / "reprobox"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m reprobox "$@"\n')
    program.chmod(0o755)
    for name, lock in (("project", LOCK.encode()), ("broken", b"\xff\xfe")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.lock").write_bytes(lock)
    return tmp_path


def _shell(home: Path, *words: str) -> str:
    """What a shell says, on both streams."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    environment = {**os.environ, "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=environment, cwd=home / "project", timeout=60
    )
    return done.stdout + done.stderr


def _bash(home: Path, *line: str) -> list[str]:
    """What bash offers for the last of the words."""
    words = " ".join(f"'{word}'" for word in ("reprobox", *line))
    script = f"""
        source <(reprobox completion bash)
        COMP_WORDS=({words}); COMP_CWORD={len(line)}; COMPREPLY=()
        $(complete -p reprobox | sed 's/.*-F \\([^ ]*\\) .*/\\1/') reprobox
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return sorted(filter(None, _shell(home, "bash", "--norc", "-c", script).splitlines()))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["ver"], ["verify"]),
        (["-v", "rec"], ["record"]),
        (["verify", "--r"], ["--runs"]),
        (["verify", "--verb"], ["--verbose"]),
        (["render", "--platform", "linux-a"], ["linux-aarch64"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["lock", "--upgrade", "n"], ["nested-name", "numpy"]),
        (["-C", "../broken", "lock", "--upgrade", "n"], []),
        (["lock", "-C", "../broken", "--upgrade", "n"], []),
        (["-C", "../nowhere", "lock", "--upgrade", "n"], []),
        (["no-such-verb", "--x"], []),
        (["lock", "--no-such-option", "x", ""], []),
    ],
)
def test_bash_completes(line: list[str], offered: list[str], home: Path) -> None:
    assert _bash(home, *line) == offered


def test_bash_completes_every_verb(home: Path) -> None:
    assert _bash(home, "") == sorted(cli.commands)


def test_zsh_completes(home: Path) -> None:
    script = """
        autoload -U compinit; compinit -u -d $HOME/dump
        source <(reprobox completion zsh)
        _describe() { shift; local name=$2; print -l ${(P)name}; }
        _arguments() { :; }
        compadd() { print -l -- $@; }
        words=(reprobox ver); CURRENT=2
        _reprobox_completion
    """
    said = _shell(home, "zsh", "-f", "-c", script)
    assert "verify:Run the experiment in the image" in said
    assert "command not found" not in said


def test_fish_completes(home: Path) -> None:
    script = "reprobox completion fish | source; complete --do-complete 'reprobox render --platform linux-a'"
    assert _shell(home, "fish", "--no-config", "-c", script) == "linux-aarch64\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_its_script(shell: str, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reprobox", "completion", shell], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_REPROBOX_COMPLETE={shell}_complete" in done.stdout


def test_a_lock_that_cannot_be_read_offers_nothing(home: Path) -> None:
    context = click.Context(cli)
    for folder in ("broken", "nowhere"):
        context.meta["reprobox.command_line.root"] = home / folder
        assert locked_packages(context, cli.params[0], "") == []
    context.meta["reprobox.command_line.root"] = home / "project"
    assert [one.value for one in locked_packages(context, cli.params[0], "")] == ["local", "nested-name", "numpy"]


def _asked(line: str, *, number: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "_REPROBOX_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": number}
    program = (
        "import sys, atexit; from reprobox.cli import main\n"
        "atexit.register(lambda: open(sys.argv[1], 'w').write(' '.join(name.split('.')[0] for name in sys.modules)))\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "modules"], capture_output=True, text=True, check=False, env=environment
    )


def test_completing_imports_nothing_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _asked("reprobox render --platform linux-6", number="3").stdout == "plain,linux-64\n"
    slow = {"pydantic", "docker", "requests", "rich", "jinja2", "yaml", "jsonpath", "uv", "packaging"}
    assert slow & set((tmp_path / "modules").read_text().split()) == set()


@pytest.mark.parametrize(("line", "number"), [("reprobox 'unclosed", "1"), ("reprobox", "not-a-number"), ("", "0")])
def test_no_error_reaches_the_user_s_line(
    line: str, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _asked(line, number=number).stderr == ""
