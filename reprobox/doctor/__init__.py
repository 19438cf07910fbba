"""This machine -> diagnoses: what reprobox needs, whether it is here, what to do. It changes nothing.

Each check is two functions: one that looks (and is bounded in time), one that judges what was seen, which is pure.
"""

from __future__ import annotations

import sysconfig
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reprobox.doctor.diagnosis import Condition, Diagnosis, Examination, problem, warning
from reprobox.errors import ReproboxError
from reprobox.model import BootstrapBase, Project

__all__ = ["Check", "Condition", "Diagnosis", "Examination", "checks", "examine"]

DEADLINE = 12.0
"""Seconds for all checks together, which run at once. Each bounds its own parts; this catches what does not."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something to look at; ``needed``: without an answer nothing can be built or run."""

    section: str
    subject: str
    look: Callable[[], Iterable[Diagnosis]]
    needed: bool = False


def checks(root: Path) -> tuple[Check, ...]:
    """All checks, in the order in which they are told."""
    import docker as _docker  # noqa: F401, PLC0415 (here, because its circular imports break when several threads begin them)

    from reprobox.doctor import building, docker, gpu, machine, network, project  # noqa: PLC0415 (slow to import)

    sysconfig.get_config_vars()  # its first call is not safe in several threads, and finding uv makes it
    found = project.load(root)
    base = found.base if isinstance(found, Project) and isinstance(found.base, BootstrapBase) else None
    return (
        Check(section="Engines", subject="Docker client", look=docker.client, needed=True),
        Check(section="Engines", subject="Docker daemon", look=docker.daemon, needed=True),
        Check(section="Engines", subject="Apptainer", look=machine.apptainer),
        Check(section="Building", subject="Builder", look=docker.builder, needed=True),
        Check(section="Building", subject="uv", look=building.uv, needed=True),
        Check(section="Building", subject="git", look=lambda: building.git(root)),
        Check(section="Building", subject="mmdebstrap", look=lambda: building.bootstrap(base)),
        Check(section="This machine", subject="Processor", look=machine.processor),
        Check(section="This machine", subject="User namespaces", look=machine.namespaces),
        Check(section="This machine", subject="Disks", look=lambda: machine.disks(root)),
        Check(section="Network", subject="Certificates", look=network.certificates),
        Check(section="Network", subject="Proxies", look=network.proxies),
        Check(section="Network", subject="Package index", look=network.index),
        Check(section="GPU", subject="NVIDIA", look=gpu.gpu),
        Check(section="Project", subject="Project", look=lambda: project.project(root, found)),
    )


@dataclass
class _Answer:
    findings: list[Diagnosis] = field(default_factory=list)
    complete: bool = False
    fault: Exception | None = None


def examine(wanted: Iterable[Check], *, deadline: float = DEADLINE) -> Examination:
    """All checks at once; one that has not ended after ``deadline`` seconds is told as such, not waited for."""
    wanted = tuple(wanted)
    answers = [_Answer() for _ in wanted]
    threads = [
        threading.Thread(target=_look, args=(check, answer), daemon=True)
        for check, answer in zip(wanted, answers, strict=True)
    ]
    end = time.monotonic() + deadline
    for thread in threads:
        thread.start()
    sections: dict[str, tuple[Diagnosis, ...]] = {}
    for check, answer, thread in zip(wanted, answers, threads, strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        if answer.fault:
            raise answer.fault
        findings = list(answer.findings)
        if not answer.complete:
            grave = problem if check.needed else warning
            findings.append(
                grave(check.subject, f"no answer within {deadline:g} s", "something hangs: see what, and restart it")
            )
        sections[check.section] = (*sections.get(check.section, ()), *findings)
    return Examination(sections=sections)


def _look(check: Check, answer: _Answer) -> None:
    grave = problem if check.needed else warning
    try:
        for finding in check.look():
            answer.findings.append(finding)
    except ReproboxError as error:
        answer.findings.append(grave(check.subject, error.message, error.hint or "correct what it says"))
    except OSError as error:
        said = f"could not be looked at: {error.strerror or error}"
        answer.findings.append(grave(check.subject, said, "see that this user may read it"))
    except Exception as error:  # a fault of ours: told by the thread that can end the program
        answer.fault = error
    answer.complete = True
