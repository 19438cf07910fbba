"""Which package index is the first one: the machine's own, else the one that uv itself names. No network."""

from __future__ import annotations

import os

import pytest

from reprobox import proc
from reprobox.errors import ResolutionFailed
from reprobox.resolvers import indexes

NOTHING = {"PIP_CONFIG_FILE": os.devnull}


@pytest.mark.parametrize(
    "variable",
    [
        {"UV_DEFAULT_INDEX": "lab=https://index.example/simple"},
        {"UV_INDEX_URL": "https://index.example/simple"},
        {"PIP_INDEX_URL": "https://index.example/simple"},
    ],
)
def test_the_machines_index_goes_first(variable: dict[str, str]) -> None:
    assert indexes.default_index({**NOTHING, **variable}) == "https://index.example/simple"


def test_without_one_it_is_uvs_own_default() -> None:
    assert indexes.default_index(NOTHING).startswith("https://")


def test_a_uv_that_no_longer_says_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Finished(code=0, stdout=b"Usage: uv", stderr=b""))
    with pytest.raises(ResolutionFailed, match="no longer says which index is its default"):
        indexes.default_index(NOTHING)
