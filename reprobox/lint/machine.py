"""Python code -> what it takes from the machine it was written on: paths that exist there alone, and chance."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from reprobox.lint.code import Code, call_attribute, first_argument, is_constant, short, text_of
from reprobox.lint.findings import Finding
from reprobox.model import HOME_FOLDER, WORK_FOLDER

_HOST_PATH = re.compile(
    r"/(?:home|Users|mnt|media|scratch|Volumes|gpfs|lustre|nfs|root)/[^\s*?\[\]{}()|^$<>\\]+|[A-Z]:[\\/](?!/)[^\n*?|<>\"]+"
)
_READS = re.compile(
    r"open|io\.open|numpy\.(?:load|loadtxt|genfromtxt|fromfile)|pandas\.read_\w+|torch\.load|joblib\.load|h5py\.File"
    r"|imageio\.imread|PIL\.Image\.open"
)
_OPENS = frozenset({"open", "io.open", "h5py.File"})
_GLOBAL_CHANCE = re.compile(
    r"random\.(?:betavariate|choices?|gauss|getrandbits|normalvariate|randbytes|randint|random|randrange|sample|shuffle"
    r"|uniform)"
    r"|numpy\.random\.(?:choice|normal|permutation|rand|randint|randn|random|random_sample|shuffle|standard_normal"
    r"|uniform)"
)
_NEW_CHANCE = re.compile(r"numpy\.random\.(?:default_rng|RandomState|SeedSequence|PCG64|MT19937|Philox)|random\.Random")


# --- a host's paths ---------------------------------------------------------------------------


def host_paths(code: Code) -> Iterator[Finding]:
    """Absolute paths that exist on one machine only, in text that is no documentation."""
    passed_over = _passed_over(code)
    for node, line in code.nodes:
        text = node.value if isinstance(node, ast.Constant) and id(node) not in passed_over else None
        if isinstance(text, str) and _is_host_path(text):
            yield Finding(
                rule="host-path",
                file=str(code.path),
                line=line,
                what=f'"{short(text)}" is a path of one machine',
                todo="keep the file in the project, name it relative to it, and list it in `smoke.inputs`",
            )
    yield from _read_from_tmp(code)


def _is_host_path(text: str) -> bool:
    if len(text) > 300 or not _HOST_PATH.fullmatch(text):
        return False
    return not any(text == str(own) or text.startswith(f"{own}/") for own in (HOME_FOLDER, WORK_FOLDER))


def _passed_over(code: Code) -> set[int]:
    """Texts that stand alone (docstrings), and those inside an f-string that are not its beginning."""
    found: set[int] = set()
    for node, _ in code.nodes:
        if isinstance(node, ast.Expr):
            found.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            found |= {id(value) for value in node.values[1:]}
    return found


def _read_from_tmp(code: Code) -> Iterator[Finding]:
    """Files of /tmp that are read, and named nowhere else in this file (as they would be where it writes them)."""
    texts = Counter(node.value for node, _ in code.nodes if isinstance(node, ast.Constant))
    for call, name, line in code.calls():
        text = text_of(first_argument(call))
        mode = text_of(call.args[1]) if len(call.args) > 1 else "r"
        mode = next((text_of(one.value) for one in call.keywords if one.arg == "mode"), mode)
        reads = _READS.fullmatch(name) and (name not in _OPENS or mode in {"r", "rb", "rt"})
        if text and text.startswith("/tmp/") and reads and texts[text] == 1:  # noqa: S108
            yield Finding(
                rule="host-path",
                file=str(code.path),
                line=line,
                what=f'"{short(text)}" is read, and a run begins with an empty /tmp',
                todo="keep the file in the project, and list it in `smoke.inputs`",
            )


# --- chance -----------------------------------------------------------------------------------


def chance(code: Code, *, seeded: bool) -> Iterator[Finding]:
    """Random numbers without a seed. ``seeded``: something that the experiment runs seeds the global generators."""
    told = False
    for call, name, line in code.calls():
        if not name or not code.imported(name):
            continue
        bare = not call.args and not call.keywords
        if _NEW_CHANCE.fullmatch(name) and (bare or (len(call.args) == 1 and is_constant(call.args[0], None))):
            yield Finding(
                rule="unseeded-random",
                file=str(code.path),
                line=line,
                what=f"{name}() takes its seed from the machine",
                todo="give it a seed",
            )
        elif _GLOBAL_CHANCE.fullmatch(name) and not seeded and not told:
            told = True
            yield Finding(
                rule="unseeded-random",
                file=str(code.path),
                line=line,
                what=f"{name} is used, and nothing that the command runs sets a seed",
                todo=f"call {name.rpartition('.')[0]}.seed(...) first",
            )


def seeds(code: Code) -> bool:
    """Whether a call here has to do with seeds."""
    return any("seed" in (call_attribute(call) or name).lower() for call, name, _ in code.calls())
