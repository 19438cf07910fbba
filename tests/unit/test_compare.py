"""Rules and verdicts: only equal bytes pass, or equal content under a rule that the user declared."""

import copy
import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reprobox.baseline import Baseline, Baselines, RecordedOutput
from reprobox.compare import rules
from reprobox.compare.rules import check, first_difference, ruled, ruled_bytes, rules_digest
from reprobox.compare.verdict import judge, overall, recorded, recorded_control, unstable
from reprobox.errors import InvalidInput, Uncomparable
from reprobox.model import Digest, Finding, HardwareClass, Image, Output, OutputFile, Run, Status, Verdict

HERE = HardwareClass(facts={"architecture": "x86_64", "instructions": "x86-64-v3"})
ELSEWHERE = HardwareClass(facts={"architecture": "x86_64", "cpu": "AMD EPYC", "instructions": "x86-64-v4"})
D = Digest.of(b"")


def output(path="out/m.json", *ignore):
    return Output(path=PurePosixPath(path), ignore=ignore)


def under(*ignore, data, name="m.json"):
    if isinstance(data, str):
        data = data.encode()
    return ruled_bytes(output("out", *ignore), data, name=PurePosixPath(name)).digest


# --- rules ------------------------------------------------------------------------------------


def test_an_ignored_node_may_differ_and_nothing_else():
    one, two, three = '{"a": 1, "seconds": 2.5}', '{"a": 1, "seconds": 9}', '{"a": 2, "seconds": 2.5}'
    assert under("$.seconds", data=one) == under("$.seconds", data=two)
    assert under("$.seconds", data=one) != under("$.seconds", data=three)


def test_a_node_that_is_absent_equals_an_ignored_one():
    assert under("$.seconds", data='{"a": 1, "seconds": 2}') == under("$.seconds", data='{"a":1}')


def test_key_order_and_white_space_do_not_matter_under_a_rule():
    assert under("$.x", data='{"a": [1, 2], "b": {"c": 1, "d": 2}}') == under(
        "$.x", data='{\n"b":{"d":2,"c":1},"a":[1,2]}\n'
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("1.0", "1.00"),
        ("1", "1.0"),
        ("1e2", "100"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("9007199254740993.0", "9007199254740992.0"),
        ("-0", "0"),
        ("NaN", "Infinity"),
        ("Infinity", "-Infinity"),
        ("1e400", "1e401"),
        ("1" * 5000, "1" * 4999 + "2"),
        ("NaN", '"NaN"'),
        ("1", '"1"'),
        ("1", "true"),
        ("null", "false"),
        ("[]", "{}"),
        ("[]", "[[]]"),
        ('"\\u00e9"', '"e"'),
    ],
)
def test_values_are_told_apart_by_their_text(one, two):
    assert under("$.x", data=f'{{"v": {one}}}') != under("$.x", data=f'{{"v": {two}}}')


def test_a_character_and_its_escape_are_the_same_string():
    assert under("$.x", data='{"v": "\\u00e9\\/"}') == under("$.x", data='{"v": "é/"}')


def test_a_byte_order_mark_does_not_matter_under_a_rule():
    assert under("$.x", data=b'\xef\xbb\xbf{"a": 1}') == under("$.x", data='{"a": 1}')


def test_filters_see_numbers_as_numbers():
    data = '[{"t": 0.5, "v": 1}, {"t": 2.5, "v": 2}]'
    assert under("$[?@.t > 1]", data=data) == under("$[?@.t > 1]", data='[{"t": 0.5, "v": 1}, {"t": 7, "v": 3}]')
    assert under("$[?@.t > 1]", data=data) != under("$[?@.t > 1]", data='[{"t": 0.5, "v": 1}, {"t": 0.7, "v": 2}]')


def test_rules_are_evaluated_on_the_whole_document_and_in_any_order():
    data = '{"items": [1, 2, 3, 4], "n": {"deep": {"time": 1}}}'
    assert under("$.items[0]", "$.items[2]", data=data) == under("$.items[2]", "$.items[0]", data=data)
    assert under("$.items[0,2]", "$.n", "$.n.deep.time", data=data) == under("$.x", data='{"items": [2, 4]}')
    assert rules_digest(output("a", "$.x", "$.y")) == rules_digest(output("b", "$.y", "$.x", "$.y"))
    assert rules_digest(output("a", "$.x")) != rules_digest(output("a", "$.y"))
    assert rules_digest(output("a")) is None


