"""One question to uv, asked per platform: what the lock so far answers stays, the rest is solved anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobox.errors import ReproboxError
from reprobox.model import Platform, PythonVersion
from reprobox.resolvers.pylock import LockedPackage
from reprobox.resolvers.solver import Solver


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """What may move: everything, the packages named, or (by default) nothing that still fits."""

    all: bool = False
    packages: frozenset[str] = frozenset()

    @property
    def nothing(self) -> bool:
        """Whether nothing is asked to move."""
        return not self.all and not self.packages

    @property
    def moving(self) -> frozenset[str]:
        """The packages named, normalised."""
        from packaging.utils import canonicalize_name  # noqa: PLC0415 (slow to import)

        return frozenset(canonicalize_name(name) for name in self.packages)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What uv is asked (its ``arguments``, in the folder ``cwd``), and what the lock ``before`` answered.

    ``first`` is the platform that is solved first; ``explain`` makes an error of uv's words.
    """

    uv: Solver
    arguments: tuple[str, ...]
    cwd: Path
    python: PythonVersion
    first: Platform
    before: tuple[LockedPackage, ...]
    upgrade: Upgrade
    explain: Callable[[str], ReproboxError]

    def solve(self, platform: Platform, others: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The pylock for a platform: as the lock has it, where it has everything; else at the versions of the
        ``others``, the platforms solved already (name, version); else with both as preferences.

        uv's preferences alone would not do: with several indexes they can turn a version away that only the
        second index has for this platform.
        """
        others = list(others)
        held = self._held(platform)
        if held and self.upgrade.nothing:
            resolved = self._at(held, platform)
            if resolved and _versions(resolved).items() <= held.items():
                return resolved
        preferred = {name: version for name, version in held.items() if name not in self.upgrade.moving}
        if others:
            first = self._held(self.first)
            for name, version in others:
                if first.get(name) != version or name not in preferred:
                    preferred[name] = version
            if resolved := self._at(preferred, platform):
                return resolved
        return self.uv.compile(
            [*self.arguments, *([] if others else self._upgrading())],
            python=self.python,
            platform=platform,
            cwd=self.cwd,
            preferences=preferred,
            explain=self.explain,
        )

    def _at(self, versions: Mapping[str, str], platform: Platform) -> dict[str, Any] | None:
        return self.uv.compile_at(
            versions, self.arguments, python=self.python, platform=platform, cwd=self.cwd, explain=self.explain
        )

    def _held(self, platform: Platform) -> dict[str, str]:
        """What the lock so far has from an index, name to version."""
        packages = (package for package in self.before if not package.direct and package.holds_on(platform))
        return {package.name: package.version for package in packages}

    def _upgrading(self) -> list[str]:
        arguments = ["--upgrade"] if self.upgrade.all else []
        for name in sorted(self.upgrade.moving):
            arguments += ["--upgrade-package", name]
        return arguments


def _versions(resolved: Mapping[str, Any]) -> dict[str, str]:
    """What a pylock takes from an index, name to version."""
    direct = ("archive", "directory", "vcs")
    return {
        package["name"]: package["version"]
        for package in resolved.get("packages", [])
        if not any(source in package for source in direct)
    }
