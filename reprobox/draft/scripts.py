"""Python source -> what it imports and which literal paths it writes, by its syntax tree; nothing is run. Pure."""

from __future__ import annotations

import ast
import posixpath
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from reprobox.draft.facts import Fact, Place, Script

_WRITING = re.compile(r"[wxa]")
_FIRST = frozenset(
    {"save", "savez", "savez_compressed", "savetxt", "savefig", "imsave", "imwrite", "write_image", "write_html",
     "to_csv", "to_excel", "to_feather", "to_hdf", "to_json", "to_netcdf", "to_parquet", "to_pickle", "to_file",
     "save_model", "save_weights", "savemat"}
)  # fmt: skip
"""Functions and methods whose first argument is the path that they write."""
_SECOND = frozenset({("torch", "save"), ("joblib", "dump")})
"""Functions whose second argument is the path."""
_METHODS = frozenset({"write_text", "write_bytes"})
"""Methods of a path that write it."""
_SUFFIXES = {"save": ".npy", "savez": ".npz", "savez_compressed": ".npz"}
"""What numpy appends where a path has no suffix of that kind."""
_PATHS = frozenset({"Path", "pathlib.Path", "PurePath", "os.path.join", "path.join", "str", "os.fspath"})
"""What puts paths together."""
MOST_LINES = 20_000


def parse(source: str) -> ast.Module | tuple[int, str]:
    """The syntax tree of Python source, or the line and the reason why there is none."""
    if source.count("\n") > MOST_LINES:
        return 1, f"has more than {MOST_LINES} lines"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in somebody else's string
            return ast.parse(source)
    except SyntaxError as error:
        return error.lineno or 1, f"is not Python 3 as this Python reads it ({error.msg})"
    except (ValueError, RecursionError, MemoryError):
        return 1, "is nested too deeply"


def read(path: str, tree: ast.Module, local: frozenset[str]) -> Script:
    """What a script says. ``local`` are the modules that lie in the folder and come from no index."""
    nodes = list(ast.walk(tree))
    calls = sorted((node for node in nodes if isinstance(node, ast.Call)), key=lambda call: call.lineno)
    seeds = [seed for call in calls if (seed := _seed(call)) is not None]
    return Script(
        path=path,
        main=any(isinstance(node, ast.If) and _is_main(node.test) for node in tree.body),
        imports=tuple(imports(path, tree, local)),
        outputs=tuple(_outputs(path, calls, _Constants(nodes))),
        seed=seeds[0] if seeds else None,
    )


def imports(path: str, tree: ast.Module, local: frozenset[str]) -> Iterator[Fact]:
    """The modules from outside that a tree imports, by their dotted names; a try's own fallbacks are among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            shared = node.module in {"google", "google.cloud"}
            names = [f"{node.module}.{alias.name}" for alias in node.names] if shared else [node.module]
        else:
            continue
        for name in names:
            if name.partition(".")[0] not in local:
                yield Fact(value=name, place=Place(file=path, line=node.lineno))


def _is_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.left, ast.Name)
        and test.left.id == "__name__"
        and any(isinstance(each, ast.Constant) and each.value == "__main__" for each in test.comparators)
    )


def _seed(call: ast.Call) -> int | None:
    """The default of ``add_argument("--seed", default=0)``, 0 where it gives none."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"):
        return None
    if not any(isinstance(argument, ast.Constant) and argument.value == "--seed" for argument in call.args):
        return None
    default = next((k.value for k in call.keywords if k.arg == "default"), None)
    value = default.value if isinstance(default, ast.Constant) else 0
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


# --- the paths that are written ---------------------------------------------------------------


def _outputs(path: str, calls: Sequence[ast.Call], constants: _Constants) -> Iterator[Fact]:
    """The paths that calls write; in a folder that the script makes itself, all that it names; else that folder."""
    made = {folder for call in calls if (folder := constants.normal(_made(call, constants)))}
    found: dict[str, int] = {}
    for call in calls:
        arguments = (constants.normal(constants.path(argument)) for argument in call.args)
        inside = [each for each in arguments if each and made & set(map(str, PurePosixPath(each).parents))]
        written = constants.normal(_written(call, constants))
        for each in [written, *inside]:
            if each and each not in made:
                found.setdefault(each, call.lineno)
    for call in calls:
        folder = constants.normal(_made(call, constants))
        if folder and not any(folder in map(str, PurePosixPath(each).parents) for each in [*found, *made]):
            found.setdefault(folder, call.lineno)
    for each, line in sorted(found.items(), key=lambda item: (item[1], item[0])):
        yield Fact(value=each, place=Place(file=path, line=line))


