"""reprobox.yaml: what is accepted, and every problem that is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import jsonpath
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reprobox import config, config_model
from reprobox.errors import InvalidConfig, InvalidInput, ReproboxError
from reprobox.model import (
    DEFAULT_EPOCH,
    MEBIBYTE,
    BootstrapBase,
    Determinism,
    EnvironmentFile,
    ImageBase,
    Output,
    Platform,
    Project,
    PythonVersion,
)

ROOT = Path("/project")
LEAST = 'name: demo\nenvironment: requirements.in\npython: "3.11"\nbase: debian:bookworm-slim\n'
SMOKE = LEAST + "smoke:\n  command: [python, train.py]\n  outputs: [out/model.npz]\n"


def loaded(text: str) -> Project:
    return config.loads(text.encode(), root=ROOT)


def problems(text: str | bytes) -> list[tuple[int | None, str, str]]:
    """Line, key, and message with its hint, of every problem."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidConfig) as caught:
        config.loads(data, root=ROOT)
    found = caught.value.problems
    return [(p.line, p.path, p.message + (f" ({p.hint})" if p.hint else "")) for p in found]


def the_problem(text: str | bytes) -> tuple[int | None, str, str]:
    (problem,) = problems(text)
    return problem


# --- what is accepted -------------------------------------------------------------------------


def test_four_keys_are_enough() -> None:
    project = loaded(LEAST)
    assert project == Project(
        root=ROOT,
        name="demo",
        environment=EnvironmentFile(path=PurePosixPath("requirements.in")),
        python=PythonVersion(3, 11),
        base=ImageBase(reference="debian:bookworm-slim"),
    )
    assert project.epoch == DEFAULT_EPOCH
    assert project.platforms == (Platform.LINUX_64,)
    assert project.determinism is Determinism.PINNED


def test_every_key_arrives_in_the_project() -> None:
    project = loaded(
        """
name: warm-start_2.x
environment: {file: pyproject.toml, extras: [plot], groups: [train]}
python: "3.12"
platforms: [linux-64, linux-aarch64]
base: {bootstrap: debian, suite: bookworm}
system: [libgomp1, g++]
determinism: portable
env: {B: "1", A: "x y"}
epoch: 1700000000
exclude-newer: "2026-01-31T12:00:00z"
smoke:
  command: [python, train.py, --seed, "0"]
  control: [python, train.py, --seed, "1"]
  inputs: [data/digits.npz]
  outputs:
    - ./out/model.npz
    - {path: out/metrics.json, ignore: [$.seconds, "$.runs[*].time"]}
  timeout: 10m
  cpus: 2
  memory: 1.5GiB
"""
    )
    assert project.environment == EnvironmentFile(
        path=PurePosixPath("pyproject.toml"), extras=("plot",), groups=("train",)
    )
    assert project.base == BootstrapBase(distribution="debian", suite="bookworm")
    assert project.platforms == (Platform.LINUX_64, Platform.LINUX_AARCH64)
    assert project.system == ("libgomp1", "g++")
    assert project.determinism is Determinism.PORTABLE
    assert list(project.env.items()) == [("A", "x y"), ("B", "1")]
    assert project.epoch == 1700000000
    assert project.exclude_newer == "2026-01-31T12:00:00Z"
    smoke = project.smoke
    assert smoke is not None
    assert smoke.command == ("python", "train.py", "--seed", "0")
    assert smoke.control == ("python", "train.py", "--seed", "1")
    assert smoke.inputs == (PurePosixPath("data/digits.npz"),)
    assert smoke.outputs == (
        Output(path=PurePosixPath("out/model.npz")),
        Output(path=PurePosixPath("out/metrics.json"), ignore=("$.seconds", "$.runs[*].time")),
    )
    assert (smoke.timeout, smoke.cpus, smoke.memory) == (600.0, 2, 1536 * MEBIBYTE)


