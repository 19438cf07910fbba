"""The verbs' words: every verb and option documented, examples that are true, common options on either side."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from reprobox.cli import cli
from reprobox.command_line import Common, Session, Verb, Verbs, summary
from reprobox.model import Status

VERBS = sorted(cli.commands)


def _help(verb: str, width: int = 80) -> str:
    context = click.Context(cli, info_name="reprobox", terminal_width=width)
    command = cli.commands[verb]
    return command.get_help(click.Context(command, info_name=verb, parent=context, terminal_width=width))


def _verb(verb: str) -> Verb:
    command = cli.commands[verb]
    assert isinstance(command, Verb)
    return command


def _silence(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Every verb does nothing from now on, but notes its session."""
    seen: list[Session] = []

    def note(**_: Any) -> int:
        seen.append(click.get_current_context().obj)
        return 0

    for command in cli.commands.values():
        monkeypatch.setattr(command, "callback", note)
    return seen


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_in_one_sentence_what_it_does(verb: str) -> None:
    assert summary(cli.commands[verb]).endswith(".")
    assert len(summary(cli.commands[verb])) < 100


@pytest.mark.parametrize("verb", ["reprobox", *VERBS])
def test_every_option_says_what_it_does(verb: str) -> None:
    command = cli.commands.get(verb, cli)
    for option in (one for one in command.params if isinstance(one, click.Option)):
        assert option.help and option.help.endswith((".", "]")), f"{verb} {option.opts}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_that_its_parser_takes(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _silence(monkeypatch)
    examples = _verb(verb).examples
    assert examples
    for number, example in enumerate(examples, 1):
        (words,) = re.findall(r"\breprobox [^)>|#]+", example)
        assert shlex.split(words)[1] == verb
        assert cli.main(shlex.split(words)[1:], prog_name="reprobox", standalone_mode=False) == 0
        assert len(seen) == number


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("verb", VERBS)
def test_examples_stay_whole_on_lines_of_their_own(verb: str, width: int) -> None:
    lines = _help(verb, width).splitlines()
    for example in _verb(verb).examples:
        assert f"  {example}" in lines


def test_the_verbs_stand_in_the_order_of_the_work_and_unknown_ones_after_them() -> None:
    def verbs(*names: str) -> list[str]:
        group = Verbs(commands={name: Verb(name) for name in names})
        return group.list_commands(click.Context(group))

    assert verbs("verify", "lock", "init") == ["init", "lock", "verify"]
    assert verbs("zeta", "completion", "alpha", "build") == ["build", "completion", "alpha", "zeta"]
    assert [verb for verb in cli.list_commands(click.Context(cli)) if verb in {"lock", "build", "verify"}] == [
        "lock", "build", "verify",
    ]  # fmt: skip


def test_the_list_of_verbs_cuts_no_sentence() -> None:
    whole = cli.get_help(click.Context(cli, info_name="reprobox", terminal_width=60))
    text = " ".join(whole.partition("Verbs:")[2].split())
    assert "..." not in text
    for verb in VERBS:
        assert summary(cli.commands[verb]) in text


@pytest.mark.parametrize("verb", VERBS)
def test_common_options_are_taken_after_every_verb_and_not_told_twice(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (seen,) = [_silence(monkeypatch)]
    needed = {"run": ["true"], "completion": ["bash"]}.get(verb, [])
    cli.main([verb, "-v", "-q", "-C", str(tmp_path), *needed], prog_name="reprobox", standalone_mode=False)
    cli.main(["-v", "-q", "-C", str(tmp_path), verb, *needed], prog_name="reprobox", standalone_mode=False)
    cli.main(
        ["-C", str(tmp_path.parent), verb, "-C", str(tmp_path), *needed], prog_name="reprobox", standalone_mode=False
    )
    whole = Session(root=tmp_path.resolve(), quiet=True, verbose=True)
    assert seen == [whole, whole, Session(root=tmp_path.resolve())]
    assert "--directory" not in _help(verb)


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_takes_the_name_of_a_common_option(verb: str) -> None:
    options = cli.commands[verb].params
    common = {name for option in options if isinstance(option, Common) for name in option.opts}
    own = {name for option in options if not isinstance(option, Common) for name in option.opts}
    assert common == {"-C", "--directory", "-q", "--quiet", "-v", "--verbose"}
    assert common & own == set()


def test_what_follows_the_command_of_run_is_the_command_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    monkeypatch.setattr(cli.commands["run"], "callback", lambda **words: seen.append(words["command"]))
    for words in (["python", "-v", "--help", "-C", "x"], ["-v", "--", "python", "--json"], ["sh", "--", "-q"]):
        cli.main(["run", *words], prog_name="reprobox", standalone_mode=False)
    assert seen == [("python", "-v", "--help", "-C", "x"), ("python", "--json"), ("sh", "--", "-q")]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "reprobox", "build", "-C", str(tmp_path / "nope")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: there is no folder {tmp_path / 'nope'}\nhint: create it, or correct -C\n"


@pytest.mark.parametrize("words", [["build"], ["doctor"], ["schema"], ["-C", "/", "lint", "x.py"]])
def test_a_current_folder_that_was_removed_is_told(words: list[str], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os; from reprobox import cli; os.rmdir({str(gone)!r}); cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=gone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == ("error: the current folder is there no more\nhint: change into one that exists: cd FOLDER\n")


def test_an_error_of_a_verb_names_its_file_as_the_workflow_s_checkout_does(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "reprobox.yaml").write_text("name: 1\n")
    env = {**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(tmp_path)}
    words = [sys.executable, "-m", "reprobox", "-C", str(tmp_path / "lab"), "lock"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 2
    assert "file=lab/reprobox.yaml" in done.stderr


def test_exit_codes_name_only_verdicts_that_exist() -> None:
    named = {word for verb in VERBS for word in re.findall(r"\b[A-Z_]{5,}\b", _verb(verb).exit_codes)}
    assert named
    assert named <= {status.value for status in Status}
