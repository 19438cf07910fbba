"""Requirements files as people have them: every entry with file and line, every refusal with a way out."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reprobox.errors import InvalidInput, ReproboxError, Unlockable
from reprobox.model import Digest
from reprobox.resolvers import requirement_checks, requirements
from reprobox.resolvers.requirement_lines import Place, decode, lines
from reprobox.resolvers.requirements import Requirements

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ONE, TWO = "1" * 64, "2" * 64
WHEEL = "lab-1.0-py3-none-any.whl"

Read = Callable[..., Requirements]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write files into a project and read its requirements.in."""

    def write_and_read(text: str | bytes = "", /, **files: str | bytes) -> Requirements:
        root = tmp_path / "project"
        for name, content in {"requirements.in": text, **files}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return requirements.read(root, PurePosixPath("requirements.in"))

    return write_and_read


def texts(found: Requirements) -> list[str]:
    return [entry.text for entry in found.entries]


# --- what is read -----------------------------------------------------------------------------


def test_an_entry_knows_its_file_and_line(read: Read) -> None:
    found = read(
        "# first\n\nnumpy>=2\n-r more/dev.txt\n", **{"more/dev.txt": "\nRequests[socks] ; python_version>'3'\n"}
    )
    assert [(str(entry.place), entry.name) for entry in found.entries] == [
        ("requirements.in:3", "numpy"),
        ("more/dev.txt:2", "requests"),
    ]
    assert [str(place) for place in found.places("requests")] == ["more/dev.txt:2"]


def test_every_file_that_is_read_is_an_input_by_its_raw_bytes(read: Read) -> None:
    found = read("-r a.txt\r\n-c b.txt\r\n./" + WHEEL, **{"a.txt": "six\r\n", "b.txt": "six<2", WHEEL: b"zip"})
    assert {file.name: file.digest for file in found.inputs} == {
        "a.txt": Digest.of(b"six\r\n"),
        "b.txt": Digest.of(b"six<2"),
        WHEEL: Digest.of(b"zip"),
        "requirements.in": Digest.of(b"-r a.txt\r\n-c b.txt\r\n./" + WHEEL.encode()),
    }
    assert [file.name for file in found.inputs] == sorted(file.name for file in found.inputs)


def test_included_paths_start_at_the_file_that_includes_them(read: Read) -> None:
    found = read(
        "-r sub/a.txt",
        **{"sub/a.txt": "-rdeeper/b.txt\n--requirement=../c.txt", "sub/deeper/b.txt": "six", "c.txt": "idna"},
    )
    assert texts(found) == ["six", "idna"]


def test_what_a_constraints_file_includes_constrains(read: Read) -> None:
    found = read("six\n-c a.txt", **{"a.txt": "idna<4\n-r b.txt", "b.txt": "six<2"})
    assert found.text == "six\n"
    assert found.constraints == "idna<4\nsix<2\n"


def test_a_file_named_twice_is_read_once(read: Read) -> None:
    assert texts(read("-r a.txt\n-r a.txt", **{"a.txt": "six"})) == ["six"]


def test_hashes_on_continuation_lines_belong_to_their_requirement(read: Read) -> None:
    found = read(f"six==1.16.0 \\\n    --hash=sha256:{ONE} \\\n    --hash sha512:abc --hash sha256:{TWO}\nidna")
    assert found.hashes == {"six": frozenset({ONE, TWO})}
    assert texts(found) == ["six==1.16.0", "idna"]


def test_the_hash_in_a_fragment_counts(read: Read) -> None:
    assert read(f"lab @ https://files.example/{WHEEL}#sha256={ONE}").hashes == {"lab": frozenset({ONE})}


def test_options_are_kept_and_handed_to_uv(read: Read) -> None:
    found = read(
        "-i https://index.example/simple\n--extra-index-url=https://more.example/simple\n"
        "-f https://links.example/page.html\n--trusted-host more.example\n--no-index\n--pre\n--prefer-binary\n"
        "--only-binary :all:\n--no-binary :none:\n--require-hashes\nsix"
    )
    assert found.text == (
        "--index-url https://index.example/simple\n--extra-index-url https://more.example/simple\n"
        "--find-links https://links.example/page.html\n--no-index\n--only-binary :all:\nsix\n"
    )
    assert (found.pre, found.prefer_binary, found.trusted_hosts) == (True, True, ["more.example"])
    assert found.indexes == ("https://index.example/simple", "https://more.example/simple")
    assert found.find_links_urls == ("https://links.example/page.html",)