def test_the_order_of_keys_and_of_variables_changes_nothing() -> None:
    one = loaded(LEAST + 'env: {A: "1", B: "2"}\n')
    other = loaded('env: {B: "2", A: "1"}\n' + "".join(reversed(LEAST.splitlines(keepends=True))))
    assert one == other
    assert list(one.env) == list(other.env)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_are_accepted(mark: bytes, ending: bytes) -> None:
    assert config.loads(mark + LEAST.encode().replace(b"\n", ending), root=ROOT) == loaded(LEAST)


@pytest.mark.parametrize("word", ["off", "Off", "OFF", '"off"'])
def test_a_bare_off_is_the_word_and_no_truth_value(word: str) -> None:
    assert loaded(LEAST + f"determinism: {word}\n").determinism is Determinism.OFF


@pytest.mark.parametrize(
    ("written", "expected"),
    [("2026-01-31", "2026-01-31"), ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"), ("'2026-01-31'", "2026-01-31")],
)
def test_a_date_is_text_whether_quoted_or_not(written: str, expected: str) -> None:
    assert loaded(LEAST + f"exclude-newer: {written}\n").exclude_newer == expected


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("2h", 7200), ("1.5h", 5400)]
)
def test_a_timeout_is_a_number_or_a_number_with_its_unit(written: str, seconds: float) -> None:
    smoke = loaded(SMOKE + f"  timeout: {written}\n").smoke
    assert smoke is not None
    assert smoke.timeout == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [("4GiB", 4096), ("512MiB", 512), ("2g", 2048), ("2G", 2048), ("1Gi", 1024), ("64 m", 64), ("10240k", 10)],
)
def test_memory_is_in_powers_of_1024(written: str, size: int) -> None:
    smoke = loaded(SMOKE + f"  memory: {written}\n").smoke
    assert smoke is not None
    assert smoke.memory == size * MEBIBYTE


@pytest.mark.parametrize(
    "reference",
    [
        "debian",
        "debian:bookworm-slim",
        "registry.example:5000/lab/base:1.0",
        "registry.example/lab/base@sha256:" + "0" * 64,
        "debian:12@sha256:" + "a" * 64,
    ],
)
def test_an_image_reference_is_kept_as_written(reference: str) -> None:
    assert loaded(LEAST.replace("debian:bookworm-slim", reference)).base == ImageBase(reference=reference)


def test_a_command_may_hold_several_lines() -> None:
    smoke = loaded(SMOKE.replace("[python, train.py]", '[python, -c, "import x\\nx.run()"]')).smoke
    assert smoke is not None
    assert smoke.command[-1] == "import x\nx.run()"


def test_an_alias_is_the_value_it_stands_for() -> None:
    project = loaded(LEAST.replace("name: demo", "name: &n demo") + "env: {NAME: *n}\n")
    assert project.env == {"NAME": "demo"}


def test_a_conda_lock_may_be_the_environment() -> None:
    assert loaded(LEAST.replace("requirements.in", "conda-lock.yml")).environment.path.name == "conda-lock.yml"


# --- the file itself --------------------------------------------------------------------------


def test_a_file_is_loaded_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").write_text(LEAST, encoding="utf-8")
    assert config.load(tmp_path).root == tmp_path.resolve()


def test_a_missing_file_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no reprobox\.yaml") as caught:
        config.load(tmp_path)
    assert "name, environment, python and base" in str(caught.value.hint)


def test_the_other_spelling_of_the_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yml").write_text(LEAST, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        config.load(tmp_path)
    assert caught.value.hint == "rename reprobox.yml to reprobox.yaml"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reprobox.yaml").mkdir()
    with pytest.raises(InvalidInput, match=r"cannot read reprobox\.yaml: Is a directory"):
        config.load(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n", "\ufeff"])
def test_an_empty_file_is_named(text: str) -> None:
    assert "the file is empty" in the_problem(text)[2]


@pytest.mark.parametrize("text", ["- a\n", "demo\n", "3\n"])
def test_a_top_level_that_is_no_mapping_is_named(text: str) -> None:
    assert the_problem(text)[2].startswith("the file is not a mapping of keys to values")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [b\nc: d\n", 2, "not YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a:\n\tb: c\n", 2, "indent with spaces, not with tabs"),
        ("a: *x\n", 1, "undefined alias 'x'"),
        ("a: b\n---\nc: d\n", 2, "remove the line `---`"),
        ("a: b\nc: \x01\n", 2, "character U+0001 is not allowed"),
        ('a: "\\UFFFFFFFF"\n', None, "not YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: b\n", None, "not YAML"),
        ("[" * 3000, None, "nested too deeply"),
        ("a: " + "[" * 40 + "]" * 40, 1, "nested too deeply"),
        ("a: &a [*a]\n", 1, "nested too deeply"),
        ("x" * 300_000, None, "is larger than 256 KiB"),
        ("!foo {a: b}", 1, "the YAML tag !foo has no use here"),
    ],
)
def test_broken_yaml_has_a_line_and_the_parsers_words(text: str, line: int | None, words: str) -> None:
    found, _, message = the_problem(text)
    assert words in message
    assert found == line


