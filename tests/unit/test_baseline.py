"""Baselines <-> reprobox.baseline.json and reprobox.baseline/: read strictly, written whole, damage noticed."""

import dataclasses
import json
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import baseline as module
from reprobox.baseline import (
    BASELINE_FILE,
    Baseline,
    Baselines,
    RecordedControl,
    RecordedOutput,
    from_json,
    kept,
    read,
    store,
    to_json,
)
from reprobox.errors import InvalidInput
from reprobox.model import MEBIBYTE, Conditions, Digest, HardwareClass, OutputFile

PORTABLE = HardwareClass(facts={"architecture": "x86_64", "instructions": "x86-64-v3"})
EPYC = HardwareClass(facts={"architecture": "x86_64", "cpu": "AMD EPYC"})
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")

GOLDEN = f"""{{
  "version": 2,
  "baselines": [
    {{
      "command": [
        "python",
        "träin.py"
      ],
      "conditions": {{
        "architecture": "x86_64",
        "cpu": "AMD EPYC",
        "cpus": 2,
        "engine": "Docker 28.5.2",
        "gpu_driver": "580.1.2",
        "gpus": [
          "NVIDIA H200 (9.0)"
        ],
        "instructions": "x86-64-v4",
        "libraries": {{
          "numpy": {{
            "simd": "X86_V3",
            "version": "2.4.6"
          }}
        }},
        "memory": 1073741824
      }},
      "control": {{
        "changed": [
          "out/m.json"
        ],
        "command": [
          "python",
          "--seed",
          "1"
        ]
      }},
      "hardware": {{
        "architecture": "x86_64",
        "instructions": "x86-64-v3"
      }},
      "image": "{ONE}",
      "lock": "{ONE}",
      "outputs": [
        {{
          "digest": "{TWO}",
          "kept": false,
          "path": "out/a.npz",
          "size": 7
        }},
        {{
          "digest": "{ONE}",
          "kept": true,
          "path": "out/m.json",
          "ruled": "{TWO}",
          "rules": "{ONE}",
          "size": 3
        }}
      ],
      "source": "{TWO}"
    }}
  ]
}}
"""


CONDITIONS = Conditions(
    engine="Docker 28.5.2",
    architecture="x86_64",
    cpu="AMD EPYC",
    instructions="x86-64-v4",
    cpus=2,
    memory=1 << 30,
    gpus=("NVIDIA H200 (9.0)",),
    gpu_driver="580.1.2",
    libraries={"numpy": {"simd": "X86_V3", "version": "2.4.6"}},
)


def baseline(hardware=PORTABLE, outputs=(), **changes):
    fields = {
        "hardware": hardware,
        "command": ("python", "träin.py"),
        "lock": ONE,
        "source": TWO,
        "image": ONE,
        "outputs": tuple(outputs),
    }
    return Baseline(**{**fields, **changes})


EXAMPLE = Baselines(
    each=(
        baseline(
            outputs=[
                RecordedOutput(path=PurePosixPath("out/a.npz"), digest=TWO, size=7),
                RecordedOutput(
                    path=PurePosixPath("out/m.json"),
                    digest=ONE,
                    size=3,
                    rules_digest=ONE,
                    ruled_digest=TWO,
                    kept=True,
                ),
            ],
            control=RecordedControl(command=("python", "--seed", "1"), changed=(PurePosixPath("out/m.json"),)),
            conditions=CONDITIONS,
        ),
    )
)


def left(folder: Path, files: dict[str, bytes]) -> list[OutputFile]:
    """Files as a run leaves them."""
    found = []
    for name, data in files.items():
        stored = folder / name
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(data)
        found.append(OutputFile(path=PurePosixPath(name), digest=Digest.of(data), size=len(data), stored=stored))
    return found


def recorded(files):
    return [RecordedOutput(path=file.path, digest=file.digest, size=file.size) for file in files]


def put(root: Path, run: Path, files: dict[str, bytes], hardware=PORTABLE) -> Baselines:
    outputs = left(run, files)
    return store(root, read(root), baseline(hardware, recorded(outputs)), outputs)


