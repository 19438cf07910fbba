"""Verdict -> the table for people and the JSON value for programs."""

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from reprobox.console import ASCII_MARKS, UNICODE_MARKS
from reprobox.model import Conditions, Digest, Finding, HardwareClass, Image, Status, Verdict
from reprobox.report import markdown
from reprobox.report.machine import verdict_json
from reprobox.report.terminal import fold, for_stream, render, size, summary

HERE = HardwareClass(facts={"architecture": "x86_64", "instructions": "x86-64-v3"})
EPYC = HardwareClass(
    facts={
        "architecture": "x86_64",
        "cpu": "AMD EPYC",
        "gpu": "none",
        "instructions": "x86-64-v4",
        "numpy blas": "OpenBLAS Haswell",
    }
)
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
   verdict          output                      size  detail
✗  DIFFERENT        out/model.npz          120.6 KiB  17 of 123456 bytes differ,
                                                      the first at byte 9120
✓  SAME_CONTENT     out/metrics.json           812 B  ignoring $.seconds
✗  MISSING          out/lo…at/goes/on.csv             recorded, and the run did
                                                      not write it
✓  CONTROL_DIFFERS  (control)                         it changed out/model.npz

DIFFERENT  2 of 3 outputs (1 DIFFERENT, 1 MISSING), on portable x86-64-v3 (2
runs, 3.2 s)
next: if the change is meant, `reprobox record --force` takes it as the new
baseline
""",
    ),
    "no baseline": (
        verdict(
            finding("a", "NO_BASELINE", "none was recorded yet", 1),
            finding("b", "NO_BASELINE", "none was recorded yet", 1),
        ),
        """\
   verdict      output  size  detail
!  NO_BASELINE  a        1 B  none was recorded yet
!  NO_BASELINE  b        1 B  as above

NO_BASELINE  2 of 2 outputs, on portable x86-64-v3 (1 run, 3.2 s)
next: run `reprobox record` on this hardware, and commit what it writes
""",
    ),
    "other hardware": (
        dataclasses.replace(
            verdict(
                finding("a", "NO_BASELINE", "equal to the baseline of AMD EPYC, x86-64-v4", 1),
                hardware=HardwareClass(facts={**EPYC.facts, "cpu": "Xeon", "numpy blas": "OpenBLAS SkylakeX"}),
            ),
            elsewhere=(EPYC, HERE),
        ),
        """\
   verdict      output  size  detail
!  NO_BASELINE  a        1 B  equal to the baseline of AMD EPYC, x86-64-v4

NO_BASELINE  1 of 1 output, on Xeon, x86-64-v4 (1 run, 3.2 s)
a baseline is there for AMD EPYC, x86-64-v4:
  cpu: Xeon here, AMD EPYC there
  numpy blas: OpenBLAS SkylakeX here, OpenBLAS Haswell there
a baseline is there for portable x86-64-v3:
  determinism: one CPU model here, portable there
next: run `reprobox record` on this hardware, and commit what it writes
""",
    ),
    "failed run": (
        verdict(finding("(run)", "RUN_FAILED", "exit code 3"), log=Path("runs/1/log.txt")),
        """\
   verdict     output  size  detail
!  RUN_FAILED  (run)         exit code 3

RUN_FAILED  the command failed; its outputs were not compared, on portable
x86-64-v3 (1 run, 3.2 s)
next: the run's own words are in runs/1/log.txt
""",
    ),
    "nothing": (
        verdict(),
        """\
INCOMPLETE  nothing was compared, on portable x86-64-v3 (1 run, 3.2 s)
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
    assert max(map(len, text.splitlines())) <= width
    if width >= 40:
        assert all(word in text for word in ("DIFFERENT", "SAME_CONTENT", "MISSING", "CONTROL_DIFFERS"))


def test_a_narrow_terminal_gets_a_paragraph_for_each_output():
    assert render(FAILING, width=44).startswith("""\
✗ DIFFERENT  120.6 KiB
    out/model.npz
    17 of 123456 bytes differ, the first at
    byte 9120
✓ SAME_CONTENT  812 B
    out/metrics.json
    ignoring $.seconds
✗ MISSING
    out/logs/a/long/path/that/goes/on.csv
    recorded, and the run did not write it
""")