def test_other_encodings_are_refused_at_their_line() -> None:
    line, _, message = the_problem(b"name: x\nenvironment: caf\xe9\n")
    assert (line, message) == (2, "the text is not UTF-8 (save the file as UTF-8)")


def test_aliases_that_blow_up_are_refused() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]" for n in range(10)]
    assert "more than 4000 values with its aliases written out" in the_problem("\n".join(lines))[2]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("env: {A: !!python/name:os.system x}", "the YAML tag !!python/name:os.system has no use here"),
        ("env: {A: !!binary aGk=}", "the YAML tag !!binary has no use here"),
        ("env: {A: !!int x}", "for a number that it is not"),
        ("env: {A: 0b_}", "for a number that it is not"),
        ('env: {A: "\\0"}', "characters that are not text"),
        ('env: {A: "\\ud800"}', "characters that are not text"),
        ('"\\ud800": a', 'the key "\\ud800" is not text'),
        ("? [a]\n: b", "a key must be a plain word"),
        ("<<: {system: [git]}", "merge keys (<<) are not supported"),
        ("smoke:", "has no value"),
        ("env: {A: ~}", 'write "" where an empty text is meant'),
    ],
)
def test_values_that_are_no_plain_values_are_refused(line: str, words: str) -> None:
    assert words in the_problem(LEAST + line + "\n")[2]


# --- keys -------------------------------------------------------------------------------------


def test_all_problems_are_said_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        """name: Demo
environment: /etc/requirements.in
python: 3.10
platform: [linux-64]
smoke:
  command: python train.py
  outputs:
    - out
    - {path: out/a.json, ignore: [seconds]}
"""
    )
    assert [(line, path) for line, path, _ in found] == [
        (1, "name"),
        (2, "environment"),
        (3, "python"),
        (4, "platform"),
        (6, "smoke.command"),
        (9, "smoke.outputs[1].ignore[0]"),
        (9, "smoke.outputs[1].path"),
        (None, "base"),
    ]


def test_the_error_shows_file_line_key_and_what_to_do() -> None:
    with pytest.raises(InvalidConfig) as caught:
        loaded(LEAST.replace('"3.11"', "3.10"))
    assert str(caught.value).splitlines() == [
        "reprobox.yaml has 1 problem:",
        '  reprobox.yaml:3: python: YAML reads 3.10 as the number 3.1: quote it (write "3.10")',
    ]


@pytest.mark.parametrize("key", ["name", "environment", "python", "base"])
def test_a_missing_key_comes_with_an_example(key: str) -> None:
    text = "".join(line for line in LEAST.splitlines(keepends=True) if not line.startswith(key))
    line, path, message = the_problem(text)
    assert (line, path) == (None, key)
    assert message.startswith(f"is missing (write {key}: ")


