"""A config that was found valid is remembered: pydantic, which checks it, costs 0.1 s to import, and a look must not.

The memory is a file per config in the cache of the user, under the digest of its bytes, of reprobox's version and of
the checks themselves; of many the oldest go. It lies there and not in the project, for a project's files may come
from anybody.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from reprobox import __version__, cache
from reprobox.errors import InvalidInput
from reprobox.files import write_whole
from reprobox.model import Digest

_CHECKS = ("config.py", "config_model.py", "config_yaml.py", "model.py")
"""The modules that decide whether a config is valid, and what its values mean."""
MOST = 200
"""How many configs are remembered; each is a KiB or two."""


def recall(data: bytes) -> Any | None:
    """The values of the config with these bytes, as attributes; None where it was not met before."""
    try:
        whole = json.loads(_place(data).read_bytes())
        if whole["digest"] != str(Digest.of_json(whole["config"])):
            return None
        return json.loads(json.dumps(whole["config"]), object_hook=lambda values: SimpleNamespace(**values))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # none yet, or damaged: the config is checked again


def keep(data: bytes, values: Mapping[str, Any]) -> None:
    """Remember the values, plain ones as JSON has them, of a valid config with these bytes."""
    with contextlib.suppress(OSError, InvalidInput):  # what cannot be remembered is checked every time
        place = _place(data)
        place.parent.mkdir(parents=True, exist_ok=True)
        whole = {"config": values, "digest": str(Digest.of_json(values))}
        write_whole(place, json.dumps(whole, sort_keys=True, ensure_ascii=False).encode())
        _sweep(place.parent)


def _sweep(folder: Path) -> None:
    """Forget the oldest beyond MOST: those of configs and versions that are no more are among them."""
    memories = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for memory in memories[MOST:]:
        memory.unlink(missing_ok=True)


def _place(data: bytes) -> Path:
    here = Path(__file__).parent
    checks = [Digest.of_file(here / name).hex for name in _CHECKS]
    return cache.folder() / "configs" / f"{Digest.of_json([Digest.of(data).hex, __version__, *checks]).hex}.json"