def _made(call: ast.Call, constants: _Constants) -> str | None:
    """The folder that a call makes."""
    name = ast.unparse(call.func)
    if name in {"os.mkdir", "os.makedirs"}:
        return constants.path(call.args[0]) if call.args else None
    if isinstance(call.func, ast.Attribute) and call.func.attr == "mkdir":
        return constants.path(call.func.value)
    return None


def _written(call: ast.Call, constants: _Constants) -> str | None:
    """The literal path that a call writes, as it stands there; None for any other call."""
    function = call.func
    if isinstance(function, ast.Name) and function.id == "open":
        place: ast.expr | None = call.args[0] if call.args and _opens(call, 1) else None
        return constants.path(place)
    if not isinstance(function, ast.Attribute):
        return None
    name, owner = function.attr, function.value
    module = owner.id if isinstance(owner, ast.Name) else ""
    place = None
    if name in _METHODS or (name == "open" and _opens(call, 0)):
        place = owner
    elif (module, name) in _SECOND:
        place = call.args[1] if len(call.args) > 1 else None
    elif (name in {"open", "File"} and _opens(call, 1)) or name in _FIRST:
        place = call.args[0] if call.args else None
    path = constants.path(place)
    suffix = _SUFFIXES.get(name, "") if module in {"np", "numpy"} else ""
    if path and not path.endswith(suffix):
        path += suffix
    return path if path and ("/" in path or "." in path) else None


def _opens(call: ast.Call, place: int) -> bool:
    """Whether an ``open`` writes; its mode stands at ``place`` or under its name."""
    mode = next((k.value for k in call.keywords if k.arg == "mode"), None)
    if mode is None and len(call.args) > place:
        mode = call.args[place]
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and bool(_WRITING.match(mode.value))


class _Constants:
    """Names that are assigned once in a file, as literal texts and paths put together."""

    def __init__(self, nodes: list[ast.AST]) -> None:
        self._values: dict[str, ast.expr | None] = {}
        for node in nodes:
            targets: list[ast.expr] = []
            value: ast.expr | None = None
            if isinstance(node, ast.Assign):
                targets, value = node.targets, node.value
            elif isinstance(node, ast.AnnAssign):
                targets, value = [node.target], node.value
            elif isinstance(node, ast.arg):
                self._values[node.arg] = None
            elif isinstance(node, ast.AugAssign | ast.For | ast.NamedExpr | ast.comprehension):
                targets = [node.target]
            elif isinstance(node, ast.withitem) and node.optional_vars:
                targets = [node.optional_vars]
            for target in targets:
                for each in ast.walk(target):
                    if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                        known = each.id in self._values
                        self._values[each.id] = None if known or each is not target else value

    def path(self, node: ast.expr | None, depth: int = 0) -> str | None:
        """The text of an expression made of literals, ``Path``, ``/`` and ``os.path.join``; None for any other."""
        if depth > 20:
            return None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.Name):
            return self.path(self._values.get(node.id), depth + 1)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return self._joined([node.left, node.right], depth)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _PATHS and node.args and not node.keywords:
            return self._joined(node.args, depth)
        return None

    def _joined(self, nodes: list[ast.expr], depth: int) -> str | None:
        parts = [self.path(node, depth + 1) for node in nodes]
        return posixpath.join(*(part for part in parts if part is not None)) if None not in parts else None

    @staticmethod
    def normal(path: str | None) -> str | None:
        """A path that reprobox.yaml can name as an output, in normal form; None for any other."""
        if not path or not path.isprintable() or "://" in path or re.search(r"[*?\\%{}]", path):
            return None
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or pure.parts[0].startswith("~"):
            return None
        return str(pure)