def test_a_missing_key_inside_another_is_said_on_its_line() -> None:
    line, path, message = the_problem(LEAST + "smoke:\n  command: [x]\n")
    assert (line, path, message) == (5, "smoke.outputs", "is missing (write outputs: [out/model.npz])")


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (LEAST + "platfroms: [linux-64]", "platfroms", "did you mean `platforms`?"),
        (LEAST + "exclude_newer: 2026-01-31", "exclude_newer", "did you mean `exclude-newer`?"),
        (LEAST + "timeout: 3", "timeout", "it belongs under `smoke`"),
        (SMOKE + "  epoch: 3", "smoke.epoch", "it belongs at the top, not indented"),
        (SMOKE + "  output: [a]", "smoke.output", "did you mean `outputs`?"),
        (LEAST + "zzz: 3", "zzz", "known here: name, environment, python, base, platforms"),
        (LEAST + '"a\\nb": 3', '"a\\nb"', "unknown key"),
        (SMOKE.replace("out/model.npz", "{path: a, ignroe: []}"), "smoke.outputs[0].ignroe", "did you mean `ignore`?"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(text: str, path: str, words: str) -> None:
    _, found, message = the_problem(text + "\n")
    assert found == path
    assert message.startswith("unknown key")
    assert words in message


@pytest.mark.parametrize(
    "text", [LEAST + 'cuda: "12.4"\n', LEAST + "publish: registry.example/a\n", SMOKE + "  notebook: a.ipynb\n"]
)
def test_keys_of_later_versions_are_not_supported_yet(text: str) -> None:
    assert the_problem(text)[2].startswith("not supported yet")


def test_a_key_that_stands_twice_is_refused() -> None:
    assert the_problem(LEAST + "name: other\n") == (5, "name", "the key stands twice, first on line 1")


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [("3.10", "the number 3.1"), ("3.1", "the number 3.1"), ("3.11", "the number 3.11"), ("3", "the number 3")],
)
def test_a_float_python_version_is_refused(written: str, read: str) -> None:
    line, path, message = the_problem(LEAST.replace('"3.11"', written))
    assert (line, path) == (3, "python")
    assert message == f'YAML reads {written} as {read}: quote it (write "{written}")'


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("3.11.4", 'the base decides that one (write "3.11")'),
        ("2.7", "is not a Python version"),
        ("3", "is not a Python version"),
        (">=3.11", "is not a Python version"),
        ("\u0663.\u0661\u0661", "is not a Python version"),
    ],
)
def test_other_python_versions_are_refused(version: str, words: str) -> None:
    assert words in the_problem(LEAST.replace("3.11", version))[2]


@pytest.mark.parametrize("name", ["Demo", "-demo", "demo-", "de..mo", "de mo", "dé", "''", "a/b", "d" * 129])
def test_a_name_that_no_image_can_have_is_refused(name: str) -> None:
    _, path, message = the_problem(LEAST.replace("demo", name))
    assert path == "name"
    assert "cannot be the name of an image" in message


@pytest.mark.parametrize(
    ("written", "read"),
    [("1", "the number 1"), ("yes", "true"), ("OFF", "false"), ("10:30", "the number 630"), ("2026-01-31", "a date")],
)
def test_a_variable_that_yaml_does_not_read_as_text_is_refused(written: str, read: str) -> None:
    _, path, message = the_problem(LEAST + f"env: {{A: {written}}}\n")
    assert path == "env.A"
    assert message == f'YAML reads {written} as {read}: quote it (write "{written}")'


def test_a_word_of_a_command_that_is_a_number_is_refused() -> None:
    _, path, message = the_problem(SMOKE.replace("train.py]", "train.py, --seed, 0]"))
    assert path == "smoke.command[3]"
    assert 'quote it (write "0")' in message


@pytest.mark.parametrize("name", ["1A", "A-B", "'A B'", "''", "É"])
def test_a_variable_needs_a_name_that_shells_know(name: str) -> None:
    assert "cannot be the name of an environment variable" in the_problem(LEAST + f'env: {{{name}: "1"}}\n')[2]


