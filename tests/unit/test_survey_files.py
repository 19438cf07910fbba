"""Dockerfiles, definition files and notebooks: what is read of them, and on which line."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spython.logger import bot  # type: ignore[import-untyped]
from spython.main.parse.parsers import SingularityParser  # type: ignore[import-untyped]

from reprobox.errors import InvalidInput
from reprobox.survey import definition, dockerfile, notebook

# --- Dockerfiles ------------------------------------------------------------------------------


def test_continuations_are_joined_and_comments_inside_them_dropped() -> None:
    (run,) = dockerfile.read("RUN a && \\\n  # why\n\n  b \\\n  c\n")
    assert (run.keyword, run.value.split(), run.line) == ("RUN", ["a", "&&", "b", "c"], 1)
    assert run.script.count("\n") == 4


def test_the_escape_directive_changes_what_continues_a_line() -> None:
    first, second = dockerfile.read("# escape=`\nRUN dir `\n  c:\\\nuser x\n")
    assert (first.value, second.keyword, second.line) == ("dir   c:\\", "USER", 4)


def test_an_escape_directive_below_an_instruction_is_a_comment() -> None:
    assert len(dockerfile.read("FROM a\n# escape=`\nRUN b `\nRUN c\n")) == 3


def test_the_body_of_a_heredoc_belongs_to_its_instruction() -> None:
    run, copy, last = dockerfile.read("RUN <<EOF\nFROM no\nEOF\nCOPY <<-'A' <<B /x/\n\tone\n\tA\ntwo\nB\nUSER u\n")
    assert run.value == "<<EOF\nFROM no\nEOF"
    assert copy.value.endswith("\n\tone\n\tA\ntwo\nB")
    assert (last.keyword, last.line) == ("USER", 9)


def test_a_heredoc_without_an_end_swallows_nothing() -> None:
    assert [one.keyword for one in dockerfile.read("RUN cat <<EOF\nUSER u\n")] == ["RUN", "USER"]


def test_onbuild_gives_its_trigger() -> None:
    (one,) = dockerfile.read("onbuild run pip install x\n")
    assert one.trigger and (one.trigger.keyword, one.trigger.value) == ("RUN", "pip install x")


def test_flags_stand_apart_from_arguments() -> None:
    add, run, test = dockerfile.read(
        "ADD --checksum=sha256:ab --link u /x\n"
        'RUN --mount=type=cache,target=/c ["pip", "install", "a b"]\n'
        "RUN [ -f x ] && echo\n"
    )
    assert (add.flags, add.arguments) == ({"checksum": "sha256:ab", "link": ""}, ("u", "/x"))
    assert run.shell == "pip install 'a b'"
    assert test.shell == "[ -f x ] && echo"


def test_stages_know_their_arguments_and_each_other() -> None:
    first = "ARG V=3.11\nARG HOST\nFROM --platform=linux/amd64 python:${V}-slim AS Build\n"
    text = first + "FROM build\nFROM $HOST/x:${T:-9}\n"
    built, again, open_ = dockerfile.stages(dockerfile.read(text))
    assert (built.base, built.name, built.platform, built.line) == ("python:3.11-slim", "Build", "linux/amd64", 3)
    assert again.earlier and not built.earlier
    assert open_.base == "$HOST/x:9"


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet="RUNFOM \\\n\t<<EOF#=`-[]\"'${}:@"))
def test_no_text_is_too_odd_for_a_dockerfile(text: str) -> None:
    read = dockerfile.read(text)
    assert all(1 <= one.line <= text.count("\n") + 1 and one.keyword == one.keyword.upper() for one in read)
    assert [one.line for one in read] == sorted({one.line for one in read})
    dockerfile.stages(read)
    for one in read:
        assert one.shell is not None and one.flags is not None and (one.trigger is None or one.keyword == "ONBUILD")


# --- definition files -------------------------------------------------------------------------

DEFINITION = """\
# made by hand
Bootstrap: library
From: Lab/Alpine:3.9A  # the base
Stage: one

%setup
    mkdir x
%files
    a /b
%files from two
    c
%labels
    Author Ann, who likes bootstrap: lines
%environment
    # FOO=1
    export A="b c"
%post
    ./bootstrap.sh

    echo "from: y"
    pip install x
%runscript
    cd /x
    exec a "$@"
%test
    true

bootstrap: docker
From: debian:12
%post
    pip install x
%help
    hello
