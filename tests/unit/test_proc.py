from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reprobox import proc
from reprobox.errors import ProgramFailed, ProgramMissing, ProgramTooSlow


def test_both_streams_are_kept_apart_and_heard_line_by_line() -> None:
    heard: list[str] = []
    done = proc.run(["sh", "-c", "echo a; echo b >&2"], on_line=heard.append)
    assert (done.stdout, done.stderr, sorted(heard)) == (b"a\n", b"b\n", ["a", "b"])


def test_a_program_that_is_not_installed_is_its_own_error() -> None:
    with pytest.raises(ProgramMissing, match="no-such-program is not installed") as caught:
        proc.run(["no-such-program"], hint="get it")
    assert caught.value.hint == "get it"


def test_a_failing_program_shows_its_code_and_the_tail_of_its_complaint() -> None:
    with pytest.raises(ProgramFailed, match=r"(?s)sh failed with exit code 3:\nline 11\n.*line 40$"):
        proc.run(["sh", "-c", "seq -f 'line %g' 1 40 >&2; exit 3"])


def test_a_noisy_stderr_does_not_block() -> None:
    done = proc.run([sys.executable, "-c", "import sys; sys.stderr.write('x' * 10**7); print('done')"])
    assert (done.stdout, len(done.stderr)) == (b"done\n", 10**7)


def test_an_interrupted_listener_ends_the_process() -> None:
    with pytest.raises(KeyboardInterrupt):
        proc.run(["sh", "-c", "echo $$; exec sleep 600"], on_line=_interrupt_main)
    assert (
        "sleep 600"
        not in subprocess.run(
            ["ps", "-o", "args", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
        ).stdout
    )


def _interrupt_main(_: str) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_guardian_runs_its_command_when_the_block_ends(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with proc.guardian(["touch", str(mark)]):
        assert not mark.exists()
    assert mark.exists()


def test_a_guardian_runs_its_command_when_its_owner_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = (
        "import sys, time\nfrom reprobox import proc\n"
        "with proc.guardian(['touch', sys.argv[1]]):\n  print('ready', flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(mark)], stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline() == b"ready\n"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    end = time.monotonic() + 30
    while not mark.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_program_that_takes_too_long_is_ended_and_its_own_error() -> None:
    began = time.monotonic()
    with pytest.raises(ProgramTooSlow, match=r"sleep did not end within 0\.2 s"):
        proc.run(["sleep", "30"], timeout=0.2)
    assert time.monotonic() - began < 10