def test_a_rule_that_matches_nothing_is_reported():
    found = ruled_bytes(output("a", "$.b", "$.a"), b'{"a": 1}', name=PurePosixPath("a.json"))
    assert found.unmatched == ("$.b",)
    scalar = ruled_bytes(output("a", "$.b"), b'"{\\"b\\": 1}"', name=PurePosixPath("a.json"))
    assert scalar.unmatched == ("$.b",)


def test_json_lines_are_taken_line_by_line():
    one, two = '{"t": 1, "v": 1}\n{"v": 2}\n', '{"v": 1}\r\n{"v": 2, "t": 9}'
    for name in ("a.jsonl", "a.NDJSON"):
        assert under("$.t", data=one, name=name) == under("$.t", data=two, name=name)
        assert under("$.t", data=one, name=name) != under("$.t", data='{"v": 1}\n', name=name)
    assert under("$.t", data="", name="a.jsonl") != under("$.t", data="{}", name="a.jsonl")


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "m.json", "not JSON (Expecting value, line 1, column 1)"),
        (b'{"a": }', "m.json", "not JSON (Expecting value, line 1, column 7)"),
        (b"PK\x03\x04", "m.npz", "not JSON"),
        (b"\xff\xfe", "m.json", "not UTF-8 at byte 0"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "m.json", 'the key "c" stands twice in one object'),
        (b"[" * 101 + b"]" * 101, "m.json", "nested deeper than 100 levels"),
        (b"[" * 200_000, "m.json", "n"),
        (b'{"a": 1}\n\n{"a": 1}', "m.jsonl", "line 2: not JSON (Expecting value, column 1)"),
        (b'{"a": 1}\n{"a": 1, "a": 2}', "m.jsonl", 'line 2: the key "a" stands twice in one object'),
    ],
)
def test_what_is_not_usable_json_is_uncomparable_with_the_reason(data, name, reason):
    with pytest.raises(Uncomparable) as caught:
        under("$..x", data=data, name=name)
    assert caught.value.message.startswith(f"the rules cannot be applied: {reason}")
    assert caught.value.hint == "`ignore` is for JSON files; change the output, or take its rules away"


def test_a_hundred_levels_are_followed():
    data = "[" * 100 + "]" * 100
    assert under("$..x", data=data) != under("$..x", data="[]")


def test_a_file_beyond_the_limit_is_uncomparable(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "SIZE_LIMIT", 2 * 1024 * 1024)
    (tmp_path / "m.json").write_bytes(b" " * (3 * 1024 * 1024))
    with pytest.raises(Uncomparable, match="applied: 3 MiB, and at most 2 MiB are read"):
        ruled(output("m.json", "$.x"), tmp_path / "m.json")


def test_a_file_that_cannot_be_read_is_uncomparable(tmp_path):
    with pytest.raises(Uncomparable, match="the file cannot be read: No such file"):
        ruled(output("m.json", "$.x"), tmp_path / "m.json")


@pytest.mark.parametrize(
    "rule", ["seconds", "$.", "$..", "$.a | $.b", " $.a", "", "$[?@.x >]", "$[?nope(@.a)]", "$[1e5]"]
)
def test_a_rule_that_is_no_jsonpath_is_refused(rule):
    with pytest.raises(InvalidInput, match=r"the rule .* for out/m.json is no JSONPath: ") as caught:
        check(output("out/m.json", rule))
    assert "$.seconds" in caught.value.hint
    check(output("out/m.json", "$.seconds", "$..['a b']"))


@given(st.text(max_size=12) | st.text("$@.[]?*'\"ab1,:()&|!<>= ~^", max_size=14).map(lambda rule: "$" + rule))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_rule_or_refused(rule):
    try:
        check(output("out/m.json", rule))
        under(rule, data='{"a": [1, {"b": "x"}, null]}')
    except (InvalidInput, Uncomparable) as error:
        assert error.message.startswith(("the rule", "the rules cannot be applied: "))


def test_a_rule_that_fails_on_a_file_is_uncomparable_with_the_reason(monkeypatch):
    def fail(*_):
        raise TypeError("cannot compare")

    monkeypatch.setattr("jsonpath.JSONPath.finditer", fail)
    with pytest.raises(Uncomparable, match=r"applied: \$\.a fails on this file: cannot compare"):
        under("$.a", data="{}")


def test_a_rule_that_ignores_everything_is_refused():
    with pytest.raises(InvalidInput, match="ignores the whole file, and nothing is left to compare"):
        check(output("out/m.json", "$"))


