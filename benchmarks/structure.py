"""The structure of the package, and that a change of structure changed nothing else: against an earlier commit.

``python benchmarks/structure.py COMMIT`` counts rooms, layers and what a reader opens to follow one outer iteration,
checks COMMIT out beside this tree, and lets both learn the same sets in turns, on one thread: seconds an iteration, and
whether the tensors of their artefacts are the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import torch
from record import write
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "limbeck"

PATH_OF_AN_ITERATION: dict[str, tuple[str, ...]] = {
    "outer/loop.py": ("OuterLoop.iterate", "OuterLoop._look_back"),
    "outer/step.py": ("outer_step",),
    "outer/learners.py": ("Trainable.sample", "Family.draw"),
    "methods/unrolled.py": ("Unrolled",),
    "engine/adjoint/remat.py": ("Remat", "_join"),
    "engine/kernels.py": (
        "Kernels.init",
        "Kernels.step",
        "Kernels.pull",
        "Kernels.terminal",
        "Kernels._call",
        "Kernels._function",
    ),
    "engine/learner.py": (
        "Learner.inner_loss",
        "Learner._logits",
        "Learner.step",
        "Learner.step_vjp",
        "Learner._reverse_over_forward",
    ),
    "engine/objective.py": ("RealLoss",),
    "outer/optimizer.py": ("clip_and_average", "own_gradient", "OuterOptimizer.step"),
}
"""The files and functions that a reader opens to follow one outer iteration, for learned images and ``Remat``."""

RUNS: dict[str, list[str]] = {
    "mnist-fixed": ["--recipe", "mnist-fixed", "--compile", "off", "--iterations", "100"],
}
"""What both learn."""

ROUNDS = 3


def count_lines() -> int:
    """Lines of ``PATH_OF_AN_ITERATION``, docstrings and comments included."""
    return sum(_lines(SOURCE / file, name) for file, names in PATH_OF_AN_ITERATION.items() for name in names)


def _lines(path: Path, name: str) -> int:
    node: Any = ast.parse(path.read_text())
    for part in name.split("."):
        node = next(child for child in node.body if getattr(child, "name", None) == part)
    return int(node.end_lineno - node.lineno + 1)


def describe_structure() -> list[dict[str, Any]]:
    """A row for each count: what, how many."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["type"] == "layers")
    rooms = sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file())
    loose = sorted(path.stem for path in SOURCE.glob("*.py"))
    longest = max(len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py"))
    return [
        {"what": "rooms", "value": f"{len(rooms)}: {', '.join(rooms)}"},
        {"what": "loose modules", "value": f"{len(loose)}: {', '.join(loose)}"},
        {"what": "layers of the import contract", "value": str(len(layers["layers"]))},
        {"what": "imports that it ignores", "value": str(len(layers.get("ignore_imports", [])))},
        {"what": "exhaustive", "value": str(layers.get("exhaustive", False)).lower()},
        {"what": "lines of the longest source file", "value": str(longest)},
        {"what": "files of an outer iteration", "value": str(len(PATH_OF_AN_ITERATION))},
        {"what": "lines of an outer iteration", "value": str(count_lines())},
    ]


def learn(source: Path, words: list[str], out: Path) -> dict[str, Any]:
    """Learn a set with the sources of a tree; ``distilled.json``."""
    module = "limbeck" if (source / "limbeck" / "__main__.py").is_file() else "limbeck.cli"
    command = [sys.executable, "-m", module, "distill", "mnist", *words, "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", str(out)], env=environment, check=True, capture_output=True)
    summary: dict[str, Any] = json.loads((out / "distilled.json").read_text())
    return summary


def compare(before: Path, name: str, words: list[str], rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds an iteration before and after, taking turns, and whether the artefacts are the same bytes."""
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    for turn in range(rounds):
        for when, source in (("before", before), ("after", ROOT / "src")):
            summary = learn(source, words, folder / f"{name}-{when}-{turn}")
            seconds[when].append(summary["seconds"] / summary["iterations"])
    one, other = (load_file(folder / f"{name}-{when}-0" / "distilled.safetensors") for when in seconds)
    other = {key.removeprefix("training."): value for key, value in other.items()}
    same = one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
    ratios = [after / earlier for earlier, after in zip(seconds["before"], seconds["after"], strict=True)]
    value = f"{min(seconds['before']):.3f} s before, {min(seconds['after']):.3f} s after"
    spread = f" (of each pair {min(ratios):.2f} to {max(ratios):.2f})" if rounds > 1 else ""
    ratio = f"; ratio {statistics.median(ratios):.2f}{spread}"
    return {
        "what": f"{name}, {words[-1]} iterations: an iteration, with its share of validation",
        "value": value + ratio + f"; artefacts {'the same, byte for byte' if same else 'differ'}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what to compare with, such as 1c397ba")
    parser.add_argument("--note", action="append", default=[], help="what else was measured, a line each")
    options = parser.parse_args()
    rows = describe_structure()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(["git", "worktree", "add", "--detach", str(folder / "before"), options.commit], check=True)
        try:
            for run, words in RUNS.items():
                rows.append(compare(folder / "before" / "src", run, words, ROUNDS, folder))
                print(rows[-1])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder / "before")], check=True)
    write(
        "structure",
        title="The structure of the package, and the same sets before and after",
        order=200,
        command=f"python benchmarks/structure.py {options.commit}",
        columns=["what", "value"],
        rows=rows,
        notes=[f"Before: {options.commit}. One thread, eager. GPU: not measured.", *options.note],
        threads=1,
    )


if __name__ == "__main__":
    main()