"""


def test_a_definition_gives_its_stages_in_order() -> None:
    one, two = definition.read(DEFINITION, name="a.def").stages
    assert (one.bootstrap, one.base, one.line, one.name) == ("library", "Lab/Alpine:3.9A", 3, "one")
    assert one.labels == {"Author": "Ann, who likes bootstrap: lines"}
    assert one.environment == {"A": "b c"}
    assert [(some.source, some.target, some.stage) for some in one.files] == [("a", "/b", None), ("c", "c", "two")]
    assert (one.runscript, one.test) == (("cd /x", 'exec a "$@"'), ("true",))
    assert (two.bootstrap, two.base, two.runscript) == ("docker", "debian:12", ())


def test_the_lines_of_post_have_the_numbers_of_the_file() -> None:
    lines = DEFINITION.splitlines()
    one, two = definition.read(DEFINITION, name="a.def").stages
    assert [line.text for line in one.post] == ["./bootstrap.sh", 'echo "from: y"', "pip install x"]
    for line in (*one.post, *two.post):
        assert lines[line.number - 1].strip() == line.text
    assert one.script.split("\n")[20] == "pip install x"
    assert two.post[0].number == 31


def test_a_file_without_bootstrap_is_no_definition() -> None:
    with pytest.raises(InvalidInput, match=r"a\.def is no definition file: it has no Bootstrap line"):
        definition.read("%post\n  true\n", name="a.def")


def test_a_definition_of_too_many_lines_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 10002 lines; at most 10000 are read"):
        definition.read("Bootstrap: docker\n" + "\n" * 10000, name="a.def")


def test_what_spython_raises_is_an_error_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SingularityParser, "parse", lambda _: bot.exit("the shelf is full"))
    with pytest.raises(InvalidInput, match=r"a\.def cannot be read as a definition file: .*the shelf is full"):
        definition.read("Bootstrap: docker\n", name="a.def")


def test_what_spython_says_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()  # spython keeps the streams of the moment when it was imported
    monkeypatch.setattr(bot, "errorStream", said)
    monkeypatch.setattr(bot, "outputStream", said)
    definition.read(DEFINITION, name="a.def")
    assert said.getvalue() == ""


@settings(max_examples=200, deadline=None)
@given(
    st.text() | st.lists(st.sampled_from([*DEFINITION.splitlines(), "%", "%x", "#", "Stage:", "From:"])).map("\n".join)
)
def test_no_text_is_too_odd_for_a_definition(text: str) -> None:
    try:
        found = definition.read("Bootstrap: docker\n" + text, name="a.def")
    except InvalidInput:
        return
    for stage in found.stages:
        assert [line.number for line in stage.post] == sorted({line.number for line in stage.post})


# --- notebooks --------------------------------------------------------------------------------


def written(*sources: str, kind: str = "code", **metadata: object) -> str:
    """A notebook's text as Jupyter writes it."""
    cells = [{"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)} for source in sources]
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def test_a_notebook_names_its_kernel_and_python() -> None:
    text = written(
        "x",
        kernelspec={"name": "python3", "language": "python"},
        language_info={"name": "python", "version": "3.10.1"},
    )
    found = notebook.read(text, name="a.ipynb")
    assert (found.language, found.kernel, found.python_version) == ("python", "python3", "3.10.1")


def test_the_version_of_another_language_is_no_python_version() -> None:
    found = notebook.read(written("x", language_info={"name": "R", "version": "4.3.1"}), name="a.ipynb")
    assert (found.language, found.python_version) == ("r", None)


def test_cells_know_their_lines_in_the_file() -> None:
    text = written("a = 1\nb = 2\n", "c = 3\nd = 4")
    found = notebook.read(text, name="a.ipynb")
    assert [cell.number for cell in found.cells] == [1, 2]
    assert '"d = 4"' in text.split("\n")[found.cells[1].line_of(2) - 1]


def test_cells_of_one_line_json_have_a_line_all_the_same() -> None:
    text = json.dumps(json.loads(written("a\nb")))
    (cell,) = notebook.read(text, name="a.ipynb").cells
    assert (cell.line_of(2), cell.exact) == (1, False)


def test_magics_and_shell_are_told_from_python() -> None:
    text = written(
        "%matplotlib inline\n%pip install x\nif 1:\n    !wget y \\\n z\nq = 7 % 2\nq != 3\n?q\nq?\nw = !ls\n"
    )
    (cell,) = notebook.read(text, name="a.ipynb").cells
    compile(cell.python, "cell", "exec")
    assert cell.python.split("\n")[5:7] == ["q = 7 % 2", "q != 3"]
    assert cell.shell.split("\n")[:5] == ["", "pip install x", "", "wget y \\", " z"]
    assert cell.shell.split("\n")[9] == "ls"


@pytest.mark.parametrize(
    ("source", "python", "shell"),
    [
        ("%%bash\nwget x", "", "\nwget x"),
        ("%%capture out\nx = 1", "pass\nx = 1", "\n"),
        ("%%writefile a.py\nimport x", "", ""),
    ],
)
def test_a_cell_magic_says_what_the_cell_is(source: str, python: str, shell: str) -> None:
    (cell,) = notebook.read(written(source), name="a.ipynb").cells
    assert (cell.python, cell.shell) == (python, shell)


def test_the_cells_of_format_3_are_read() -> None:
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"]}]}], "nbformat": 3}
    assert [cell.source for cell in notebook.read(json.dumps(old), name="a.ipynb").cells] == ["x = 1"]


def test_what_is_no_json_is_no_notebook() -> None:
    with pytest.raises(InvalidInput, match=r"a\.ipynb:2: not a notebook: it is not JSON"):
        notebook.read("{\n,", name="a.ipynb")
    with pytest.raises(InvalidInput, match="not JSON"):
        notebook.read("[" * 100_000, name="a.ipynb")


def test_json_without_cells_is_no_notebook() -> None:
    with pytest.raises(InvalidInput, match=r"a\.ipynb: not a notebook: it has no list of cells"):
        notebook.read("[1]", name="a.ipynb")


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)
)


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON | st.fixed_dictionaries({"cell_type": st.just("code"), "source": JSON})), JSON)
def test_no_json_is_too_odd_for_a_notebook(cells: list[object], metadata: object) -> None:
    found = notebook.read(json.dumps({"cells": cells, "metadata": metadata}), name="a.ipynb")
    for cell in found.cells:
        assert cell.python is not None and cell.shell is not None and cell.line_of(1) >= 1