@pytest.mark.parametrize(
    ("found", "expected", "words"),
    [
        ('{"loss": 0.31}', '{"loss": 0.30}', "$.loss is 0.31, 0.30 expected"),
        ('{"a b": [1, {"c": 1}]}', '{"a b": [1, {"c": "1"}]}', '$["a b"][1].c is 1, "1" expected'),
        ('{"a": 1, "t": 2}', '{"a": 1, "t": 3}', None),
        ('{"a": 1, "b": 2}', '{"a": 1}', "$.b is new: 2"),
        ('{"a": 1}', '{"a": 1, "b": []}', "$.b is missing, a list expected"),
        ('{"b": 1, "a": 1}', '{"b": 2, "a": 2}', "$.a is 1, 2 expected"),
        ("[1]", "[1, 2]", "$ has 1 items, 2 expected"),
        ("{}", "[]", "$ is an object, a list expected"),
        ('"%s"' % ("x" * 100), "1", '$ is "xxxxxxxxxxxxxxxxxxxxxxxxxxxx..., 1 expected'),
    ],
)
def test_the_first_difference_is_named_by_its_path(found, expected, words):
    name = PurePosixPath("m.json")
    assert first_difference(output("o", "$.t"), found.encode(), expected.encode(), name=name) == words


def test_the_first_difference_of_json_lines_names_the_line():
    name = PurePosixPath("m.jsonl")
    assert first_difference(output("o"), b"1\n2\n", b"1\n3\n", name=name) == "line 2: $ is 2, 3 expected"
    assert first_difference(output("o"), b"1\n2\n", b"1\n", name=name) == "2 lines, 1 expected"


# --- rules, on any document -------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.text(st.characters(categories=["Cs"]), max_size=1)
)
keys = st.sampled_from(["a", "b", "seconds", "time", "é", ""])
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=20
)


def spelled(value):
    return json.dumps(value).encode()


def with_other_times(value, draw_value):
    """A twin that differs in what ``$..seconds`` selects, and only there."""
    if isinstance(value, dict):
        return {
            key: draw_value() if key == "seconds" else with_other_times(inner, draw_value)
            for key, inner in value.items()
        }
    return [with_other_times(inner, draw_value) for inner in value] if isinstance(value, list) else value


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key != "seconds"}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def shuffled(value, shuffle):
    if isinstance(value, dict):
        return {key: shuffled(value[key], shuffle) for key in shuffle(list(value))}
    return [shuffled(inner, shuffle) for inner in value] if isinstance(value, list) else value


@given(documents, st.data())
@settings(max_examples=150, deadline=None)
def test_documents_that_differ_only_in_ignored_nodes_are_equal(document, data):
    twin = with_other_times(document, lambda: data.draw(documents))
    assert under("$..seconds", data=spelled(document)) == under("$..seconds", data=spelled(twin))


@given(documents, documents)
@settings(max_examples=200, deadline=None)
def test_any_other_change_is_found(one, two):
    same = json.dumps(without_times(one), sort_keys=True) == json.dumps(without_times(two), sort_keys=True)
    assert (under("$..seconds", data=spelled(one)) == under("$..seconds", data=spelled(two))) == same
    here = first_difference(output("o", "$..seconds"), spelled(one), spelled(two), name=PurePosixPath("m.json"))
    assert (here is None) == same


@given(documents, st.data())
@settings(max_examples=200, deadline=None)
def test_one_changed_leaf_is_found(document, data):
    leaves = list(places(document))
    assume(leaves)
    at = data.draw(st.sampled_from(leaves))
    assume("seconds" not in at)
    twin = {"": copy.deepcopy(document)}
    target = twin
    for key in ("", *at)[:-1]:
        target = target[key]
    last = ("", *at)[-1]
    value = data.draw(scalars)
    assume(json.dumps(value) != json.dumps(target[last]))
    target[last] = value
    assert under("$..seconds", data=spelled(document)) != under("$..seconds", data=spelled(twin[""]))


def places(value, at=()):
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*at, key))
    else:
        yield at


@given(documents, st.randoms())
@settings(max_examples=100, deadline=None)
def test_a_twin_with_shuffled_keys_is_equal_under_a_rule(document, random):
    twin = shuffled(document, lambda keys: random.sample(keys, len(keys)))
    assert under("$.nothing", data=spelled(document)) == under("$.nothing", data=spelled(twin))