# --- the file ---------------------------------------------------------------------------------


def test_the_file_is_spelled_one_way():
    assert to_json(EXAMPLE) == GOLDEN
    assert from_json(GOLDEN, BASELINE_FILE) == EXAMPLE


def test_a_shuffled_twin_gives_the_same_text():
    one = EXAMPLE.each[0]
    hardware = HardwareClass(facts=dict(reversed(PORTABLE.facts.items())))
    twin = baseline(hardware, reversed(one.outputs), control=one.control, conditions=one.conditions)
    other = baseline(EPYC)
    assert to_json(Baselines(each=(other, twin))) == to_json(Baselines(each=(one, other)))


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
digests = st.binary(max_size=2).map(Digest.of)
paths = st.lists(st.text("abü .-", min_size=1, max_size=4).filter(lambda part: part not in {".", ".."}), min_size=1)
outputs = st.builds(
    lambda path, digest, size, rules, is_kept: RecordedOutput(
        path=PurePosixPath(*path), digest=digest, size=size, rules_digest=rules, ruled_digest=rules, kept=is_kept
    ),
    paths,
    digests,
    st.integers(0, 2**60),
    st.none() | digests,
    st.booleans(),
)
baselines = st.lists(
    st.builds(
        baseline,
        st.dictionaries(words, st.sampled_from(["a", "B c", "x86-64"]), min_size=1).map(
            lambda facts: HardwareClass(facts=facts)
        ),
        st.lists(outputs, unique_by=lambda one: one.path, max_size=3),
        command=st.lists(words).map(tuple),
        control=st.none() | st.builds(RecordedControl, command=st.just(("a",)), changed=st.just(())),
    ),
    unique_by=lambda one: one.hardware.name,
    max_size=3,
).map(lambda each: Baselines(each=tuple(each)))


@given(baselines)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back(written):
    again = from_json(to_json(written), "f")
    assert to_json(again) == to_json(written)
    assert {one.hardware.name for one in again.each} == {one.hardware.name for one in written.each}


@given(st.text() | st.recursive(st.none() | st.booleans() | st.floats() | words, st.lists).map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text):
    try:
        from_json(text, "f")
    except InvalidInput as error:
        assert error.message.startswith("f")


def positions(value, at=()):
    yield at
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from positions(inner, (*at, key))


junk = st.sampled_from(
    [None, True, -1, 1.5, "", "..", "/etc/passwd", "a/../b", "a//b", "\ud800", [], {}, ["x"], {"a": "b"}, [[]], 10**30]
)


@given(position=st.sampled_from(list(positions(json.loads(GOLDEN)))), value=junk)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_is_read_or_refused(position, value):
    document = {"": json.loads(GOLDEN)}
    target, place = document, ["", *position]
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    try:
        again = from_json(json.dumps(document[""]), "f")
    except InvalidInput as error:
        assert error.message.startswith("f: ") or error.message.startswith("f has version")
        assert error.hint
    else:
        assert from_json(to_json(again), "f") == again
        for one in again.each:
            assert not {".", "..", ""} & {one.hardware.name}
            assert all(".." not in output.path.parts for output in one.outputs)


@given(st.integers(0, len(GOLDEN.rstrip()) - 1))
@settings(max_examples=100, deadline=None)
def test_a_truncated_file_is_refused(length):
    with pytest.raises(InvalidInput, match=r"^f (ends too early|is not JSON|is not a baseline)"):
        from_json(GOLDEN[:length], "f")


