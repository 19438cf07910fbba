"""Credentials in addresses: none in what is written down, none in a message, all of them for their server."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprobox import credentials

secret_words = st.text(st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="/'\"`<>"), min_size=4)


@settings(max_examples=200, deadline=None)
@given(secret_words, st.booleans())
def test_no_password_in_a_url_survives(secret: str, alone: bool) -> None:
    url = f"https://{'' if alone else 'me:'}{secret}x1y2@index.example/simple"
    for text in (credentials.redact(f"cannot fetch {url}, sorry"), credentials.without_credentials(url)):
        assert f"{secret}x1y2" not in text
        assert "index.example/simple" in text or "?" in secret or "#" in secret


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://me:it's@index.example/simple", "https://index.example/simple"),
        ("https://me:a@b@index.example:1/x?token=t#f", "https://index.example:1/x"),
        ("https://index.example/a@b", "https://index.example/a@b"),
        ("https://[::1/x", "https://[::1/x"),
        ("wheels/a@b", "wheels/a@b"),
    ],
)
def test_what_may_be_written_down_of_an_address(url: str, told: str) -> None:
    assert credentials.without_credentials(url) == told


_UNBOUNDED = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s/'\"`<>]+@")
pieces = st.sampled_from(
    ("https://me:pw@h.example/", "git+ssh://tok@h", "a.a.", "x@y", "://", "https://", "https://h/a@b", "a", "")
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(pieces, st.sampled_from(" ='\"(,/@;"))))
def test_what_is_masked_is_what_was_masked_without_a_bound(parts: list[tuple[str, str]]) -> None:
    text = "".join(map("".join, parts))
    assert credentials._USERINFO.sub(r"\g<scheme>***@", text) == _UNBOUNDED.sub(r"\g<scheme>***@", text)


def test_a_password_behind_a_glued_or_endless_scheme_is_masked() -> None:
    for before in ("x" * 200, "_", "1"):
        assert "secret" not in credentials.redact(f"{before}https://me:secret@index.example")


def test_nothing_unbounded_starts_anew_at_every_letter_of_a_long_line() -> None:
    quantifiers = re.findall(r"\]([*+]|\{[0-9,]+\})", credentials._USERINFO.pattern)
    assert quantifiers == ["{0,31}", "+"]  # the second is behind "://", and no slash is in it
    quantifiers = re.findall(r"\]([*+]|\{[0-9,]+\})", credentials._SECRET_QUERY.pattern)
    assert quantifiers == ["*", "{0,200}", "+"]  # the first is behind a "?" or "&", and none is in it
    line = "a.a." * 250_000
    assert credentials.redact(line) == line


def test_secrets_are_masked_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_LAB_PASSWORD", "from-uv")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://me:from%2Dpip@index.example/simple")
    text = "from-uv https://h.example/from-file/x https://h.example/x?token=abcdef&y=1 from-pip"
    assert credentials.redact(text, secrets=["from-file", "x"]) == (
        "*** https://h.example/***/x https://h.example/x?token=***&y=1 ***"
    )


def test_a_scheme_of_any_length_hides_no_password() -> None:
    assert credentials.redact("x" * 200 + "://me:s3cret@h.example").endswith("x://***@h.example")


def test_the_header_shows_user_and_password_decoded() -> None:
    shown = credentials.basic_of("https://me:p%40ss@index.example/simple")
    assert shown == credentials.basic("me", "p@ss")
    assert base64.b64decode((shown or "").removeprefix("Basic ")) == b"me:p@ss"
    assert credentials.basic_of("https://index.example/simple") is None