@given(st.binary(max_size=60) | st.text('[]{}":,0123eE.-ntf \n', max_size=60).map(str.encode), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_a_digest_or_a_reason(data, lines):
    try:
        under("$..a", "$[?@.a > 1]", data=data, name="m.jsonl" if lines else "m.json")
    except Uncomparable as error:
        assert error.message.startswith("the rules cannot be applied: ")


# --- verdicts ---------------------------------------------------------------------------------


class Lab:
    """Makes runs with files on disk, and baselines of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def run(self, files=(), *, exit_code=0, reason=None, command=("python", "train.py")) -> Run:
        self.count += 1
        found = []
        for name, data in dict(files).items():
            raw = data.encode() if isinstance(data, str) else data
            stored = self.folder / str(self.count) / f"{len(found)}.bin"
            stored.parent.mkdir(parents=True, exist_ok=True)
            stored.write_bytes(raw)
            found.append(OutputFile(path=PurePosixPath(name), digest=Digest.of(raw), size=len(raw), stored=stored))
        return Run(
            command=command,
            exit_code=exit_code,
            seconds=1.0,
            outputs=tuple(found),
            log=self.folder / "log.txt",
            reason=reason,
        )

    def baselines(self, outputs, files, hardware=HERE, command=("python", "train.py")) -> Baselines:
        return Baselines(
            each=(
                Baseline(
                    hardware=hardware,
                    command=command,
                    lock=D,
                    source=D,
                    image=D,
                    outputs=recorded(outputs, self.run(files)),
                ),
            )
        )

    def judge(self, declared, files, expected=None, *, kept=(), control=None, hardware=HERE, recorded_under=None):
        """``files``: what one run left, or a list of that for several runs."""
        several = files if isinstance(files, list) else [files]
        baselines = Baselines() if expected is None else self.baselines(recorded_under or declared, expected)
        return judge(
            outputs=declared,
            runs=[one if isinstance(one, Run) else self.run(one) for one in several],
            hardware=hardware,
            baselines=baselines,
            control=control,
            kept={PurePosixPath(path): data.encode() for path, data in dict(kept).items()},
        )


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def said(findings):
    return [(finding.path, finding.status.value, finding.passes, finding.detail) for finding in findings]


def test_equal_bytes_are_identical(lab):
    findings = lab.judge([output("m")], {"m": "1"}, {"m": "1"})
    assert said(findings) == [("m", "IDENTICAL", True, "")]
    assert (findings[0].expected, findings[0].found, findings[0].size) == (Digest.of(b"1"), Digest.of(b"1"), 1)


def test_other_bytes_differ_and_sizes_say_how(lab):
    assert said(lab.judge([output("m")], {"m": "12"}, {"m": "1"})) == [("m", "DIFFERENT", False, "2 bytes, 1 expected")]
    assert said(lab.judge([output("m")], {"m": "2"}, {"m": "1"})) == [
        ("m", "DIFFERENT", False, "same size, 1 bytes, other content")
    ]


def test_kept_bytes_say_where_and_how_much(lab):
    assert said(lab.judge([output("m")], {"m": "abXdeX"}, {"m": "abcdef"}, kept={"m": "abcdef"})) == [
        ("m", "DIFFERENT", False, "2 of 6 bytes differ, the first at byte 2")
    ]
    assert said(lab.judge([output("m")], {"m": "abc"}, {"m": "abcdef"}, kept={"m": "abcdef"})) == [
        ("m", "DIFFERENT", False, "3 bytes, 6 expected; first difference at byte 3")
    ]


def test_kept_json_says_which_value(lab):
    found, expected = '{"loss": 0.31}', '{"loss": 0.30}'
    assert said(lab.judge([output("m.json")], {"m.json": found}, {"m.json": expected}, kept={"m.json": expected})) == [
        ("m.json", "DIFFERENT", False, "$.loss is 0.31, 0.30 expected")
    ]


@pytest.mark.parametrize(("found", "expected"), [('{"a":1}', '{"a": 1}'), ("{nope", '{"a":1}'), ('{"a":1}', "")])
def test_json_that_cannot_be_told_apart_by_value_is_told_apart_by_bytes(lab, found, expected):
    detail = lab.judge([output("m.json")], {"m.json": found}, {"m.json": expected}, kept={"m.json": expected})[0].detail
    assert "byte" in detail


def test_a_declared_rule_gives_same_content_and_is_named(lab):
    declared = [output("m.json", "$.seconds", "$.typo")]
    assert said(lab.judge(declared, {"m.json": '{"a":1,"seconds":2}'}, {"m.json": '{"a":1,"seconds":3}'})) == [
        ("m.json", "SAME_CONTENT", True, "ignoring $.seconds; $.typo matched nothing")
    ]


def test_without_a_rule_another_spelling_is_different(lab):
    assert lab.judge([output("m.json")], {"m.json": '{"a":1}'}, {"m.json": '{"a": 1}'})[0].status is Status.DIFFERENT


def test_under_a_rule_that_matched_nothing_another_spelling_is_named(lab):
    declared = [output("m.json", "$.seconds")]
    assert said(lab.judge(declared, {"m.json": '{"a":1}'}, {"m.json": '{"a": 1}'})) == [
        ("m.json", "SAME_CONTENT", True, "only its spelling differs; $.seconds matched nothing")
    ]


def test_a_rule_does_not_hide_another_difference(lab):
    declared = [output("m.json", "$.seconds")]
    expected = '{"a":1,"seconds":3}'
    findings = lab.judge(declared, {"m.json": '{"a":2,"seconds":2}'}, {"m.json": expected}, kept={"m.json": expected})
    assert said(findings) == [("m.json", "DIFFERENT", False, "$.a is 2, 1 expected")]


def test_identical_bytes_under_an_idle_rule_say_so(lab):
    declared = [output("m.json", "$.typo")]
    assert said(lab.judge(declared, {"m.json": "{}"}, {"m.json": "{}"})) == [
        ("m.json", "IDENTICAL", True, "$.typo matched nothing")
    ]


def test_a_rule_edited_after_the_record_leaves_no_baseline(lab):
    for before, after in ((["$.a"], ["$.b"]), ([], ["$.b"]), (["$.a"], [])):
        findings = lab.judge(
            [output("m.json", *after)], {"m.json": "{}"}, {"m.json": "{}"}, recorded_under=[output("m.json", *before)]
        )
        assert said(findings) == [
            ("m.json", "NO_BASELINE", False, "its `ignore` rules changed after the baseline was recorded")
        ]


def test_a_rule_on_what_is_no_json_is_incomplete_with_the_reason(lab):
    declared = [output("m.json", "$.a")]
    findings = lab.judge(declared, {"m.json": "loss: 1"}, {"m.json": "{}"})
    assert said(findings) == [
        (
            "m.json",
            "INCOMPLETE",
            False,
            "the bytes differ; the rules cannot be applied: not JSON (Expecting value, line 1, column 1)",
        )
    ]


def test_what_is_recorded_or_declared_and_not_there_is_missing(lab):
    findings = lab.judge(
        [output("a"), output("b"), output("dir")],
        {"a": "1"},
        {"a": "1", "b": "2", "gone": "3"},
        recorded_under=[output("a"), output("b"), output("gone")],
    )
    assert said(findings) == [
        ("a", "IDENTICAL", True, ""),
        ("b", "MISSING", False, "recorded, and the run did not write it"),
        ("dir", "MISSING", False, "declared, and the run wrote nothing there"),
        ("gone", "MISSING", False, "recorded, and declared no longer in reprobox.yaml"),
    ]


def test_a_folder_is_its_files_and_a_new_one_is_extra(lab):
    findings = lab.judge([output("out")], {"out/a": "1", "out/sub/new": "2"}, {"out/a": "1"})
    assert said(findings) == [("out/a", "IDENTICAL", True, ""), ("out/sub/new", "EXTRA", False, "not in the baseline")]


def test_an_output_declared_after_the_record_has_no_baseline(lab):
    findings = lab.judge([output("a"), output("b")], {"a": "1", "b": "1"}, {"a": "1"}, recorded_under=[output("a")])
    assert said(findings)[1] == ("b", "NO_BASELINE", False, "declared after the baseline was recorded")


def test_a_rule_for_a_file_wins_over_its_folder(lab):
    declared = [output("out"), output("out/m.json", "$.t")]
    findings = lab.judge(declared, {"out/m.json": '{"t":1}', "out/x": "1"}, {"out/m.json": '{"t":2}', "out/x": "1"})
    assert [finding.status for finding in findings] == [Status.SAME_CONTENT, Status.IDENTICAL]


def test_runs_that_differ_among_themselves_are_unstable_before_they_are_different(lab):
    runs = [{"m": "1"}, {"m": "2"}, {"m": "1"}]
    assert said(lab.judge([output("m")], runs, {"m": "0"})) == [
        ("m", "UNSTABLE", False, "2 different results in 3 runs")
    ]
    assert said(lab.judge([output("m")], runs)) == [("m", "UNSTABLE", False, "2 different results in 3 runs")]
    assert said(lab.judge([output("m")], [{"m": "1"}, {}], {"m": "1"})) == [
        ("m", "UNSTABLE", False, "2 different results in 2 runs, missing in 1")
    ]


def test_runs_that_differ_only_under_a_rule_are_stable_and_not_identical(lab):
    declared = [output("m.json", "$.t")]
    runs = [{"m.json": '{"t":1}'}, {"m.json": '{"t":2}'}]
    assert said(lab.judge(declared, runs, {"m.json": '{"t":1}'})) == [("m.json", "SAME_CONTENT", True, "ignoring $.t")]
    runs = [{"m.json": '{"t":1,"a":1}'}, {"m.json": '{"t":2,"a":2}'}]
    assert said(lab.judge(declared, runs, {"m.json": '{"t":1,"a":1}'})) == [
        ("m.json", "UNSTABLE", False, "2 different results in 2 runs, ignoring $.t: $.a is 1, 2 in another")
    ]


def test_runs_that_a_rule_cannot_compare_are_incomplete(lab):
    declared = [output("m.json", "$.t")]
    findings = lab.judge(declared, [{"m.json": "{}"}, {"m.json": "nope"}], {"m.json": "{}"})
    assert findings[0].status is Status.INCOMPLETE
    assert findings[0].detail.startswith("the runs differ; the rules cannot be applied: not JSON")
    findings = lab.judge(declared, [{"m.json": "{}"}, {"m.json": "nope"}, {}], {"m.json": "{}"})
    assert findings[0].status is Status.UNSTABLE


def test_a_failed_run_is_the_only_finding(lab):
    assert said(lab.judge([output("m")], lab.run(exit_code=3), {"m": "1"})) == [
        ("(run)", "RUN_FAILED", False, "exit code 3")
    ]
    runs = [lab.run({"m": "1"}), lab.run(exit_code=137, reason="stopped after 600 s")]
    assert said(lab.judge([output("m")], runs, {"m": "1"}, control=lab.run())) == [
        ("(run)", "RUN_FAILED", False, "run 2 of 2: stopped after 600 s")
    ]


def test_no_run_is_incomplete(lab):
    assert said(lab.judge([output("m")], [], {"m": "1"})) == [("(run)", "INCOMPLETE", False, "nothing was run")]


def test_where_nothing_was_recorded_there_is_no_baseline(lab):
    assert said(lab.judge([output("m")], {"m": "1"})) == [("m", "NO_BASELINE", False, "none was recorded yet")]


@pytest.mark.parametrize(
    ("here", "detail"),
    [
        ('{"a": 1, "t": 1}', "equal to the baseline of portable x86-64-v3"),
        ('{"a": 1, "t": 2}', "but for $.t equal to the baseline of portable x86-64-v3"),
        ('{"a": 2, "t": 1}', "differs from the baseline of portable x86-64-v3"),
    ],
)
def test_the_baseline_of_other_hardware_informs_and_passes_nothing(lab, here, detail):
    (found,) = lab.judge([output("m", "$.t")], {"m": here}, {"m": '{"a": 1, "t": 1}'}, hardware=ELSEWHERE)
    assert (found.status, found.passes, found.detail) == (Status.NO_BASELINE, False, detail)
    assert found.found == Digest.of(here.encode())


def test_a_rule_that_was_not_recorded_makes_nothing_equal(lab):
    declared, before = [output("m", "$.t")], [output("m")]
    (found,) = lab.judge(declared, {"m": '{"t": 2}'}, {"m": '{"t": 1}'}, hardware=ELSEWHERE, recorded_under=before)
    assert found.detail == "differs from the baseline of portable x86-64-v3"
    other = [output("m", "$.u")]
    (found,) = lab.judge(declared, {"m": '{"a": 1}'}, {"m": '{"a":1}'}, hardware=ELSEWHERE, recorded_under=other)
    assert found.detail == "differs from the baseline of portable x86-64-v3"


def test_several_other_classes_are_named_by_what_tells_them_apart(lab):
    declared = [output("m"), output("n")]
    blas = [HardwareClass(facts={**ELSEWHERE.facts, "numpy blas": f"OpenBLAS {core}"}) for core in ("Zen", "Haswell")]
    known = Baselines(
        each=(
            *lab.baselines(declared, {"m": "1", "n": "1"}, hardware=blas[0]).each,
            *lab.baselines(declared[:1], {"m": "2"}).each,
        )
    )
    found = judge(outputs=declared, runs=[lab.run({"m": "1", "n": "2"})], hardware=blas[1], baselines=known)
    zen = "AMD EPYC, x86-64-v4, with numpy blas OpenBLAS Zen"
    assert [one.detail for one in found] == [
        f"equal to the baseline of {zen}; differs from the baseline of portable x86-64-v3",
        f"differs from the baseline of {zen}; not in the baseline of portable x86-64-v3",
    ]


def test_another_command_than_the_recorded_one_is_said(lab):
    findings = judge(
        outputs=[output("m")],
        runs=[lab.run({"m": "2"})],
        hardware=HERE,
        baselines=lab.baselines([output("m")], {"m": "1"}, command=("python", "old.py")),
    )
    assert findings[0].detail == (
        "same size, 1 bytes, other content; the command is another one: `python train.py`, `python old.py` was recorded"
    )


# --- the negative control ---------------------------------------------------------------------


def test_a_control_that_changes_an_output_passes(lab):
    files = dict.fromkeys("abcde", "1")
    declared = [output(name) for name in files]
    control = lab.run({**files, "a": "2"})
    assert said(lab.judge(declared, files, files, control=control))[-1] == (
        "(control)",
        "CONTROL_DIFFERS",
        True,
        "it changed a",
    )
    control = lab.run(dict.fromkeys(files, "2"))
    assert lab.judge(declared, files, files, control=control)[-1].detail == "it changed a, b, c and 2 more"


def test_a_control_that_changes_nothing_fails(lab):
    findings = lab.judge([output("m")], {"m": "1"}, {"m": "1"}, control=lab.run({"m": "1"}))
    assert said(findings)[-1] == (
        "(control)",
        "CONTROL_UNCHANGED",
        False,
        "the control command gave the same bytes: what it varies has no effect",
    )


def test_a_control_that_changes_only_what_is_ignored_fails(lab):
    declared = [output("m.json", "$.t")]
    findings = lab.judge(declared, {"m.json": '{"t":1}'}, {"m.json": '{"t":1}'}, control=lab.run({"m.json": '{"t":2}'}))
    assert findings[-1].status is Status.CONTROL_UNCHANGED


def test_a_control_that_fails_or_cannot_be_compared_is_trouble(lab):
    failed = lab.judge([output("m")], {"m": "1"}, {"m": "1"}, control=lab.run(exit_code=1))
    assert said(failed)[-1] == ("(control)", "RUN_FAILED", False, "exit code 1")
    declared = [output("m.json", "$.t"), output("n")]
    files = {"m.json": "{}", "n": "1"}
    unclear = lab.judge(declared, files, files, control=lab.run({"m.json": "nope", "n": "1"}))
    assert said(unclear)[-1][1] == "INCOMPLETE"
    assert unclear[-1].detail.startswith("m.json: the rules cannot be applied: not JSON")
    clear = lab.judge(declared, files, files, control=lab.run({"m.json": "nope", "n": "2"}))
    assert clear[-1].detail == "it changed n"


def test_a_control_is_judged_without_a_baseline_too(lab):
    findings = lab.judge([output("m")], {"m": "1"}, control=lab.run({"m": "2"}))
    assert [finding.status for finding in findings] == [Status.NO_BASELINE, Status.CONTROL_DIFFERS]


# --- recording --------------------------------------------------------------------------------


def test_a_run_is_recorded_with_digests_under_rules(lab):
    declared = [output("out"), output("out/m.json", "$.t")]
    found = recorded(declared, lab.run({"out/m.json": '{"t":1}', "out/a": "1"}))
    assert found == (
        RecordedOutput(path=PurePosixPath("out/a"), digest=Digest.of(b"1"), size=1),
        RecordedOutput(
            path=PurePosixPath("out/m.json"),
            digest=Digest.of(b'{"t":1}'),
            size=7,
            rules_digest=rules_digest(declared[1]),
            ruled_digest=under("$.t", data="{}"),
        ),
    )


def test_a_baseline_that_cannot_be_met_is_not_recorded(lab):
    with pytest.raises(InvalidInput, match=r"the run wrote no b, which reprobox.yaml declares as an output"):
        recorded([output("a"), output("b")], lab.run({"a": "1"}))
    with pytest.raises(Uncomparable, match=r"^a: the rules cannot be applied: not JSON"):
        recorded([output("a", "$.t")], lab.run({"a": "nope"}))


def test_instability_is_found_before_there_is_a_baseline(lab):
    declared = [output("a"), output("b")]
    runs = [lab.run({"a": "1", "b": "1"}), lab.run({"a": "1", "b": "2"})]
    assert said(unstable(declared, runs)) == [("b", "UNSTABLE", False, "2 different results in 2 runs")]
    assert unstable(declared, runs[:1]) == ()


def test_a_control_is_recorded_with_what_it_changed(lab):
    found = recorded_control([output("m")], lab.run({"m": "1"}), lab.run({"m": "2"}, command=("seed", "1")))
    assert (found.command, found.changed) == (("seed", "1"), (PurePosixPath("m"),))


# --- the word for the whole -------------------------------------------------------------------


def verdict(findings):
    image = Image(engine="docker", reference="x", handle="x", digest=D)
    return Verdict(findings=tuple(findings), hardware=HERE, image=image, runs=1, seconds=1.0)


@pytest.mark.parametrize(
    ("statuses", "whole", "code"),
    [
        (["IDENTICAL", "CONTROL_DIFFERS"], "IDENTICAL", 0),
        (["IDENTICAL", "SAME_CONTENT"], "SAME_CONTENT", 0),
        (["IDENTICAL", "DIFFERENT", "MISSING"], "DIFFERENT", 1),
        (["NO_BASELINE", "UNSTABLE", "DIFFERENT"], "UNSTABLE", 1),
        (["IDENTICAL", "CONTROL_UNCHANGED"], "CONTROL_UNCHANGED", 1),
        (["NO_BASELINE", "CONTROL_UNCHANGED"], "CONTROL_UNCHANGED", 1),
        (["IDENTICAL", "RUN_FAILED"], "RUN_FAILED", 2),
        (["NO_BASELINE", "INCOMPLETE"], "INCOMPLETE", 2),
        (["NO_BASELINE"], "NO_BASELINE", 2),
        ([], "INCOMPLETE", 2),
    ],
)
def test_the_gravest_word_names_the_whole_and_the_exit_code_follows(statuses, whole, code):
    passing = {"IDENTICAL", "SAME_CONTENT", "CONTROL_DIFFERS"}
    findings = [Finding(path=word, status=Status(word), passes=word in passing) for word in statuses]
    assert overall(findings) is Status(whole)
    assert verdict(findings).exit_code == code


contents = st.sampled_from(["{}", '{"t":1}', '{"t":2}', '{"a":1}', '{"a":1,"t":3}', "nope"])
files = st.dictionaries(st.sampled_from(["a", "out/b", "out/c", "out/sub/d"]), contents, max_size=4)
declarations = st.lists(
    st.builds(
        lambda path, ignore: output(path, *ignore),
        st.sampled_from(["a", "out", "out/b", "out/sub"]),
        st.sampled_from([(), ("$.t",), ("$.a",)]),
    ),
    min_size=1,
    unique_by=lambda one: one.path,
)
ignoring_t = {"{}": "{}", '{"t":1}': "{}", '{"t":2}': "{}", '{"a":1}': '{"a":1}', '{"a":1,"t":3}': '{"a":1}'}


def taken(declared, found):
    """What an engine takes out: only what is declared."""
    return {
        name: data
        for name, data in found.items()
        if any(PurePosixPath(name).is_relative_to(one.path) for one in declared)
    }


@given(declarations, st.lists(files, min_size=1, max_size=3), files, files, st.booleans())
@settings(max_examples=300, deadline=None)
def test_only_equal_bytes_or_equal_content_under_a_rule_pass(
    tmp_path_factory, declared, runs, expected, kept, with_control
):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    runs, expected = [taken(declared, run) for run in runs], taken(declared, expected)
    try:
        baselines = lab.baselines(declared, expected)
    except (InvalidInput, Uncomparable):
        baselines = Baselines()
    arguments = {
        "outputs": declared,
        "runs": [lab.run(run) for run in runs],
        "hardware": HERE,
        "baselines": baselines,
        "control": lab.run(kept) if with_control else None,
        "kept": {PurePosixPath(name): data.encode() for name, data in kept.items()},
    }
    findings = judge(**arguments)
    assert findings == judge(**{**arguments, "outputs": declared[::-1]})
    judged = [finding for finding in findings if finding.path != "(control)"]
    assert [finding.path for finding in judged] == sorted(finding.path for finding in judged)
    assert {finding.path for finding in judged} >= set(expected if baselines.each else ()).union(*runs)
    for finding in judged:
        equal = baselines.each and all(run.get(finding.path) == expected.get(finding.path) for run in runs)
        assert (finding.status is Status.IDENTICAL) == bool(equal and finding.path in expected)
        assert finding.passes == (finding.status in {Status.IDENTICAL, Status.SAME_CONTENT})
        if finding.status is Status.SAME_CONTENT:
            closest = max(
                (one for one in declared if PurePosixPath(finding.path).is_relative_to(one.path)),
                key=lambda one: len(one.path.parts),
            )
            assert closest.ignore
            if closest.ignore == ("$.t",):
                assert {ignoring_t[run[finding.path]] for run in runs} == {ignoring_t[expected[finding.path]]}
        assert finding.detail or finding.passes