def test_several_options_may_stand_on_one_line(read: Read) -> None:
    found = read("-i https://index.example/simple --extra-index-url https://more.example/simple")
    assert len(found.indexes) == 2


def test_variables_in_the_addresses_of_indexes_stay_as_they_are(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKEN", "hush-hush")
    found = read("six\n--extra-index-url https://me:${LAB_TOKEN}@index.example/simple")
    assert "${LAB_TOKEN}" in found.text
    assert "hush-hush" not in found.text
    assert found.indexes == ("https://index.example/simple",)
    assert {name: str(place) for name, place in found.variables.items()} == {"LAB_TOKEN": "requirements.in:2"}
    assert found.exposed == []


def test_a_password_in_an_index_is_noticed_and_stays_out_of_the_indexes(read: Read) -> None:
    for secret in ("me:hush@index.example/simple", "hush@index.example/simple", "index.example/simple?token=abc"):
        found = read(f"six\n--extra-index-url https://{secret}")
        assert found.indexes == ("https://index.example/simple",)
        assert [str(place) for place in found.exposed] == ["requirements.in:2"]
    assert read("-i https://index.example/simple?token=${TOKEN}").exposed == []


def test_a_local_wheel_is_named_by_its_relative_path(read: Read, tmp_path: Path) -> None:
    for text in (f"./wheels/{WHEEL}", f"wheels/{WHEEL}", f"lab @ file:wheels/{WHEEL}", f"lab @ ./wheels/{WHEEL}"):
        (entry,) = read(f"{text} ; python_version > '3'", **{f"wheels/{WHEEL}": b"zip"}).entries
        assert entry.file == PurePosixPath(f"wheels/{WHEEL}")
        assert entry.text == f"lab @ {(tmp_path / 'project' / 'wheels' / WHEEL).as_uri()} ; python_version > '3'"


def test_extras_of_a_local_wheel_are_kept(read: Read) -> None:
    (entry,) = read(f"./{WHEEL}[plot]", **{WHEEL: b"zip"}).entries
    assert entry.text.startswith("lab[plot] @ file:///")


def test_a_wheel_behind_a_url_gets_the_name_that_it_carries(read: Read) -> None:
    assert texts(read(f"https://files.example/a/{WHEEL}")) == [f"lab @ https://files.example/a/{WHEEL}"]


@pytest.mark.parametrize("text", ["-e .", ".", "-e .[plot]", "--editable=file:."])
def test_the_project_itself_may_be_named(read: Read, text: str) -> None:
    found = read(text, **{"pyproject.toml": "[project]\nname='me'"})
    assert str(found.own_project) == "requirements.in:1"
    assert not found.empty


def test_find_links_folders_of_the_project_are_found_beside_the_file_or_at_the_root(read: Read, tmp_path: Path) -> None:
    found = read("-f wheels\n-r sub/a.txt", **{"wheels/x": "", "sub/a.txt": "-f near", "sub/near/x": ""})
    root = tmp_path / "project"
    assert found.find_links == [(root / "wheels").as_uri(), (root / "sub" / "near").as_uri()]
    assert found.find_links_urls == ()


def test_an_index_in_a_folder_of_the_project_is_not_among_the_indexes(read: Read) -> None:
    assert read("--index-url ./simple", **{"simple/x": ""}).indexes == ()


def test_the_order_of_the_lines_does_not_show(read: Read) -> None:
    one, two = read("six\nidna\n-c c.txt", **{"c.txt": "a\nb"}), read("-c c.txt\nidna\n\nsix", **{"c.txt": "b\na"})
    assert (one.text, one.constraints) == (two.text, two.constraints)


def test_constraints_alone_require_nothing(read: Read) -> None:
    assert read("-c c.txt", **{"c.txt": "six<2"}).empty


# --- encodings and lines ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings_and_line_endings_do_not_show(read: Read, mark: bytes, encoding: str, ending: str) -> None:
    found = read(mark + ending.join(["# für alle", "six", "", "idna # ok"]).encode(encoding))
    assert [(entry.text, entry.place.line) for entry in found.entries] == [("six", 2), ("idna", 4)]


@pytest.mark.parametrize(
    "cookie", ["# -*- coding: latin1 -*-", "# vim: set fileencoding=latin-1 :", "#!x\n# coding=latin-1"]
)
def test_a_coding_line_is_obeyed(read: Read, cookie: str) -> None:
    assert texts(read(f"{cookie}\n# für\nsix\n".encode("latin-1"))) == ["six"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20), max_size=8),
    st.sampled_from(["utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_text_survives_every_marked_encoding(rows: list[str], encoding: str) -> None:
    text = "\n".join(rows)
    assert decode(text.encode(encoding), "r.txt") == text


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["six", "idna", "a==1", "# no", " # no", ""]), max_size=3), max_size=6))
def test_joined_lines_keep_the_number_of_their_first_line(rows: list[list[str]]) -> None:
    text = "\n".join(" \\\n".join(part for part in row) for row in rows)
    physical = text.split("\n")
    for number, line in lines(text):
        assert 1 <= number <= len(physical)
        assert "#" not in line
        assert line == line.strip() != ""
        first = physical[number - 1].removesuffix("\\").strip()
        assert line.startswith(first) or not first