HINT = f"restore {BASELINE_FILE} from version control, or remove it and run `reprobox record`"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": 2', '"version": 3', "f has version 3 and this reprobox reads version 2"),
        ('"version": 2', '"version": 0', "f: version: there is no version 0"),
        ('"version": 2', '"version": true', "f: version: must be a whole number, not true"),
        ('"version": 2,', "", "f: the key `version` is missing"),
        ('"version": 2', '"version": 2, "version": 2', "f is not a baseline: the key 'version' stands twice"),
        ('"version": 2', '"version": NaN', "f is not a baseline: NaN is not a value of JSON"),
        ('"version": 2', '"version": 2' + "0" * 5000, "f is not a baseline: Exceeds the limit"),
        ('"baselines"', '"baseline"', "f: the key `baselines` is missing"),
        ('"lock"', '"lok"', "f: baselines[0]: the key `lock` is missing"),
        ('"source"', '"seed": 1, "source"', 'f: baselines[0]: unknown key "seed"'),
        (f'"lock": "{ONE}"', '"lock": "sha256:12"', 'f: baselines[0].lock: not a sha256 digest: "sha256:12"'),
        (
            "out/a.npz",
            "../a.npz",
            "f: baselines[0].outputs[0].path: must be a path below the work folder, without `..`",
        ),
        ("out/a.npz", "/out/a.npz", "f: baselines[0].outputs[0].path: must be a path below the work folder"),
        ("out/a.npz", "out/m.json", "f: baselines[0].outputs: the path out/m.json stands here twice"),
        ('"size": 7', '"size": -7', "f: baselines[0].outputs[0].size: must not be negative, is -7"),
        ('"size": 7', '"size": 7.0', "f: baselines[0].outputs[0].size: must be a whole number, not 7.0"),
        ('"kept": true', '"kept": 1', "f: baselines[0].outputs[1].kept: must be true or false, not 1"),
        (f'"rules": "{ONE}",', "", "f: baselines[0].outputs[1]: has only one of `rules` and `ruled`"),
        ('"cpus": 2', '"cpus": "2"', 'f: baselines[0].conditions.cpus: must be a whole number, not "2"'),
        ('"cpus": 2', '"cores": 2', "f: baselines[0].conditions: the key `cpus` is missing"),
        ('"simd": "X86_V3"', '"simd": 3', "f: baselines[0].conditions.libraries.numpy.simd: must be a string, not 3"),
        ('"version": 2', '"version": 1', 'f: baselines[0]: unknown key "conditions"'),
        ('"träin.py"', "null", "f: baselines[0].command[1]: must be a string, not null"),
        ('"träin.py"', '"\\ud800"', "f: baselines[0].command[1]: has a character that UTF-8 cannot hold"),
        ('"instructions": "x86-64-v3"', '"instructions": 3', "f: baselines[0].hardware.instructions: must be a string"),
    ],
)
def test_a_damaged_file_names_the_key_and_the_value(old, new, message):
    assert old in GOLDEN
    text = GOLDEN.replace(old, new, 1)
    with pytest.raises(InvalidInput) as caught:
        from_json(text, "f")
    assert caught.value.message.startswith(message)
    assert caught.value.hint == ("upgrade reprobox" if "has version" in message else HINT)


def test_a_file_of_version_1_is_read_without_conditions():
    document = json.loads(GOLDEN) | {"version": 1}
    del document["baselines"][0]["conditions"]
    (found,) = from_json(json.dumps(document), "f").each
    assert found == dataclasses.replace(EXAMPLE.each[0], conditions=None)


def test_hardware_whose_name_would_leave_the_folder_is_refused():
    document = json.loads(GOLDEN)
    document["baselines"][0]["hardware"] = {"cpu": ".."}
    with pytest.raises(InvalidInput, match=r"baselines\[0\]\.hardware: gives no name that a folder can have"):
        from_json(json.dumps(document), "f")


def test_hardware_without_facts_is_refused():
    document = json.loads(GOLDEN)
    document["baselines"][0]["hardware"] = {}
    with pytest.raises(InvalidInput, match=r"f: baselines\[0\]\.hardware: must be an object of named facts, not \{\}"):
        from_json(json.dumps(document), "f")


def test_one_hardware_class_twice_is_refused():
    document = json.loads(GOLDEN)
    document["baselines"] *= 2
    with pytest.raises(InvalidInput, match="f: baselines: the hardware class x86_64-x86-64-v3 stands here 2 times"):
        from_json(json.dumps(document), "f")


