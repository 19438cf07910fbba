"""Verdict -> the table for people and the JSON value for programs."""

import io
import json
import re
from pathlib import Path

import pytest

from reprobox.console import ASCII_MARKS, UNICODE_MARKS
from reprobox.model import Digest, Finding, HardwareClass, Image, Status, Verdict
from reprobox.report.machine import verdict_json
from reprobox.report.terminal import for_stream, render, size, summary

HERE = HardwareClass(facts={"architecture": "x86_64", "instructions": "x86-64-v3"})
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")


def finding(path, status, detail="", size=None, passes=None, **digests):
    status = Status[status]
    if passes is None:
        passes = status in {Status.IDENTICAL, Status.SAME_CONTENT, Status.CONTROL_DIFFERS}
    return Finding(path=path, status=status, passes=passes, detail=detail, size=size, **digests)


def verdict(*findings, runs=1, log=None, hardware=HERE):
    return Verdict(
        findings=findings,
        hardware=hardware,
        image=Image(engine="docker", reference="warm:lock-1", handle="sha256:x", digest=ONE),
        runs=runs,
        seconds=3.21,
        log=log,
    )


FAILING = verdict(
    finding("out/model.npz", "DIFFERENT", "17 of 123456 bytes differ, the first at byte 9120", 123456),
    finding("out/metrics.json", "SAME_CONTENT", "ignoring $.seconds", 812),
    finding("out/logs/a/long/path/that/goes/on.csv", "MISSING", "recorded, and the run did not write it"),
    finding("(control)", "CONTROL_DIFFERS", "it changed out/model.npz"),
    runs=2,
)

GOLDEN = {
    "identical": (
        verdict(finding("out/model.npz", "IDENTICAL", size=123456), finding("out/metrics.json", "IDENTICAL", size=812)),
        """\
   verdict    output                 size  detail
✓  IDENTICAL  out/model.npz     120.6 KiB
✓  IDENTICAL  out/metrics.json      812 B

IDENTICAL  2 of 2 outputs, bit for bit, on portable x86-64-v3 (1 run, 3.2 s)
""",
    ),
    "failing": (
        FAILING,
        """\
   verdict          output                        size  detail
✗  DIFFERENT        out/model.npz            120.6 KiB  17 of 123456 bytes
                                                        differ, the first at
                                                        byte 9120
✓  SAME_CONTENT     out/metrics.json             812 B  ignoring $.seconds
✗  MISSING          out/logs/a/long/path/th             recorded, and the run
                    at/goes/on.csv                      did not write it
✓  CONTROL_DIFFERS  (control)                           it changed out/model.npz

DIFFERENT  2 of 3 outputs (1 DIFFERENT, 1 MISSING), on portable x86-64-v3 (2
runs, 3.2 s)
next: if the change is meant, `reprobox record --force` takes it as the new
baseline
""",
    ),
    "no baseline": (
        verdict(
            finding("a", "NO_BASELINE", "none for portable x86-64-v3; none was recorded yet", 1),
            finding("b", "NO_BASELINE", "none for portable x86-64-v3; none was recorded yet", 1),
        ),
        """\
   verdict      output  size  detail
!  NO_BASELINE  a        1 B  none for portable x86-64-v3; none was recorded yet
!  NO_BASELINE  b        1 B  as above

NO_BASELINE  2 of 2 outputs, on portable x86-64-v3 (1 run, 3.2 s)
next: run `reprobox record` on this hardware, and commit what it writes
""",
    ),
    "failed run": (
        verdict(finding("(run)", "RUN_FAILED", "exit code 3"), log=Path("runs/1/log.txt")),
        """\
   verdict     output  size  detail
!  RUN_FAILED  (run)         exit code 3

RUN_FAILED  the outputs were not judged, on portable x86-64-v3 (1 run, 3.2 s)
next: the run's own words are in runs/1/log.txt
""",
    ),
    "nothing": (
        verdict(),
        """\
INCOMPLETE  the outputs were not judged, on portable x86-64-v3 (1 run, 3.2 s)
next: declare `outputs` in reprobox.yaml
""",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_table_is_as_designed_at_80_columns(name):
    given, expected = GOLDEN[name]
    assert render(given, width=80) == expected


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width):
    text = render(FAILING, width=width)
    assert max(map(len, text.splitlines())) <= max(width, 40)
    if width >= 60:
        assert all(word in text for word in ("DIFFERENT", "SAME_CONTENT", "MISSING", "CONTROL_DIFFERS"))


def test_colour_adds_nothing_but_colour():
    coloured = render(FAILING, colour=True)
    assert "\x1b[31m✗" in coloured and "\x1b[32m✓" in coloured
    bare = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()]
    assert bare == render(FAILING).splitlines()
    assert "\x1b" not in render(FAILING)


