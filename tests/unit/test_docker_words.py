"""BuildKit's own words, as it said them, and what they are taken for."""

from __future__ import annotations

import pytest

from reprobox.engines.docker_words import build_failure
from reprobox.errors import BuildFailed, EngineUnavailable, HashMismatch, RegistryFailed, ReproboxError

A, B = "a" * 64, "b" * 64
REFERENCE = f"registry.example/lab/base@sha256:{A}"
SOLVE = f"ERROR: failed to build: failed to solve: {REFERENCE}: failed to resolve source metadata for {REFERENCE}: "
STATUS = f"unexpected status from HEAD request to https://registry.example/v2/lab/base/manifests/sha256:{A}: "
DIAL = 'failed to do request: Head "https://registry.example/v2/": '
COMMIT = f'failed commit on ref "manifest-sha256:{A}": commit failed: '

UV = f"""\
#15 2.101   x Failed to download `six==1.16.0`
#15 2.101   ╰─▶ Hash mismatch for `six==1.16.0`
#15 2.101
#15 2.101       Expected:
#15 2.101         sha256:{A}
#15 2.101
#15 2.101       Computed:
#15 2.101         sha256:{B}
#15 ERROR: process "/bin/sh -c ..." did not complete successfully: exit code: 1
"""
PIP = f"""\
#9 1.2 ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package
#9 1.2     uv==0.13.9 from https://index.example/uv-0.13.9.whl (from -r /uv/requirements.txt (line 1)):
#9 1.2         Expected sha256 {A}
#9 1.2              Got        {B}
#9 1.2
"""


def _failure(text: str) -> ReproboxError:
    return build_failure(text.splitlines(), where="unix:///run/docker.sock", data_root=lambda: "/data/docker")


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (UV, HashMismatch, f"six==1.16.0 is not what the lock names: expected sha256:{A}, got sha256:{B}"),
        (PIP, HashMismatch, f"uv==0.13.9 is not what the lock names: expected {A}, got {B}"),
        (
            "#7 ERROR: write /x: no space left on device",
            BuildFailed,
            "no space is left in its data folder /data/docker",
        ),
        ("#7 0.1 dd: error writing '/x/a': No space left on device", BuildFailed, "/data/docker"),
        ("#5 0.2 exec /bin/sh: exec format error", BuildFailed, "cannot run programs of the image's platform"),
        (
            "ERROR: failed to build: failed to receive status: rpc error: code = Unavailable desc = error reading from "
            "server: EOF",
            EngineUnavailable,
            "at unix:///run/docker.sock went away during the build",
        ),
        (SOLVE + STATUS + "401 Unauthorized", RegistryFailed, f"refuses {REFERENCE} (401 Unauthorized)"),
        (SOLVE + STATUS + "403 Forbidden", RegistryFailed, "(403 Forbidden)"),
        (SOLVE + "pull access denied, repository does not exist", RegistryFailed, "(pull access denied)"),
        (SOLVE + STATUS + "429 Too Many Requests", RegistryFailed, "wants fewer requests (429 Too Many Requests)"),
        (SOLVE + STATUS + "500 Internal Server Error", RegistryFailed, "out of order (500 Internal Server Error)"),
        (SOLVE + f"{REFERENCE}: not found", RegistryFailed, f"registry.example does not have {REFERENCE}"),
        (
            SOLVE + DIAL + "dial tcp: lookup registry.example on 192.0.2.1:53: no such host",
            RegistryFailed,
            "cannot reach registry.example (dial tcp: lookup",
        ),
        (SOLVE + DIAL + "dial tcp 127.0.0.1:1: connect: connection refused", RegistryFailed, "connection refused"),
        (
            SOLVE + DIAL + "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            RegistryFailed,
            "does not trust registry.example",
        ),
        (
            SOLVE + COMMIT + f"unexpected commit digest sha256:{B}, expected sha256:{A}: failed precondition",
            HashMismatch,
            f"registry.example sent other bytes than {REFERENCE} names: expected sha256:{A}, got sha256:{B}",
        ),
        (SOLVE + COMMIT + '"x" failed size validation: 101 != 100: failed precondition', HashMismatch, "other bytes"),
        (SOLVE + "something new", RegistryFailed, "something new"),
        (
            "ERROR: failed to solve: failed to copy: httpReadSeeker: 403 Forbidden",
            RegistryFailed,
            "registry refuses",
        ),
        ("#8 1.0 error: a compiler is missing", BuildFailed, "a compiler is missing"),
    ],
)
def test_each_wording_has_its_meaning_and_its_remedy(words: str, kind: type[ReproboxError], said: str) -> None:
    found = _failure(words)
    assert type(found) is kind
    assert said in found.message
    assert found.hint or "a compiler" in said or "something new" in said


def test_credentials_in_builds_words_stay_unsaid() -> None:
    assert "s3cret" not in _failure("#8 1.0 error: https://me:s3cret@index.example/simple").message


def test_the_excerpt_of_the_dockerfile_is_left_out() -> None:
    told = _failure("Dockerfile:2\n----\n   1 | FROM x\n   2 | >>> RUN no space left on device\n----\nERROR: no\n")
    assert told.message == "Docker could not build the image:\nERROR: no"
