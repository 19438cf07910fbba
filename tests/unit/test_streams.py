"""Whatever stdin, stdout and stderr are: no traceback, and the exit code says what happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reprobox import cli


def _shell(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """``line`` in a shell, where $REPROBOX is the program."""
    return subprocess.run(
        ["bash", "-c", line.replace("$REPROBOX", f"'{sys.executable}' -m reprobox")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": "", **env},  # as for users: what is in a buffer can fail at the end
    )


def test_a_full_stdout_is_told_and_is_exit_code_2() -> None:
    done = _shell("$REPROBOX schema >/dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write to stdout: No space left on device\n")
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


def test_a_few_words_that_a_full_stdout_does_not_take_are_told_once() -> None:
    program = "from reprobox import cli; cli.cli.main = lambda **_: cli._say('few'); cli.main()"
    done = _shell(f"'{sys.executable}' -c \"{program}\" >/dev/full")
    assert done.returncode == 2
    assert done.stderr.count("No space left on device") == 1


def test_a_closed_stdout_is_told_where_something_is_to_be_written() -> None:
    done = _shell("$REPROBOX schema >&-")
    assert (done.returncode, done.stderr) == (2, "error: cannot write to stdout: Bad file descriptor\n")


def test_a_reader_that_is_gone_ends_us_as_the_signal_would(tmp_path: Path) -> None:
    done = _shell("(sleep 1; $REPROBOX schema; echo $? >&2) | true")
    assert done.stderr == f"{128 + signal.SIGPIPE}\n"


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_without_stderr_or_stdin_the_exit_code_and_the_data_are_the_same(closed: str, tmp_path: Path) -> None:
    done = _shell(f"$REPROBOX schema {closed}")
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == "reprobox.yaml"
    assert _shell(f"$REPROBOX -C '{tmp_path}' lock {closed}").returncode == 2
    assert _shell(f"$REPROBOX no-such-verb {closed}").returncode == 2


def test_a_stream_that_speaks_ascii_spells_out_what_it_cannot_print(tmp_path: Path) -> None:
    folder = tmp_path / "nö\u2192"
    folder.mkdir()
    done = _shell(f"$REPROBOX -C '{folder}' lock", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "there is no reprobox.yaml in" in done.stderr
    assert "n\\xf6\\u2192" in done.stderr


def test_json_is_json_in_any_encoding(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = 'from reprobox import cli, streams; streams.open_all(); cli._print_json(["n\\xf6\\udcff"])'
    done = _shell(f"'{sys.executable}' -c '{program}'", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout) == ["nö\udcff"]


def test_a_refusal_of_the_operating_system_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/small/disk/x")

    monkeypatch.setattr(cli.cli, "main", full)
    assert cli._main() == 2
    assert capsys.readouterr().err == (
        "error: the operating system refuses: No space left on device (/small/disk/x)\n"
        "hint: make room on the disk that holds it, then try again\n"
    )


def test_a_fault_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.cli, "main", lambda **_: {}["no key"])
    assert cli._main() == 2
    assert "KeyError" in capsys.readouterr().err