@pytest.mark.parametrize("width", [80, 120])
def test_names_of_wide_characters_keep_the_columns_in_line(width):
    text = render(
        verdict(
            finding("out/データ/結果/とても長い名前のファイル.npz", "IDENTICAL", "x", 1),
            finding("out/é.csv", "IDENTICAL", "x", 1),
        ),
        width=width,
    )
    header, wide, narrow = text.splitlines()[:3]
    at = header.index("detail")
    assert cell_len(wide) == at + 1 and wide.endswith("  x")
    assert narrow[at:] == "x"


def test_two_long_names_that_look_the_same_when_folded_are_shown_whole():
    long = "out/logs/a/long/run-{}/path/that/goes/on/and/on/metrics.csv"
    same = verdict(*(finding(long.format(n), "MISSING", "it did not write it, which is long") for n in (1, 2)))
    text = render(same, width=70)
    assert "…" not in text and "run-1" in text and "run-2" in text
    other = verdict(*(finding(long.format(n) + n, "MISSING", "it did not, which is long") for n in ("x", "y")))
    assert render(other, width=70).count("…") == 2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("aデé/", max_size=60), st.integers(min_value=8, max_value=40))
def test_a_folded_name_fits_and_keeps_its_end(text, limit):
    short = fold(text, limit)
    assert cell_len(short) <= limit
    assert short == text if cell_len(text) <= limit else short.endswith(text[-1:])


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=90) | st.text("aデ ", min_size=1), min_size=1, max_size=4),
    st.integers(min_value=20, max_value=140),
)
def test_no_table_is_wider_than_its_terminal(names, width):
    text = render(verdict(*(finding(name, "DIFFERENT", name, len(name)) for name in names)), width=width)
    assert max(map(cell_len, text.splitlines())) <= width


def test_brief_is_the_verdict_s_one_line_however_narrow():
    text = render(FAILING, width=30, brief=True)
    assert text == "DIFFERENT  2 of 3 outputs (1 DIFFERENT, 1 MISSING), on portable x86-64-v3 (2 runs, 3.2 s)\n"


def test_the_markdown_is_a_table_with_what_to_do_next():
    assert (
        markdown.render(verdict(finding("out/a_b.npz", "DIFFERENT", "<b> | `x`\n[y](z)", 812)))
        == f"""\
### ❌ warm: DIFFERENT

1 of 1 output, on portable x86-64-v3 (1 run, 3.2 s)

| verdict | output | size | detail |
|---|---|---:|---|
| **DIFFERENT** | out/a\\_b.npz | 812 B | &lt;b&gt; \\| \\`x\\` \\[y\\](z) |

Next: if the change is meant, `reprobox record --force` takes it as the new baseline

Image warm:lock-1, {ONE}

"""
    )
    assert markdown.render(verdict(finding("a", "IDENTICAL"))).startswith("### ✅ warm: IDENTICAL\n")
    assert markdown.render(verdict(finding("a", "NO_BASELINE"))).startswith("### ⚠️ warm: NO\\_BASELINE\n")


def test_the_markdown_is_appended_to_the_job_s_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert markdown.append("### é\n") is None
    assert page.read_text(encoding="utf-8") == "before\n### é\n"
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert markdown.append("nowhere") is None


def test_a_page_that_cannot_be_written_is_only_said(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    assert markdown.append("x") == f"the job's summary cannot be written to {tmp_path}: Is a directory"


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
        "conditions": None,
        "elsewhere": [],
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


def test_the_json_holds_the_conditions_and_what_other_classes_there_are():
    conditions = Conditions(
        engine="Docker 28.5.2",
        architecture="x86_64",
        cpu="AMD EPYC",
        instructions="x86-64-v4",
        cpus=2,
        memory=None,
        libraries={"numpy": {"simd": "X86_V3"}},
    )
    given = dataclasses.replace(verdict(finding("a", "NO_BASELINE")), conditions=conditions, elsewhere=(EPYC,))
    found = verdict_json(given)
    assert found["conditions"] == {
        "architecture": "x86_64",
        "cpu": "AMD EPYC",
        "cpus": 2,
        "engine": "Docker 28.5.2",
        "instructions": "x86-64-v4",
        "libraries": {"numpy": {"simd": "X86_V3"}},
    }
    assert found["elsewhere"] == [
        {"name": EPYC.name, "facts": EPYC.facts, "differs": ["determinism: portable here, one CPU model there"]}
    ]
