"""Shell text: its commands, and the installs and downloads among them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox.survey import commands, shell
from reprobox.survey.commands import Kind


def words(text: str) -> list[tuple[int, str]]:
    return [(one.line, " ".join(one.words)) for one in shell.split(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a && b; c | d & e", [(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "e")]),
        ("a \\\n  b\nc # d\n", [(1, "a b"), (3, "c")]),
        ("A=1 B='x y' sudo -E -u me env X=1 a", [(1, "a")]),
        ("timeout -k 5 10 nice -n 3 a", [(1, "a")]),
        ("if a; then b; fi", [(1, "a"), (1, "b"), (1, "fi")]),
        ("'a b' \"c \\\" $D\" e\\ f", [(1, 'a b c " $D e f')]),
        ("x=$(a $(b))\nc", [(1, "a $(b)"), (1, "b"), (2, "c")]),
        ("a $(b $(c) d) e", [(1, "a $(b $(c) d) e"), (1, "b $(c) d"), (1, "c")]),
        ("a `b` \"$(c)\"", [(1, "a `b` $(c)"), (1, "b"), (1, "c")]),
        ("bash -ec 'a\nb'", [(1, "bash -ec a\nb"), (1, "a"), (2, "b")]),
        ("a >out 2>&1 <in b 2>/dev/null >> x", [(1, "a b")]),
        ("cat <<'E' > f\na\nE\nb", [(1, "cat"), (4, "b")]),
        ("sh <<-E\n\ta\n\tE\nb", [(1, "sh"), (2, "a"), (4, "b")]),
        ("cat <<E\na", [(1, "cat"), (2, "a")]),
        ("a <<< b", [(1, "a")]),
        ("echo $((1 << 2)) ${x:-a b}", [(1, "echo $((1 << 2)) ${x:-a b}")]),
        ("diff <(a) b", [(1, "diff <(a) b"), (1, "a")]),
    ],
)  # fmt: skip
def test_a_script_falls_into_its_commands(text: str, expected: list[tuple[int, str]]) -> None:
    assert words(text) == expected


def test_a_pipe_is_followed_to_its_last_program() -> None:
    assert [one.into for one in shell.split("curl u | tee x | sudo bash -s; curl v")] == ["bash", "bash", None, None]


@settings(max_examples=400, deadline=None)
@given(st.text() | st.text(alphabet="ab \\\n\t<>|&;()$`'\"{}#-=0E!"))
def test_no_text_is_too_odd_for_a_shell(text: str) -> None:
    found = shell.split(text)
    assert all(one.words and 1 <= one.line <= text.count("\n") + 1 for one in found)
    commands.read(text)


@pytest.mark.parametrize("text", ["$(" * 5000, "`" * 5001, "((" * 5000, "a <<b\n" * 5000, "'" * 5001, "a|" * 5000])
def test_deep_and_long_texts_are_survived(text: str) -> None:
    shell.split(text)


def only(text: str) -> commands.Command:
    (found,) = commands.read(text)
    return found


def test_apt_packages_are_pinned_by_a_version() -> None:
    found = only(
        "apt-get update && DEBIAN_FRONTEND=x apt-get -y -o A=b install --no-install-recommends a b=1.2-3 c=1.*"
    )
    assert (found.kind, found.action) == (Kind.APT, "install")
    assert [(one.name, one.pinned) for one in found.packages] == [("a", False), ("b", True), ("c", False)]
    assert only("apt upgrade -y").action == "upgrade"


@pytest.mark.parametrize(
    "program", ["pip", "pip3.11", "python -m pip", "python3 -I -m pip", "/opt/x/bin/pip", "uv pip"]
)
def test_every_spelling_of_pip_is_known(program: str) -> None:
    assert [one.name for one in only(f"{program} install a").packages] == ["a"]


def test_pip_options_are_told_from_packages() -> None:
    found = only("pip install -q -r r.txt --index-url https://index.example/cu121 -t /x 'a[b]==1.0' -e . -c c.txt $Y")
    assert [one.text for one in found.packages] == ["a[b]==1.0", "."]
    assert (found.files, found.indexes) == (("r.txt",), ("https://index.example/cu121",))


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "name", "pinned"),
    [
        ("a", "a", False),
        ("a>=1", "a", False),
        ("a==1.*", "a", False),
        ("a==1.0", "a", True),
        ("a[x] == 1.0 ; python_version < '4'", "a", True),
        ("a===1.0", "a", True),
        ("a==1,<2", "a", False),
        ("git+https://git.example/a.git", None, False),
        ("git+https://git.example/a.git@main", None, False),
        (f"a @ git+https://git.example/a.git@{COMMIT}", "a", True),
        ("https://files.example/a.whl", None, False),
        (f"https://files.example/a.whl#sha256={'0' * 64}", None, True),
        ("./a", None, True),
        ("dist/a.whl", None, True),
        ("", None, False),
    ],
)
def test_a_requirement_is_pinned_or_not(text: str, name: str | None, pinned: bool) -> None:
    found = commands.requirement(text)
    assert (found.name, found.pinned) == (name, pinned)


def test_conda_packages_channels_and_files_are_read() -> None:
    found = only("mamba install -y -n base -c conda-forge a=1.2 b 'c>=2' conda-forge::d=1=h")
    assert [(one.name, one.pinned) for one in found.packages] == [("a", True), ("b", False), ("c", False), ("d", True)]
    assert found.indexes == ("conda-forge",)
    assert only("conda env create -f environment.yml").files == ("environment.yml",)
    assert commands.read("conda run -n x python a.py && conda activate x") == ()


def test_downloads_name_what_they_fetch() -> None:
    assert only("curl -fsSL -o x https://a.example/x | tar xz").urls == ("https://a.example/x",)
    assert only("wget -q -O - a.example/x | sh").into == "sh"
    assert only("git clone --depth 1 -b v1 https://git.example/x y").urls == ("https://git.example/x",)
    assert commands.read("curl --version; git status; wget") == ()