def test_a_comment_ends_a_continuation() -> None:
    assert list(lines("a==1 \\\n# note\nb")) == [(1, "a==1"), (3, "b")]
    assert list(lines("a \\")) == [(1, "a")]
    assert list(lines("lab @ https://files.example/x#egg=lab # note")) == [(1, "lab @ https://files.example/x#egg=lab")]


# --- what is refused --------------------------------------------------------------------------

TREE = {"pkg/pyproject.toml": "[project]\nname='p'"}
SHARED: dict[str, str | bytes] = {**TREE, "lab-1.0.tar.xz": b"x", "lab.tar.gz": b"x", "odd.whl": b"x", "folder/x": ""}

REFUSED: list[tuple[str, type[ReproboxError], str, str]] = [
    ("-r gone.txt", InvalidInput, "there is no file gone.txt", "start at the file they are in"),
    ("-r requirements.in", InvalidInput, "in a circle: requirements.in -> requirements.in", "remove one of"),
    ("-r https://h.example/r.txt", Unlockable, "a requirements file from the network can change", "download it"),
    ("-r ../r.txt", Unlockable, "../r.txt lies outside the project", "copy what is needed"),
    ("--extra-index six", InvalidInput, "the option --extra-index has no meaning here", "--extra-index-url?"),
    ("--use-feature=fast-deps", InvalidInput, "the option --use-feature has no meaning here", "not ignored"),
    ("--hash=sha256:abc", InvalidInput, "the option --hash has no meaning here", ""),
    ("-r", InvalidInput, "--requirement needs a value", "--requirement VALUE"),
    ("--pre=yes", InvalidInput, "--pre takes no value", "write --pre alone"),
    ("-f 'wheels", InvalidInput, "No closing quotation", "close the quotation mark"),
    ("six --pre", InvalidInput, "--pre cannot stand behind a requirement", "a line of its own"),
    ("six --hash=sha256:abc", InvalidInput, "not a sha256: sha256:abc", "64 hex digits"),
    ("six --hash=sha512:abc", InvalidInput, "hashes of the kind sha512 only", "--hash=sha256:"),
    ("numpy=1.26", InvalidInput, "not a requirement: numpy=1.26", "write numpy==1.26"),
    ("numpy>>1", InvalidInput, "not a requirement: numpy>>1", "a path starts with ./"),
    ("six==${VERSION}", Unlockable, "a requirement that depends on a variable", "write the value"),
    ("--no-binary six", Unlockable, "--no-binary six asks to build from source", "build a wheel"),
    ("-e git+https://h.example/a.git@main#egg=a", Unlockable, "names a branch or tag", "released version"),
    ("a @ git+https://h.example/a.git@v1 ; python_version>'3'", Unlockable, "names a branch or tag", "one commit"),
    (
        f"a @ git+https://h.example/a.git@{COMMIT}",
        Unlockable,
        "only a file with a sha256 is built from source",
        "pip wheel",
    ),
    (
        f"git+ssh://git@h.example/a.git@{COMMIT}#egg=a",
        Unlockable,
        "only a file with a sha256 is built from source",
        "pip wheel",
    ),
    ("a @ https://me:hush@h.example/a-1-py3-none-any.whl", Unlockable, "holds credentials", "~/.netrc"),
    ("a @ https://h.example/a-1-py3-none-any.whl?token=hush", Unlockable, "holds credentials", "~/.netrc"),
    (
        "a @ https://h.example/archive/main.zip",
        Unlockable,
        "has neither a wheel nor an sdist behind its URL",
        "URL of a wheel",
    ),
    ("a @ ftp://h.example/a-1-py3-none-any.whl", Unlockable, "cannot fetch a from ftp://", "https URL"),
    ("https://[h.example/a-1-py3-none-any.whl", InvalidInput, "not a URL: https://[h.example", "host's name"),
    ("a @ https://[h.example/a-1-py3-none-any.whl", InvalidInput, "not a URL: https://[h.example", "host's name"),
    ("-i https://me:hush@[h.example/simple", InvalidInput, "not a URL: https://***@[h.example", "host's name"),
    ("https://h.example/odd.whl", InvalidInput, "not the name of a wheel: odd.whl", "keep the name"),
    ("numpy @ file:///tmp/build/80754af9/numpy_1634", Unlockable, "lies outside the project", "numpy==VERSION"),
    (
        "numpy @ file:///croot/numpy/work/dist/numpy-1.26.4-cp311-cp311-linux_x86_64.whl",
        Unlockable,
        "outside",
        "numpy==",
    ),
    ("../other", Unlockable, "../other lies outside the project", "build a wheel of it"),
    ("/opt/lab-1.0-py3-none-any.whl", Unlockable, "lies outside the project", "by a relative path"),
    ("./gone-1.0-py3-none-any.whl", InvalidInput, "there is no ./gone-1.0-py3-none-any.whl", "folder of reprobox.yaml"),
    ("./lab.tar.gz", InvalidInput, "not the name of an sdist: lab.tar.gz", "keep the name"),
    ("./odd.whl", InvalidInput, "not the name of a wheel: odd.whl", "keep the name"),
    ("./lab-1.0.tar.xz", Unlockable, "is neither a wheel nor an sdist", "pip wheel --no-deps ./lab-1.0.tar.xz"),
    ("./pkg", Unlockable, "./pkg is a source tree", "build a wheel"),
    ("-e ./pkg", Unlockable, "./pkg is a source tree", "build a wheel"),
    ("-e .", InvalidInput, ". is no Python project", "in the image anyway"),
    ("-c pins.txt", InvalidInput, "pins.txt:1: a constraint cannot be a path", "a name and a version"),
    ("-f gone", InvalidInput, "there is no folder gone", "a folder of wheels"),
    ("-f /opt/wheels", Unlockable, "/opt/wheels lies outside the project", "uv's or pip's configuration"),
    ("-i file:///srv/simple", Unlockable, "lies outside the project", ""),
]


