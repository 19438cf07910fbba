"""BuildKit's plain lines -> a bar. The recordings are real ones, of `--progress=plain` and Docker 28."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox.console import Step
from reprobox.engines.buildkit_progress import Progress, Tracker, follow

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"


def _heard(name: str) -> list[tuple[str, Progress]]:
    tracker = Tracker()
    lines = (RECORDINGS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [(line, progress) for line in lines if (progress := tracker.hear(line))]


def _at(name: str, beginning: str) -> list[tuple[int, int | None, str]]:
    return [(p.done, p.total, p.what) for line, p in _heard(name) if line.startswith(beginning)]


def test_a_build_counts_the_steps_of_every_stage_and_its_export():
    heard = _heard("buildkit-build")
    assert heard[0][1] == Progress(done=0, total=None, what="load build definition from Dockerfile")
    assert heard[-1][1].done == heard[-1][1].total == 9
    done = [progress.done for _, progress in heard]
    assert done == sorted(done)


def test_what_a_step_says_is_shown_with_its_stage():
    assert _at("buildkit-build", "#7 0.528 ") == [(4, 6, "env: Downloading scipy (33.7MiB)")]
    assert _at("buildkit-build", "#7 [env 1/1]") == [(4, 6, "env 1/1")]
    assert _at("buildkit-build", "#8 [stage-5 1/3]") == [(5, 9, "1/3 COPY --from=env /out/ /")]
    assert _at("buildkit-build", "#11 exporting layers 3.9s done") == [(8, 9, "exporting layers 3.9s done")]


def test_mounts_and_heredocs_are_left_out_of_an_instruction():
    (first, *_) = _at("buildkit-build", "#5 [uv 1/2]")
    assert first[2].startswith('uv 1/2 RUN echo "ff6cd6b1')


def test_layers_are_named_with_how_far_they_are():
    assert _at("buildkit-pull", "#5 sha256:b676")[0] == (0, 4, "layer b676d5421063: 23.07MB of 300.09MB")
    assert _at("buildkit-pull", "#5 extracting")[0] == (0, 4, "layer b676d5421063: extracting")


def test_a_step_that_fails_is_not_done():
    assert _at("buildkit-pull", "#7 ERROR")[0][:2] == (2, 4)
    assert _at("buildkit-pull", "#6 DONE")[0][:2] == (2, 4)


@pytest.mark.parametrize(
    "line", ["", "------", " > [3/3] RUN x:", "#0 building with x", "Dockerfile:3", "#x [1/2] RUN"]
)
def test_lines_that_say_nothing_of_it_are_passed_over(line):
    assert Tracker().hear(line) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(), st.from_regex(r"#\d [^\n]{0,40}"), st.from_regex(r"#1 \[a \d/\d\] RUN .*"))))
def test_no_line_breaks_the_count(lines):
    tracker = Tracker()
    for line in lines:
        progress = tracker.hear(line)
        assert progress is None or progress.done >= 0


def test_the_listener_hands_on_every_line_and_how_far_it_is():
    seen: list[object] = []

    class Spy(Step):
        def say(self, detail):
            seen.append(detail)

        def advance(self, done, total, *, unit="", what=""):
            seen.append((done, total, unit, what))

    hear = follow(Spy())
    hear("#1 [env 1/2] RUN true")
    hear("")
    assert seen == ["#1 [env 1/2] RUN true", (0, 3, "steps", "env 1/2 RUN true"), ""]