def test_a_variable_with_a_line_break_is_refused() -> None:
    assert "holds a line break" in the_problem(LEAST + 'env: {A: "x\\ny"}\n')[2]


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        ("env: [A=1]", "env", "must be a mapping of keys to values"),
        ("platforms: linux-64", "platforms", "must be a list (write [linux-64])"),
        ("platforms: []", "platforms", "is an empty list"),
        ("platforms: [linux-64, linux-64]", "platforms[1]", "linux-64 stands twice"),
        ("platforms: [linux-arm64]", "platforms[0]", "did you mean `linux-aarch64`?"),
        ("platforms: [[a]]", "platforms[0]", "must be one of linux-64, linux-aarch64"),
        ("system: [git, git]", "system[1]", "git stands twice"),
        ("system: [git=1.0]", "system[0]", "write git; its version"),
        ("system: ['Git']", "system[0]", "is not the name of a distribution package"),
        ("determinism: false", "determinism", "false is not one of off, pinned, portable"),
        ("determinism: pined", "determinism", "did you mean `pinned`?"),
        ("epoch: '12'", "epoch", "write 12, without quotes"),
        ("epoch: 1.5", "epoch", "must be a whole number"),
        ("epoch: true", "epoch", "must be a whole number"),
        ("epoch: -1", "epoch", "is not between 0 and 4294967295"),
        ("epoch: 4294967296", "epoch", "is not between 0 and 4294967295"),
        ("exclude-newer: 2026-01-31T12:00:00", "exclude-newer", "has no time zone (write 2026-01-31T12:00:00Z"),
        ("exclude-newer: 2026-13-31", "exclude-newer", "is not a date"),
        ("exclude-newer: yesterday", "exclude-newer", "is not a date (write a date"),
        ("exclude-newer: 20260131", "exclude-newer", "quote it"),
        ("smoke: [a]", "smoke", "must be a mapping of keys to values"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(line: str, path: str, words: str) -> None:
    _, found, message = the_problem(LEAST + line + "\n")
    assert found == path
    assert words in message


@pytest.mark.parametrize(
    ("base", "path", "words"),
    [
        ("[a]", "base", "must be a text, not a list"),
        ("docker://debian:12", "base", "has a transport (write debian:12)"),
        ("Debian", "base", "is not an image reference"),
        ("'debian 12'", "base", "is not an image reference"),
        ("{bootstrap: fedora, suite: x}", "base.bootstrap", "is not one of debian, ubuntu"),
        ("{bootstrap: debian}", "base.suite", "is missing (write suite: bookworm)"),
        ("{bootstrap: debian, suite: Book worm}", "base.suite", "is not the name of a suite"),
    ],
)
def test_a_base_that_is_none_is_refused(base: str, path: str, words: str) -> None:
    _, found, message = the_problem(LEAST.replace("debian:bookworm-slim", base))
    assert found == path
    assert words in message


@pytest.mark.parametrize(
    ("environment", "path", "words"),
    [
        ("3", "environment", "quote it"),
        ("../requirements.in", "environment", "holds `..`"),
        ("requirements.lock", "environment", "is a file that reprobox itself writes (name its source)"),
        ("{file: reprobox.lock}", "environment.file", "is a file that reprobox itself writes"),
        ("{file: pyproject.toml, extras: ['a b']}", "environment.extras[0]", "is not the name of an extra or a group"),
        ("{extras: [a]}", "environment.file", "is missing (write file: pyproject.toml)"),
    ],
)
def test_an_environment_that_is_none_is_refused(environment: str, path: str, words: str) -> None:
    _, found, message = the_problem(LEAST.replace("requirements.in", environment))
    assert found == path
    assert words in message


@pytest.mark.parametrize(
    ("line", "path", "words"),
    [
        ("timeout: '10'", "smoke.timeout", "write seconds as a number, or 90s, 10m, 2h"),
        ("timeout: 0", "smoke.timeout", "0 is not more than 0"),
        ("timeout: .inf", "smoke.timeout", "at most 30 days"),
        ("timeout: .nan", "smoke.timeout", "at most 30 days"),
        ("timeout: true", "smoke.timeout", "is not a length of time"),
        ("timeout: 31d", "smoke.timeout", "is not a length of time"),
        ("cpus: 0", "smoke.cpus", "0 is not a number of CPUs"),
        ("cpus: 1.5", "smoke.cpus", "must be a whole number"),
        ("memory: 4096", "smoke.memory", "write it with its unit"),
        ("memory: 4GB", "smoke.memory", "write 4GiB, which is powers of 1024"),
        ("memory: much", "smoke.memory", "is not an amount of memory"),
        ("memory: 1k", "smoke.memory", "less than 6MiB"),
        ("control: [python, train.py]", "smoke.control", "is the same as the command"),
        ("control: []", "smoke.control", "is an empty list"),
        ("control: ['']", "smoke.control", "begins with an empty word"),
        ("inputs: data", "smoke.inputs", "must be a list (write [data])"),
        ("inputs: [reprobox.lock]", "smoke.inputs[0]", "reprobox.lock is reprobox's own"),
        ("inputs: [a, a]", "smoke.inputs[1]", "a stands twice"),
        ("inputs: [out/model.npz]", "smoke.inputs[0]", "is input, and out/model.npz is output"),
        ("inputs: [out/model.npz/x]", "smoke.inputs[0]", "is input, and out/model.npz is output"),
        ("inputs: [out]", "smoke.inputs[0]", "is input, and out/model.npz is output"),
    ],
)
def test_an_experiment_that_cannot_be_run_is_refused(line: str, path: str, words: str) -> None:
    _, found, message = the_problem(SMOKE + f"  {line}\n")
    assert found == path
    assert words in message


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ('python train.py --name "a b" --seed 0', "write [python, train.py, --name, a b, --seed, '0']"),
        ("python 'train", "write the program and its arguments"),
        ("''", "write the program and its arguments"),
    ],
)
def test_a_command_of_one_text_comes_back_as_the_list(command: str, words: str) -> None:
    _, path, message = the_problem(SMOKE.replace("[python, train.py]", command))
    assert path == "smoke.command"
    assert message.startswith("must be a list of words, not one text")
    assert words in message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("''", "an empty path"),
        ("/out", "is an absolute path"),
        ("a/../b", "holds `..`"),
        (".", "is the work folder itself"),
        ("./", "is the work folder itself"),
        ("'a\\b'", "holds a backslash"),
        ('"a\\nb"', "holds a control character"),
        ("~/out", "begins with `~`"),
        ("out/*.npz", "is a pattern"),
        ("reprobox.baseline.json", "is reprobox's own"),
        ("reprobox.baseline/x", "is reprobox's own"),
        (".reprobox/x", "is reprobox's own"),
        ("conda-linux-64.lock", "is reprobox's own"),
        ("Dockerfile", "is reprobox's own"),
        ("3", "quote it"),
    ],
)
def test_an_output_outside_the_work_folder_is_refused(path: str, words: str) -> None:
    for written, key in ((path, "smoke.outputs[0]"), (f"{{path: {path}}}", "smoke.outputs[0].path")):
        _, found, message = the_problem(SMOKE.replace("out/model.npz", written))
        assert found == key
        assert words in message


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ("[]", "is an empty list"),
        ("[a, ./a]", "a stands twice"),
        ("[a, a/b]", "a/b is inside a, another output"),
        ("[a/b/c, a]", "a/b/c is inside a, another output"),
    ],
)
def test_outputs_must_be_apart(outputs: str, words: str) -> None:
    assert words in the_problem(SMOKE.replace("[out/model.npz]", outputs))[2]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("seconds", "it begins at the root: $.seconds"),
        ("$", "ignores the whole output"),
        ("'$.['", "is not a JSONPath: expected"),
        ("''", "it begins at the root"),
    ],
)
def test_a_rule_that_is_no_jsonpath_is_refused(rule: str, words: str) -> None:
    text = SMOKE.replace("[out/model.npz]", f"[{{path: a.json, ignore: [{rule}]}}]")
    _, path, message = the_problem(text)
    assert path == "smoke.outputs[0].ignore[0]"
    assert words in message


