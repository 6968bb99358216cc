"""Lints that no library has: source files stay under 400 lines, no module has a state that can be changed, and no test
reaches into a private name.

Run by ``make lint``. A private name is one that starts with an underscore and belongs to ``limbeck``: imported, read
off a module, a class or an object of ours, or named in a string for ``monkeypatch``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = 400
FOREIGN = frozenset({
    "_asdict", "_backward_hooks", "_exit", "_fields", "_forward_hooks", "_forward_pre_hooks", "_foreach_add_",
    "_optimizer", "_replace", "_subclasses", "_version",
})  # fmt: skip
"""Private names of others: Python's, torch's, and those of the Adversarial Robustness Toolbox."""


def long_files() -> Iterator[str]:
    """Source files of more than 400 lines."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        count = len(path.read_text().splitlines())
        if count > LINES:
            yield f"{path.relative_to(ROOT)}: {count} lines, {LINES} at most; split it by noun"


def changeable_state(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of what a module holds and anybody could change: dicts, lists and sets, and names that are rebound.

    >>> list(changeable_state("A = {}\\nB = frozenset({1})\\nC: list[int] = [1]\\n__all__ = ['A']"))
    [(1, 'A'), (3, 'C')]
    """
    displays = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
    calls = {"dict", "list", "set", "defaultdict", "deque", "OrderedDict", "Counter"}
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            name = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            called = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
            if name != "__all__" and (isinstance(node.value, displays) or called.split(".")[-1] in calls):
                yield node.lineno, name
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Global):
            yield from ((inner.lineno, name) for name in inner.names)


def changeable_modules() -> Iterator[str]:
    """Modules with a state that can be changed."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for line, name in changeable_state(path.read_text()):
            where = f"{path.relative_to(ROOT)}:{line}"
            yield f"{where}: {name} can be changed; make it a MappingProxyType, tuple or frozenset, or a registry"


def private_names() -> Iterator[str]:
    """Places where a test reaches into a private name."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for name in _private(node):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name} is private; make a seam for it"


def _private(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("limbeck"):
        yield from (alias.name for alias in node.names if re.match("_[^_]", alias.name))
    if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and node.attr not in FOREIGN:
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        torchs = ast.unparse(node.value).startswith("torch")
        if not own and not torchs:
            yield node.attr
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from re.findall(r"^limbeck\.[\w.]*?\.(_[^_]\w*)", node.value)
    patched = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
    if patched and len(node.args) == 3 and isinstance(node.args[1], ast.Constant):
        name = str(node.args[1].value)
        if re.match("_[^_]", name) and name not in FOREIGN:
            yield name


def main() -> int:
    """Print what is wrong; the exit status says whether anything is."""
    found = [*long_files(), *changeable_modules(), *private_names()]
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
