"""The console: nothing of the outside is obeyed, nothing is said by colour alone, data stays on stdout."""

import io
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from reprobox import console
from reprobox.console import bars, lines, words
from reprobox.errors import InvalidConfig, Problem, ReproboxError


class Terminal(io.StringIO):
    """A stream that says it is a terminal, in an encoding of choice."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "GITHUB_ACTIONS", "GITHUB_WORKSPACE", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    # pytest puts its own sys.stderr back before the test begins: the module gets a sys of its own
    monkeypatch.setattr(console, "sys", SimpleNamespace(stderr=stream))
    return stream


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch):
    monkeypatch.setattr(words, "duration", lambda seconds: "1.2 s")


def test_the_base_class_is_silent(capsys):
    silent = console.Console()
    with silent.step("Working") as step:
        step.say("detail")
        step.advance(1, 2)
    silent.note("note")
    silent.warn("warning")
    assert capsys.readouterr() == ("", "")


def test_a_finished_step_is_one_line_on_stderr(capsys):
    with console.make(quiet=False, verbose=False).step("Resolving") as step:
        step.say("numpy")
        step.advance(1, 2)
    assert capsys.readouterr() == ("", "✓ Resolving  1.2 s\n")


def test_a_brief_step_leaves_a_line_only_where_it_failed_or_took_long(capsys, terminal, monkeypatch):
    shown = []
    for stream in (terminal, sys.stderr):
        monkeypatch.setattr(console, "sys", SimpleNamespace(stderr=stream))
        made = console.make(quiet=False, verbose=False)
        with made.step("Comparing", brief=True):
            pass
        assert "Comparing  1.2 s" not in terminal.getvalue() + capsys.readouterr().err
        with pytest.raises(KeyError), made.step("Failing", brief=True):
            raise KeyError
        for module in (bars, lines):
            monkeypatch.setattr(module, "BRIEF", 0.0)
        with made.step("Lasting", brief=True):
            pass
        monkeypatch.undo()
        shown.append(terminal.getvalue() + capsys.readouterr().err)
    assert all("Failing" in said and "Lasting" in said for said in shown)


def test_a_failed_step_is_marked_and_its_exception_goes_on(capsys):
    with pytest.raises(KeyError), console.make(quiet=False, verbose=False).step("Building"):
        raise KeyError
    assert capsys.readouterr().err == "✗ Building  1.2 s\n"


def test_a_step_that_ended_without_reaching_its_aim_is_marked(capsys, terminal, monkeypatch):
    for stream in (terminal, sys.stderr):
        monkeypatch.setattr(console, "sys", SimpleNamespace(stderr=stream))
        with console.make(quiet=False, verbose=False).step("Running") as step:
            step.failed = True
        monkeypatch.undo()
    assert "✗ \x1b[0mRunning" in terminal.getvalue()
    assert "✗ Running" in capsys.readouterr().err


def test_a_long_step_names_itself_while_it_runs(capsys, monkeypatch):
    monkeypatch.setattr(lines, "LONG", 0.01)
    with console.make(quiet=False, verbose=False).step("Building"):
        time.sleep(0.3)
    assert capsys.readouterr().err == "Building ...\n✓ Building  1.2 s\n"


def test_a_step_that_goes_on_says_from_time_to_time_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(lines, "LONG", 0.01)
    monkeypatch.setattr(lines, "BEAT", 0.2)
    with console.make(quiet=False, verbose=False).step("Building") as step:
        step.limit(600)
        step.say("#7 [env 1/2] RUN uv")
        step.advance(2, 9, unit="steps", what="env: RUN uv")
        time.sleep(0.5)
    first, second, *more = capsys.readouterr().err.splitlines()
    assert first == "Building ..."
    assert second == "Building ...  1.2 s of at most 1.2 s, 2 of 9 steps, env: RUN uv"
    assert more in (["✓ Building  1.2 s"], [second, "✓ Building  1.2 s"])


def test_plain_lines_hold_no_carriage_return_and_no_colour(capsys, monkeypatch):
    monkeypatch.setattr(lines, "LONG", 0.01)
    made = console.make(quiet=False, verbose=True)
    with made.step("Buil\rding") as step:
        step.say("10%\r100%")
        step.advance(1, 2, what="a\rb\x1b[31m")
        time.sleep(0.1)
    made.warn("a\rb")
    said = capsys.readouterr().err
    assert "\r" not in said and "\x1b" not in said
    assert "100%" in said and "10%\n" not in said


def test_a_silent_group_of_github_actions_beats_too(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(lines, "BEAT", 0.1)
    with console.make(quiet=False, verbose=False).step("Building"):
        time.sleep(0.15)
    assert capsys.readouterr().err.splitlines()[:2] == ["::group::Building", "Building ..."]


def test_verbose_prints_every_detail_and_a_repeated_one_once(capsys):
    with console.make(quiet=False, verbose=True).step("Resolving") as step:
        for detail in ("numpy", "numpy", "scipy", "  \n"):
            step.say(detail)
    assert capsys.readouterr().err == "  numpy\n  scipy\n✓ Resolving  1.2 s\n"


def test_quiet_leaves_warnings_only(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    quiet = console.make(quiet=True, verbose=True)
    with quiet.step("Resolving") as step:
        step.say("numpy")
    quiet.note("a note")
    quiet.warn("the tree is dirty")
    assert capsys.readouterr() == ("", "warning: the tree is dirty\n")


def test_quiet_on_a_terminal_draws_nothing(terminal):
    with console.make(quiet=True, verbose=False).step("Resolving") as step:
        step.say("numpy")
    assert terminal.getvalue() == ""


def test_github_actions_gets_one_group_per_outer_step(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    made = console.make(quiet=False, verbose=False)
    with made.step("Locking"), made.step("Resolving") as step:
        step.say("numpy")
    assert capsys.readouterr().err == (
        "::group::Locking\n  numpy\n✓ Resolving  1.2 s\n::endgroup::\n✓ Locking  1.2 s\n"
    )


def test_a_process_line_is_no_command_to_github_actions(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    made = console.make(quiet=False, verbose=False)
    with made.step("Building") as step:
        step.say("::add-mask::x")
        step.say("a ##[error] b")
    made.note("ok\n ::error::boo")
    console.error(ReproboxError("first\n::stop-commands::x"))
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.lstrip().startswith("::")] == [
        "::group::Building",
        "::endgroup::",
        "::error::first%0A::stop-commands::x",
    ]
    assert not any("##[" in line for line in said)
    assert "|   ::add-mask::x" in said


def test_github_actions_gets_a_config_s_problems_beside_their_lines(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    problems = [
        Problem(message="100% wrong", path="smoke.cpus", line=3, hint="a, b: c"),
        Problem(message="two\nlines\x07"),
    ]
    error = InvalidConfig("reprobox.yaml", problems)
    console.error(error, folder=tmp_path / "a, b:")
    console.error(error, folder=tmp_path.parent)
    assert capsys.readouterr().err.splitlines() == [
        "::error file=a%2C b%3A/reprobox.yaml,line=3::smoke.cpus: 100%25 wrong (a, b: c)",
        "::error file=a%2C b%3A/reprobox.yaml::two%0Alines\\x07",
        "::error::smoke.cpus: 100%25 wrong (a, b: c)",
        "::error::two%0Alines\\x07",
    ]


def test_an_error_in_github_actions_keeps_its_hint(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    console.error(ReproboxError("no lock", hint="run `reprobox lock`"))
    assert capsys.readouterr().err == "::error::no lock\nhint: run `reprobox lock`\n"


def test_markup_in_outside_text_is_printed_as_it_stands(terminal):
    made = console.make(quiet=False, verbose=True)
    with made.step("Step [bold]one[/]") as step:
        step.say("[red]detail[/red] :smile:")
    made.note("note [link=x]")
    shown = terminal.getvalue()
    for text in ("Step [bold]one[/]", "[red]detail[/red] :smile:", "note [link=x]"):
        assert text in shown


@pytest.mark.parametrize("verbose", [False, True])
def test_control_characters_of_outside_text_are_escaped(terminal, verbose):
    made = console.make(quiet=False, verbose=verbose)
    with made.step("Building") as step:
        step.say("evil \x1b]0;title\x07 \x9b2J \u202egnp.exe")
    made.warn("bell \x07")
    console.error(ReproboxError("\x1b[2Jgone", hint="\x08"))
    shown = terminal.getvalue()
    assert "\x07" not in shown and "\x1b]0" not in shown and "\x9b" not in shown and "\u202e" not in shown
    assert "bell \\x07" in shown and "\\x1b[2Jgone" in shown and "\\x08" in shown
    assert not verbose or "\\u202egnp.exe" in shown


def test_a_progress_line_counts_only_after_its_last_carriage_return():
    assert console.one_line("10%\r50%\r100%\r\n") == "100%"
    assert console.one_line("\r\n") == ""


def test_a_terminal_sees_title_bar_and_a_last_line(terminal):
    with console.make(quiet=False, verbose=False).step("Downloading") as step:
        step.say("numpy.whl")
        step.advance(50, 100)
        time.sleep(0.4)  # it is drawn ten times a second
    shown = terminal.getvalue()
    assert "━" in shown and "numpy.whl" in shown
    assert shown.rstrip().endswith("Downloading  1.2 s") and "✓" in shown.splitlines()[-1]


def test_a_terminal_sees_how_far_it_is_and_what_is_under_way(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with console.make(quiet=False, verbose=False).step("Building") as step:
        step.say("#5 sha256:5d50 12MB / 40MB")
        step.advance(3, 12, unit="steps", what="layer 5d50: 12 MB")
        time.sleep(0.4)
    shown = terminal.getvalue()
    assert "3 of 12 steps" in shown and "layer 5d50: 12 MB" in shown


def test_the_clock_is_the_bar_of_a_run_with_a_limit(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with console.make(quiet=False, verbose=False).step("Running") as step:
        step.limit(0.2)
        time.sleep(0.5)
    shown = terminal.getvalue()
    assert "of 1.2 s" in shown and "━" * 10 in shown


@pytest.mark.parametrize(
    ("done", "total", "unit", "told"),
    [
        (3, 12, "steps", "3 of 12 steps"),
        (3, 12, "", "3 of 12"),
        (1024**2, 40 * 1024**2, "B", "1.0 MiB of 40.0 MiB"),
        (2048, None, "B", "2.0 KiB"),
        (0, None, "B", ""),
        (3, None, "steps", ""),
        (0, 0, "", ""),
    ],
)
def test_how_far_it_is_in_words(done, total, unit, told):
    assert words.amount(done, total, unit) == told


def test_a_terminal_sees_no_bar_where_the_total_is_unknown(terminal):
    with console.make(quiet=False, verbose=False).step("Downloading") as step:
        step.advance(50, None)
        time.sleep(0.4)
    assert "━" not in terminal.getvalue()


def test_steps_within_steps_work_on_a_terminal(terminal):
    made = console.make(quiet=False, verbose=False)
    with pytest.raises(KeyError), made.step("Outer"):
        with made.step("Inner"):
            pass
        raise KeyError
    with made.step("Again"):
        pass
    shown = [line for line in terminal.getvalue().splitlines() if "1.2 s" in line]
    assert ["✓" in line for line in shown] == [True, False, True]
    assert ["Inner" in shown[0], "Outer" in shown[1], "✗" in shown[1], "Again" in shown[2]] == [True] * 4


def test_data_printed_during_a_step_stays_on_stdout(terminal, capsys):
    with console.make(quiet=False, verbose=False).step("Reporting"):
        print("data")
    assert capsys.readouterr().out == "data\n"
    assert "data" not in terminal.getvalue()


def test_no_color_leaves_no_colour(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    made = console.make(quiet=False, verbose=False)
    with made.step("Resolving"):
        pass
    made.warn("dirty")
    console.error(ReproboxError("no", hint="yes"))
    shown = terminal.getvalue()
    assert not any(f"\x1b[{code}m" in shown for code in ("31", "32", "33", "1;31", "1;33"))
    assert "warning: dirty" in shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert shown.endswith("error: no\nhint: yes\n")


def test_an_empty_no_color_counts_as_unset(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    assert console.has_colour(terminal)


def test_a_dumb_terminal_gets_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with console.make(quiet=False, verbose=False).step("Resolving"):
        pass
    assert terminal.getvalue() == "✓ Resolving  1.2 s\n"


def test_a_stream_without_utf8_gets_ascii_marks(monkeypatch):
    stream = Terminal("ascii")
    monkeypatch.setattr(console, "sys", SimpleNamespace(stderr=stream))
    with console.make(quiet=False, verbose=False).step("Resolving") as step:
        step.advance(1, 2)
        time.sleep(0.4)
    assert stream.getvalue().isascii()
    assert "ok" in stream.getvalue().splitlines()[-1]
    assert console.marks(io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) is console.ASCII_MARKS


def test_an_error_is_its_message_and_its_hint(capsys):
    console.error(ReproboxError("python is 3.12 here, 3.11 in the lock\n  tail", hint="run `reprobox lock`"))
    console.error(ReproboxError("alone"))
    assert capsys.readouterr() == (
        "",
        "error: python is 3.12 here, 3.11 in the lock\n  tail\nhint: run `reprobox lock`\nerror: alone\n",
    )


def test_an_error_on_a_terminal_is_coloured_by_its_label_alone(terminal):
    console.error(ReproboxError("no", hint="yes"))
    assert terminal.getvalue() == "\x1b[1;31merror:\x1b[0m no\n\x1b[1mhint:\x1b[0m yes\n"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0.0 s"), (1.23, "1.2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")],
)
def test_durations_are_short(monkeypatch, seconds, told):
    monkeypatch.undo()
    assert console.duration(seconds) == told


def test_rich_is_not_imported_for_plain_lines_and_errors():
    code = (
        "import sys; from reprobox import console, errors\n"
        "with console.make(quiet=False, verbose=False).step('x'): pass\n"
        "console.error(errors.ReproboxError('no'))\n"
        "assert not any(name.split('.')[0] == 'rich' for name in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