def test_many_values_are_checked_in_good_time() -> None:
    many = ",".join(f"o{number}" for number in range(3900))
    loaded(SMOKE.replace("out/model.npz", many))


# --- anything at all --------------------------------------------------------------------------

words = st.sampled_from(
    ["name", "python", "smoke", "outputs", "env", "{", "}", "[", "]", ":", ": ", "- ", "\n", "\n  ", "&a ", "*a", "!!",
     "?", "|", ">", "'", '"', "3.10", "off", "~", "<<", "$", "\t", "#", "%", "---", "ignore", "path", "\ufeff", "0x_"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def only_our_errors(data: bytes) -> None:
    try:
        project = config.loads(data, root=ROOT)
    except ReproboxError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))
        assert not isinstance(error, InvalidConfig) or len(str(error).split("\n")) == 1 + len(error.problems)
    else:
        assert project.wants


@settings(max_examples=120, deadline=None)
@given(st.lists(words | st.text(max_size=3), max_size=25).map("".join))
@example("'': !<tag:yaml.org,2002:map> x")
@example("a: !!float ''")
def test_arbitrary_text_is_a_project_or_our_own_error(text: str) -> None:
    only_our_errors(text.encode("utf-8", "replace"))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_our_own_error(data: bytes) -> None:
    only_our_errors(data)