@pytest.mark.parametrize(("line", "kind", "message", "hint"), REFUSED, ids=[row[0][:40] for row in REFUSED])
def test_what_cannot_be_locked_is_refused_with_its_place(
    read: Read, line: str, kind: type[ReproboxError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        read(f"six\n{line}\n", **SHARED, **{"pins.txt": "./pkg"})
    assert message in caught.value.message
    assert "requirements.in:2" in caught.value.message or "pins.txt:1" in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "hush" not in caught.value.message


REFUSED_FILES: list[tuple[bytes, str, str]] = [
    (b"six\n# f\xfcr\n", "requirements.in:2: not utf-8: byte 0xfc", "coding: latin-1"),
    (b"# coding: undefined\nsix", "not undefined, which its coding line names", "UTF-8"),
    (b"# coding: klingon\nsix", "no such encoding: klingon, which its coding line names", "UTF-8"),
    (codecs.BOM_UTF16_LE + b"s\0i", "not utf-16-le, which its byte order mark names", "UTF-8"),
    ("six\n".encode("utf-16-le"), "it holds NUL bytes", "UTF-8"),
]


@pytest.mark.parametrize(("data", "message", "hint"), REFUSED_FILES)
def test_a_file_that_is_not_text_is_refused(read: Read, data: bytes, message: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(data)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file gone\.in"):
        requirements.read(tmp_path, PurePosixPath("gone.in"))


def test_files_that_include_each_other_are_a_circle(read: Read) -> None:
    with pytest.raises(InvalidInput, match=r"b.txt:1: .*circle: requirements.in -> a.txt -> b.txt -> a.txt"):
        read("-r a.txt", **{"a.txt": "-r b.txt", "b.txt": "-r a.txt"})


def test_a_link_that_leads_out_of_the_project_is_outside(read: Read, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("six")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(Unlockable, match=r"link\.txt lies outside the project"):
        read("-r link.txt")


@settings(max_examples=300, deadline=None)
@given(st.from_regex(requirement_checks._SIMPLE, fullmatch=True))
def test_what_is_taken_for_a_simple_requirement_is_one_of_that_name(text: str) -> None:
    assert (canonicalize_name(Requirement(text).name), Requirement(text).url) == requirement_checks.parse(
        text, Place(file="requirements.in", line=1)
    )