def test_a_file_nested_beyond_measure_is_refused():
    with pytest.raises(InvalidInput, match=r"f is not a baseline: nested too deeply|f: must be an object"):
        from_json("[" * 100_000 + "]" * 100_000, "f")


def test_no_file_means_no_baselines(tmp_path):
    assert read(tmp_path) == Baselines()


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / BASELINE_FILE).write_bytes(b'{"version": \xff}')
    with pytest.raises(InvalidInput, match=r"reprobox\.baseline\.json is not UTF-8 \(byte 12\)"):
        read(tmp_path)


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / BASELINE_FILE).mkdir()
    with pytest.raises(InvalidInput, match=r"cannot read .*: Is a directory"):
        read(tmp_path)


# --- the folder -------------------------------------------------------------------------------


def test_a_recorded_baseline_is_read_back_with_its_small_outputs(tmp_path):
    stored = put(tmp_path, tmp_path / "run", {"out/m.json": b"{}", "big.bin": b"x" * (MEBIBYTE + 1)})
    assert read(tmp_path) == stored
    one = stored.of(PORTABLE)
    assert {str(output.path): output.kept for output in one.outputs} == {"big.bin": False, "out/m.json": True}
    assert (tmp_path / "reprobox.baseline/x86_64-x86-64-v3/out/m.json").read_bytes() == b"{}"
    assert kept(tmp_path, one).files == {PurePosixPath("out/m.json"): b"{}"}
    assert kept(tmp_path, one).damaged == ()


def test_git_keeps_what_was_kept_although_it_ignores_outputs(tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("out/\n*.npz\nrun/\n")
    put(tmp_path, tmp_path / "run", {"out/model.npz": b"1"})
    asked = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "?? reprobox.baseline/x86_64-x86-64-v3/out/model.npz\n" in asked.stdout
    assert "run/" not in asked.stdout


def test_kept_outputs_stay_under_their_total_smallest_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT_TOTAL", 10)
    stored = put(tmp_path, tmp_path / "run", {"a": b"123456", "b": b"12345", "c": b"123"})
    assert [str(output.path) for output in stored.each[0].outputs if output.kept] == ["b", "c"]


def test_baselines_of_other_classes_are_kept(tmp_path):
    put(tmp_path, tmp_path / "run1", {"m": b"1"})
    put(tmp_path, tmp_path / "run2", {"m": b"2"}, EPYC)
    stored = put(tmp_path, tmp_path / "run3", {"m": b"3", "n": b"4"})
    assert read(tmp_path) == stored
    assert kept(tmp_path, stored.of(EPYC)).files == {PurePosixPath("m"): b"2"}
    assert kept(tmp_path, stored.of(PORTABLE)).files == {PurePosixPath("m"): b"3", PurePosixPath("n"): b"4"}


def test_another_class_leaves_the_first_ones_entry_and_files_byte_for_byte(tmp_path):
    def entry():
        each = {one.hardware.name: one for one in read(tmp_path).each}
        return to_json(Baselines(each=(each[PORTABLE.name],)))

    def kept_files():
        folder = tmp_path / "reprobox.baseline" / PORTABLE.name
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}

    put(tmp_path, tmp_path / "run1", {"m": b"1"})
    before, files = entry(), kept_files()
    put(tmp_path, tmp_path / "run2", {"m": b"2"}, EPYC)
    put(tmp_path, tmp_path / "run3", {"m": b"3"}, HardwareClass(facts=EPYC.facts | {"gpu": "none"}))
    assert (entry(), kept_files()) == (before, files)
    assert len(read(tmp_path).each) == 3


def test_classes_of_one_name_are_not_taken_for_one_another(tmp_path):
    put(tmp_path, tmp_path / "run1", {"m": b"1"})
    twin = HardwareClass(facts={"architecture": "x86_64", "cpu": "x86-64-v3"})
    assert twin.name == PORTABLE.name
    assert read(tmp_path).of(twin) is None
    with pytest.raises(InvalidInput, match="the hardware class x86_64-x86-64-v3 stands here 2 times"):
        put(tmp_path, tmp_path / "run2", {"m": b"2"}, twin)