def test_every_state_has_its_mark_and_its_word():
    text = render(verdict(*(finding(status.name.lower(), status.name) for status in Status)))
    lines = {line.split()[1]: line.split()[0] for line in text.splitlines()[1 : len(Status) + 1]}
    assert set(lines) == {status.value for status in Status}
    assert {word for word, mark in lines.items() if mark == "✓"} == {"IDENTICAL", "SAME_CONTENT", "CONTROL_DIFFERS"}
    assert {word for word, mark in lines.items() if mark == "!"} == {"RUN_FAILED", "NO_BASELINE", "INCOMPLETE"}


def test_ascii_is_enough():
    text = render(verdict(finding("out/é.npz", "IDENTICAL"), finding("b", "DIFFERENT")), unicode=False)
    assert text.isascii()
    assert text.splitlines()[1].startswith("ok  IDENTICAL  out/\\xe9.npz")
    assert text.splitlines()[2].startswith("x   DIFFERENT")


def test_names_from_outside_are_neither_markup_nor_commands_to_the_terminal():
    text = render(verdict(finding("out/[bold]\x1b[2Jx\ny", "DIFFERENT", "$.a is \x07 [/]")), width=120)
    assert "out/[bold]\\x1b[2Jx y" in text and "\\x07 [/]" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        (
            [finding("a", "IDENTICAL"), finding("b", "SAME_CONTENT")],
            "2 of 2 outputs, 1 of them under declared rules, on portable x86-64-v3 (1 run, 3.2 s)",
        ),
        ([finding("a", "EXTRA")], "1 of 1 output, on portable x86-64-v3 (1 run, 3.2 s)"),
        (
            [finding("a", "IDENTICAL"), finding("(control)", "CONTROL_UNCHANGED")],
            "1 of 1 output, bit for bit, on portable x86-64-v3; but the control changed nothing (1 run, 3.2 s)",
        ),
        (
            [finding("a", "IDENTICAL"), finding("(control)", "RUN_FAILED")],
            "1 of 1 output, bit for bit, on portable x86-64-v3; but the control did not run to its end (1 run, 3.2 s)",
        ),
        (
            [finding("a", "IDENTICAL"), finding("(control)", "INCOMPLETE")],
            "1 of 1 output, bit for bit, on portable x86-64-v3; but the control could not be judged (1 run, 3.2 s)",
        ),
    ],
)
def test_the_summary_says_how_many_how_and_where(findings, words):
    assert summary(verdict(*findings)) == words


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("DIFFERENT", "reprobox record --force"),
        ("MISSING", "correct `outputs`"),
        ("EXTRA", "takes it into the baseline"),
        ("UNSTABLE", "seed every random generator"),
        ("CONTROL_UNCHANGED", "have the command use its seed"),
        ("RUN_FAILED", "the run's own words are in its log"),
        ("INCOMPLETE", "does not pass"),
        ("NO_BASELINE", "run `reprobox record`"),
    ],
)
def test_every_failing_state_says_what_to_do_next(status, advice):
    last = render(verdict(finding("a", status)), width=200).splitlines()[-1]
    assert last.startswith("next: ") and advice in last


def test_the_stream_decides_on_width_colour_and_characters(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    class Stream(io.StringIO):
        encoding = "utf-8"
        tty = True

        def isatty(self):
            return self.tty

    stream = Stream()
    assert for_stream(FAILING, stream) == render(FAILING, width=60, colour=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert for_stream(FAILING, stream) == render(FAILING, width=60)
    monkeypatch.setattr(Stream, "encoding", "ascii")
    assert for_stream(FAILING, stream) == render(FAILING, width=60, unicode=False)
    assert UNICODE_MARKS.passed != ASCII_MARKS.passed


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (123456, "120.6 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_sizes_are_short(number, words):
    assert size(number) == words


def test_the_json_says_the_same_with_a_schema_number():
    given = verdict(
        finding("out/m.json", "DIFFERENT", "2 bytes, 1 expected", 2, expected=ONE, found=TWO), log=Path("log.txt")
    )
    found = verdict_json(given)
    assert found == {
        "schema": 1,
        "status": "DIFFERENT",
        "passes": False,
        "exit_code": 1,
        "hardware": {
            "name": "x86_64-x86-64-v3",
            "facts": {"architecture": "x86_64", "instructions": "x86-64-v3"},
        },
        "image": {"engine": "docker", "reference": "warm:lock-1", "digest": str(ONE)},
        "runs": 1,
        "seconds": 3.21,
        "log": "log.txt",
        "notes": [],
        "findings": [
            {
                "path": "out/m.json",
                "status": "DIFFERENT",
                "passes": False,
                "detail": "2 bytes, 1 expected",
                "expected": str(ONE),
                "found": str(TWO),
                "size": 2,
            }
        ],
    }
    assert json.loads(json.dumps(found)) == found


def test_the_json_of_nothing_known_has_nulls():
    found = verdict_json(verdict(finding("a", "MISSING")))
    assert found["log"] is None
    assert (found["findings"][0]["size"], found["findings"][0]["expected"], found["findings"][0]["found"]) == (
        None,
        None,
        None,
    )