KEYS = list(config.schema()["properties"])
SMOKE_KEYS = list(config.schema()["$defs"]["Experiment"]["properties"])


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), values, max_size=5),
    st.dictionaries(st.sampled_from(SMOKE_KEYS), values, max_size=5),
)
def test_arbitrary_values_under_known_keys_are_a_project_or_our_own_error(
    top: dict[str, Any], smoke: dict[str, Any]
) -> None:
    only_our_errors(yaml.safe_dump({"smoke": smoke} | top).encode("utf-8", "replace"))


@settings(max_examples=120, deadline=None)
@given(st.text(alphabet="$.[]()?*@'\"0123456789ab,:|&~^=<>!- \\/", max_size=20).map(lambda text: "$" + text))
def test_arbitrary_rules_are_accepted_or_our_own_error(rule: str) -> None:
    smoke = {"command": ["x"], "outputs": [{"path": "a", "ignore": [rule]}]}
    only_our_errors((LEAST + yaml.safe_dump({"smoke": smoke})).encode())


# --- the schema, and the import ---------------------------------------------------------------


def mappings(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    yield from schema["$defs"].values()


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    schema = config.schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "reprobox.yaml"
    assert schema["required"] == ["name", "environment", "python", "base"]
    for mapping in mappings(schema):
        assert mapping["additionalProperties"] is False
        for name, value in mapping["properties"].items():
            assert value["description"].endswith("."), name
    assert "null" not in str(schema)


def test_the_schema_knows_both_ways_to_write_a_value() -> None:
    schema = config.schema()
    for key in ("environment", "base"):
        assert {"type": "string"} in schema["properties"][key]["oneOf"]
    assert len(schema["$defs"]["Experiment"]["properties"]["outputs"]["items"]["oneOf"]) == 2
    assert schema["properties"]["epoch"]["minimum"] == 0
    assert schema["properties"]["determinism"]["enum"] == ["off", "pinned", "portable"]


def test_importing_the_config_room_loads_no_heavy_library() -> None:
    check = "import sys, reprobox.config; print([n for n in ('yaml', 'pydantic', 'jsonpath') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("reprobox.yaml", True),
        ("requirements.lock", True),
        ("conda-linux-64.lock", True),
        ("reprobox.baseline/out/model.npz", True),
        ("baseline/out/model.npz", False),
        (".reprobox/digests.json", True),
        ("reprobox.base.tar", True),
        ("requirements.in", False),
        ("conda.lock", False),
        ("Dockerfile", False),
        ("src/baseline/x", False),
        ("sub/reprobox.lock", False),
    ],
)
def test_reproboxs_own_files_are_known_by_their_place(path: str, own: bool) -> None:
    assert config.is_own(PurePosixPath(path)) is own


@settings(max_examples=300, deadline=None)
@given(st.from_regex(config_model.MEMBERS, fullmatch=True))
@example("$.true.null.and.or.not.in")
def test_what_is_taken_for_a_jsonpath_of_names_is_a_jsonpath_of_these_names(text: str) -> None:
    names = text.split(".")[1:]
    value: object = "found"
    for name in reversed(names):
        value = {name: value}
    assert jsonpath.findall(text, value) == ["found"]