def test_what_is_no_longer_kept_leaves_the_folder(tmp_path):
    put(tmp_path, tmp_path / "run1", {"m": b"1", "old": b"2"})
    put(tmp_path, tmp_path / "run2", {"m": b"1"})
    assert [path.name for path in (tmp_path / "reprobox.baseline/x86_64-x86-64-v3").iterdir()] == ["m"]
    put(tmp_path, tmp_path / "run3", {"m": b"x" * (MEBIBYTE + 1)})
    assert not (tmp_path / "reprobox.baseline/x86_64-x86-64-v3").exists()


def test_a_recording_that_fails_leaves_the_old_baseline(tmp_path, monkeypatch):
    before = put(tmp_path, tmp_path / "run1", {"m": b"1"})

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_keep", fail)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, tmp_path / "run2", {"m": b"2"})
    assert read(tmp_path) == before
    assert kept(tmp_path, before.each[0]).files == {PurePosixPath("m"): b"1"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "reprobox.baseline",
        "reprobox.baseline.json",
        "run1",
        "run2",
    ]


def test_a_folder_that_cannot_move_in_leaves_the_old_one(tmp_path, monkeypatch):
    before = put(tmp_path, tmp_path / "run1", {"m": b"1"})
    rename = Path.rename

    def refuse_new(self, target):
        if self.name == "new":
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(InvalidInput, match=r"cannot write the baseline folder .*: No space left on device"):
        put(tmp_path, tmp_path / "run2", {"m": b"2"})
    assert read(tmp_path) == before
    assert kept(tmp_path, before.each[0]).damaged == ()


def test_a_kill_before_the_json_is_noticed_when_read(tmp_path, monkeypatch):
    before = put(tmp_path, tmp_path / "run1", {"m": b"1"})

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, tmp_path / "run2", {"m": b"2"})
    assert read(tmp_path) == before
    assert "is not the file that was recorded" in kept(tmp_path, before.each[0]).damaged[0]


def test_an_output_that_changed_after_the_run_is_not_recorded(tmp_path):
    files = left(tmp_path / "run", {"m": b"1"})
    files[0].stored.write_bytes(b"2")
    with pytest.raises(InvalidInput, match=r"m changed after the run: sha256:.* then, sha256:.* now"):
        store(tmp_path, Baselines(), baseline(outputs=recorded(files)), files)
    assert not (tmp_path / BASELINE_FILE).exists()


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    files = left(tmp_path / "run", {"m": b"1"})
    with pytest.raises(InvalidInput, match=r"command\[0\]: has a character that UTF-8 cannot hold"):
        store(tmp_path, Baselines(), baseline(outputs=recorded(files), command=("\udcff",)), files)
    assert not (tmp_path / BASELINE_FILE).exists()


def test_kept_files_that_changed_or_vanished_are_noticed(tmp_path):
    one = put(tmp_path, tmp_path / "run", {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}).each[0]
    folder = tmp_path / "reprobox.baseline/x86_64-x86-64-v3"
    (folder / "a").write_bytes(b"1\n")
    (folder / "b").unlink()
    (folder / "c").unlink()
    (folder / "c").mkdir()
    found = kept(tmp_path, one)
    assert found.files == {PurePosixPath("d"): b"4"}
    assert found.damaged == (
        f"reprobox.baseline/x86_64-x86-64-v3/a is not the file that was recorded ({Digest.of(b'1').short} expected)",
        "reprobox.baseline/x86_64-x86-64-v3/b is missing; reprobox.baseline.json says that it was kept",
        "reprobox.baseline/x86_64-x86-64-v3/c cannot be read: Is a directory",
    )


def test_the_examples_baseline_is_still_that_of_the_portable_class():
    found = read(Path(__file__).parents[2] / "examples" / "warm-start").of(PORTABLE)
    assert found is not None
    assert found.conditions is not None
