"""Image -> Conditions: what the locked libraries do on the machine that runs the experiment, read inside the image.

Importing a library takes up to seconds, so an answer is kept where no checkout can bring one. It counts as long as
nothing can have changed: the same image (its variables are part of it), the same limits, the same engine, and the same
boot of this very machine. The answer of another machine, or one that saw a GPU, whose driver can be replaced at any
time, is asked for anew each time.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from reprobox import files, hardware
from reprobox.console import Console
from reprobox.engines import Engine, Machine
from reprobox.errors import ProbeFailed
from reprobox.model import ENVIRONMENT_PREFIX, Conditions, Digest, Image, Job

BOOT = Path("/proc/sys/kernel/random/boot_id")
SCRIPT = Path(__file__).with_name("script.py")
NOTE = "conditions.json"
_TIMEOUT = 300.0
"""Seconds; a library on a slow network file system takes long to import."""


def job(libraries: tuple[str, ...], *, cpus: int, memory: int) -> Job:
    """The run that asks the locked ``libraries``, under the experiment's limits (``memory`` in bytes).

    The script is an argument: a remote engine could not mount it.
    """
    python = str(ENVIRONMENT_PREFIX / "bin/python")
    return Job(
        command=(python, "-I", "-c", SCRIPT.read_text(encoding="utf-8"), *sorted(libraries)),
        timeout=_TIMEOUT,
        cpus=cpus,
        memory=memory,
    )


def conditions(engine: Engine, image: Image, wanted: Job, *, memory: Path, console: Console) -> Conditions:
    """What ``wanted`` answers in ``image``, now or when it was last asked under the same conditions.

    ``memory`` is the folder in the user's cache where answers are kept. Raises ProbeFailed.
    """
    machine = engine.machine()
    key = str(Digest.of_json([str(image.digest), machine.identity, repr(dataclasses.astuple(wanted))]))
    if (kept := _known(memory / NOTE, key)) is not None:
        return _read(kept, machine)
    with console.step("Reading the hardware inside the image"):
        answer = _ask(engine, image, wanted, memory)
    found = _read(answer, machine)
    files.write_whole(memory / NOTE, json.dumps({"key": key, "answer": answer}, sort_keys=True).encode())
    return found


def _read(answer: Any, machine: Machine) -> Conditions:
    try:
        return hardware.read_answer(answer, engine=machine.engine)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProbeFailed(
            f"the image's answer about its hardware cannot be read: {error!r}",
            hint="does the image's own Python start anything at its start-up (sitecustomize, .pth files)?",
        ) from error


def _known(note: Path, key: str) -> Any:
    """The kept answer, where it still counts; None where it does not, or cannot be read."""
    try:
        kept = json.loads(note.read_bytes())
        answer = kept["answer"]
        here = BOOT.read_text(encoding="ascii")
        return answer if kept["key"] == key and answer["boot"] == here and answer["gpus"] == {"devices": []} else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _ask(engine: Engine, image: Image, wanted: Job, memory: Path) -> Any:
    said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    completed, _ = engine.run(
        image, wanted, into=memory / "probe", listen=lambda stream, data: said[stream].extend(data)
    )  # fmt: skip
    words = said["stderr"].decode("utf-8", "replace").splitlines()
    if completed.exit_code or completed.reason:
        reading = [line.removeprefix("reading ") for line in words if line.startswith("reading ")]
        tail = "".join(f"\n  {line}" for line in words[-8:])
        raise ProbeFailed(
            f"the hardware could not be read inside the image: its Python ended with exit code {completed.exit_code}"
            + (f" ({completed.reason})" if completed.reason else "")
            + (f", while it imported {reading[-1]}" if reading else "")
            + tail,
            hint=f"try `reprobox run -- python -c 'import {reading[-1]}'`" if reading else "see what it said above",
        )
    try:
        return json.loads(said["stdout"])
    except ValueError as error:
        raise ProbeFailed(
            f"the image's answer about its hardware is not JSON: {bytes(said['stdout'][:200])!r}",
            hint="does the image's own Python start anything at its start-up (sitecustomize, .pth files)?",
        ) from error
