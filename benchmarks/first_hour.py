"""The first hour of a new user: small tasks as people bring them, one minute each, nothing but defaults.

``python benchmarks/first_hour.py`` makes the data, runs ``limbeck distill`` on it in a process of its own, and writes
``results/first_hour.json``: the verdict, and the seconds from the command to the first iteration.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import record
import tasks

SECONDS = 60

COLUMNS = (
    "task", "verdict", "learned", "± learned", "random", "± random", "kmeans", "± kmeans", "step size",
    "first iteration", "iterations", "seconds",
)  # fmt: skip


def write_shapes(folder: Path) -> str:
    """450 grey pictures of some 64 x 64 pixels."""
    return str(tasks.folder_of_shapes(folder / "shapes"))


def write_digits(folder: Path) -> str:
    """Digits 3, 5 and 8, unbalanced, 8 x 8."""
    return str(tasks.unbalanced_digits(folder / "digits.npz"))


def write_wine(folder: Path) -> str:
    """A table of 178 rows."""
    return f"{tasks.wine(folder / 'wine.csv')},label=wine"


def write_colour(folder: Path) -> str:
    """300 colour pictures of some 224 x 224 pixels: validation and test have 50 each."""
    return str(tasks.folder_of_shapes(folder / "colour", images=300, size=224, colours=3))


def write_rows(folder: Path) -> str:
    """The rows of digits as series."""
    return f"{tasks.rows_of_digits(folder / 'rows.npz')},kind=series"


TASKS: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("folder of shapes, 64 px", write_shapes),
    ("digits 3, 5, 8 as .npz, 300/100/30", write_digits),
    ("wine as CSV", write_wine),
    ("folder of colour shapes, 224 px, 300 pictures", write_colour),
    ("rows of digits as series", write_rows),
)


def distill(source: str, out: Path, seconds: float) -> dict[str, Any]:
    """One run from the command line: its verdict, and when its first iteration was over."""
    words = [sys.executable, "-W", "ignore", "-m", "limbeck", "distill", source, "--max-time", f"{seconds:g}"]
    begun, first, log = time.monotonic(), None, []
    process = subprocess.Popen([*words, "--out", str(out)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        log.append(line.rstrip())
        if first is None and re.search(r"iteration 1\b", line):
            first = time.monotonic() - begun
    if process.wait() != 0:
        return {"verdict": "error", "last line": log[-1] if log else ""}
    values = json.loads((out / "distilled.json").read_text())
    verdict = values["verdict"]
    return {
        "verdict": verdict["word"],
        **{name: round(verdict[name]["mean"], 2) for name in ("learned", "random", "kmeans")},
        **{f"± {name}": round(verdict[name]["error"], 2) for name in ("learned", "random", "kmeans")},
        "step size": values["config"]["inner"]["lr"],
        "first iteration": None if first is None else round(first, 1),
        "iterations": values["iterations"],
        "seconds": round(time.monotonic() - begun, 1),
        "last line": log[-1],
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--tasks", type=int, nargs="*", default=list(range(len(TASKS))))
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for index in options.tasks:
            title, write = TASKS[index]
            row = {"task": title, **distill(write(Path(name)), Path(name) / f"run{index}", options.seconds)}
            print(json.dumps(row), flush=True)
            rows.append(row)
            record.write(
                "first_hour",
                title="The first hour of a new user",
                order=0.5,
                command=f"python benchmarks/first_hour.py --seconds {options.seconds:g} --tasks "
                + " ".join(map(str, options.tasks)),
                columns=list(COLUMNS),
                rows=[{name: each.get(name) for name in COLUMNS} for each in rows],
                notes=[
                    f"`limbeck distill DATA --max-time {options.seconds:g}`, nothing else named, seed 0; accuracies in "
                    "percent on validation data, beside as many random real images and k-means; seconds from the "
                    "command to the end of the first iteration. GPU: not measured.",
                ],
            )


if __name__ == "__main__":
    main()
