"""Findings -> the lines of `smoke:`: whole where command and outputs are known, else a template in comments. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from reprobox.config import RENDERED_FILES, is_own
from reprobox.draft.facts import Command, Fact, Findings, Note, Place, Script
from reprobox.draft.yaml_lines import commented, words

_USUAL = ("train.py", "main.py", "run.py", "experiment.py", "reproduce.py", "run_experiment.py", "run_all.py")
"""Names of scripts that start an experiment, the likeliest first."""
_INTRODUCTION = "# The experiment: `reprobox record` keeps what it writes, `reprobox verify` expects the same bytes."
_CONTROL = "a negative control: this must NOT give the same bytes"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The lines of the experiment, what they were made of, and what could not be seen."""

    lines: tuple[str, ...]
    found: tuple[Note, ...] = ()
    unseen: tuple[Note, ...] = ()


def choose(findings: Findings) -> Trial:
    """The experiment's lines; the section is only live where both its command and its outputs are known."""
    command = next(iter(findings.commands), None) or _of_scripts(findings)
    if command is None:
        return _without_command(findings)
    script = next((script for script in findings.scripts if _starts(command.words, script.path)), None)
    outputs = _apart(script.outputs if script else ())
    found = [Note(place=command.place, text=f"the command {shlex.join(command.words)}{', a guess' * command.guess}")]
    if not outputs:
        place = Place(file=script.path) if script else command.place
        text = "what it writes cannot be seen here: name it under `smoke:`, before `reprobox record`"
        return Trial(
            lines=_template(command.words, _control(command, script), command.why),
            found=tuple(found), unseen=(Note(place=place, text=text),),
        )  # fmt: skip
    lines = [
        _INTRODUCTION,
        "smoke:",
        commented(f"  command: {words(command.words)}", command.why),
        commented("  outputs:", "files or folders that the command writes"),
        *(commented(f"    - {words([fact.value])[1:-1]}", str(fact.place)) for fact in outputs),
    ]
    if control := _control(command, script):
        lines.append(commented(f"  control: {words(control)}", _CONTROL))
    else:
        lines += [f"  # {_CONTROL}; `record` needs one", f"  # control: {words([*command.words, '--seed', '1'])}"]
    lines.append(commented("  timeout: 10m", "a choice; `inputs`, `cpus` and `memory` may stand here too"))
    for fact in outputs:
        found.append(Note(place=fact.place, text=f"the output {fact.value}"))
    return Trial(lines=tuple(lines), found=tuple(found))


def _starts(command: Sequence[str], path: str) -> bool:
    module = path.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
    return path in command or any(pair == ("-m", module) for pair in pairwise(command))


def _of_scripts(findings: Findings) -> Command | None:
    """The one script that can only be meant: by its usual name, or because no other is made to be run."""
    here = [script.path for script in findings.scripts if "/" not in script.path]
    usual = [name for name in _USUAL if name in here]
    made = [script.path for script in findings.scripts if script.main]
    alone = here if len(here) == 1 and not made and not findings.notebooks else []
    meant = usual[:1] or (made if len(made) == 1 else alone)
    return Command(words=("python", meant[0]), place=Place(file=meant[0]), guess=True) if meant else None


def _without_command(findings: Findings) -> Trial:
    made = [script.path for script in findings.scripts if script.main]
    unseen = []
    if made:
        text = f"which script starts the experiment cannot be seen here: {', '.join(made[:5])}"
        unseen.append(Note(place=Place(file=made[0]), text=text))
    elif findings.notebooks:
        text = "a notebook is not run by this version: name a command under `smoke:` that executes it"
        unseen.append(Note(place=Place(file=findings.notebooks[0]), text=text))
    return Trial(lines=_template(("python", made[0] if made else "train.py"), None, ""), unseen=tuple(unseen))


def _template(command: Sequence[str], control: Sequence[str] | None, why: str) -> tuple[str, ...]:
    return (
        _INTRODUCTION,
        "# Name command and outputs, and remove the `# ` before these lines.",
        "# smoke:",
        commented(f"#   command: {words(command)}", why),
        "#   outputs:",
        commented("#     - out/result.csv", "a file or folder that the command writes"),
        commented(f"#   control: {words(control or [*command, '--seed', '1'])}", _CONTROL),
        "#   timeout: 10m",
    )


def _control(command: Command, script: Script | None) -> tuple[str, ...] | None:
    """The same command with another seed, where the command or its script is seen to take one."""
    given = list(command.words)
    for place, word in enumerate(given):
        name, equals, value = word.partition("=")
        if name != "--seed":
            continue
        if equals and value.isdecimal():
            return (*given[:place], f"--seed={int(value) + 1}", *given[place + 1 :])
        if not equals and place + 1 < len(given) and given[place + 1].isdecimal():
            return (*given[: place + 1], str(int(given[place + 1]) + 1), *given[place + 2 :])
        return None
    if script is None or script.seed is None:
        return None
    return (*given, "--seed", str(script.seed + 1))


def _apart(outputs: Sequence[Fact]) -> list[Fact]:
    """The outputs that reprobox.yaml may name: none inside another one, none of reprobox's own files."""
    paths = {PurePosixPath(fact.value) for fact in outputs}
    return [
        fact
        for fact in outputs
        if not paths & set((path := PurePosixPath(fact.value)).parents)
        and not is_own(path)
        and not (len(path.parts) == 1 and path.name in RENDERED_FILES)
    ]
