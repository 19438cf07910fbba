"""Locked distribution packages -> their .deb files, from the cache or a mirror, each by its hash."""

from __future__ import annotations

import itertools
import shlex
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from reprobox import cache, proc
from reprobox.console import Console
from reprobox.credentials import basic_of, without_credentials
from reprobox.errors import ProgramMissing, ResolutionFailed
from reprobox.model import SystemPackage
from reprobox.resolvers.debian import distribution_named, mirror, security_mirror
from reprobox.web import Patience, Web, WebFailed

THREADS = 8
"""Downloads at a time."""

_SECURITY = "pool/updates/"
"""How the paths of Debian's security archive begin, and none of the main archive's."""


def fetch(
    packages: Sequence[SystemPackage], *, distribution: str, suite: str, snapshot: str, console: Console
) -> tuple[Path, ...]:
    """The .deb files, in the packages' order.

    ``snapshot`` is the time of the index that named them, for the reader of an error. Raises HashMismatch for a
    changed file, ResolutionFailed for one that cannot be had.
    """
    with console.step(f"Fetching {len(packages)} packages of {distribution} {suite}") as step:
        files = [cache.get(package.digest) for package in packages]
        missing = [index for index, file in enumerate(files) if file is None]
        if missing:
            download = _Download(distribution=distribution, suite=suite, snapshot=snapshot)
            with ThreadPoolExecutor(THREADS) as threads:
                jobs = [threads.submit(download, packages[index]) for index in missing]
                try:
                    for done, (index, job) in enumerate(zip(missing, jobs, strict=True), 1):
                        files[index] = job.result()
                        there = len(packages) - len(missing) + done
                        step.advance(there, len(packages), unit="packages", what=packages[index].name)
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        return tuple(file for file in files if file is not None)


class _Download:
    """One package from its mirror into the cache; used by several threads."""

    def __init__(self, *, distribution: str, suite: str, snapshot: str) -> None:
        self._distribution, self._suite, self._snapshot = distribution, suite, snapshot
        self._variable = distribution_named(distribution).variable
        self._web = Web(plain=True, patience=Patience(), proxies=_apt_proxies())
        self._mirrors: dict[bool, str] = {}

    def __call__(self, package: SystemPackage) -> Path:
        what = f"{package.name} {package.version} of {self._distribution} {self._suite}"
        place = self._mirror(package)
        url = f"{without_credentials(place)}/{urllib.parse.quote(package.file, safe='/+~:@_-.')}"
        for attempt in itertools.count(1):
            try:
                with self._web.request(url, _credentials(place)) as answer:
                    if answer.status == 200:
                        return cache.put(answer.chunks(), expected=package.digest, what=what)[1]
                    if answer.status in (404, 410):
                        raise ResolutionFailed(
                            f"{without_credentials(place)} does not have {what} (HTTP {answer.status})",
                            hint=self._where(),
                        )
                    raise ResolutionFailed(
                        f"{without_credentials(place)} failed to give {what} (HTTP {answer.status})",
                        hint=f"try again later, or name another mirror in {self._variable}",
                    )
            except WebFailed as error:
                if attempt == self._web.patience.tries:
                    raise ResolutionFailed(
                        f"{what} cannot be fetched from {without_credentials(place)}: {error.reason}",
                        hint=f"check the network, or name another mirror in {self._variable}",
                    ) from None
                self._web.patience.wait(attempt - 1)
        raise AssertionError("counting does not end")

    def _mirror(self, package: SystemPackage) -> str:
        security = package.file.startswith(_SECURITY)
        if security not in self._mirrors:
            find = security_mirror if security else mirror
            self._mirrors[security] = find(self._distribution, self._suite)
        return self._mirrors[security]

    def _where(self) -> str:
        then = f"of {self._snapshot}, when the lock was made" if self._snapshot else "of the time of the lock"
        return f"mirrors drop old versions: name a snapshot archive {then}, in {self._variable}"


def _credentials(place: str) -> dict[str, str]:
    own = basic_of(place)
    return {"Authorization": own} if own else {}


def _apt_proxies() -> dict[str, str]:
    """apt's own proxies, for a machine that names them there and not in the environment."""
    try:
        said = proc.run(
            ["apt-config", "shell", "http", "Acquire::http::Proxy", "https", "Acquire::https::Proxy"], check=False
        ).text
    except ProgramMissing:
        return {}
    words = dict(line.partition("=")[::2] for line in said.splitlines())
    return {
        scheme: proxy for scheme, word in words.items() if (proxy := "".join(shlex.split(word))) not in ("", "DIRECT")
    }
