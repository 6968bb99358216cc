"""Run ``limbeck reproduce`` and record its rows:  python benchmarks/accuracy.py NAME[-soft] ...

With --score-only the run under runs/ is scored as it is and not learned again; --no-baselines leaves those out, and
--keep-baselines takes their rows from the last results: they do not depend on what is learned.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from record import RESULTS, write

from limbeck.artefact.distilled import Distilled
from limbeck.evaluation.baselines import baseline_names
from limbeck.studies.recipes import recipe

ASKED = {
    "mnist-fixed": "≥ 93.76",
    "mnist-random": "≥ 85, std ≤ 3",
    "cifar10-fixed": "≥ 54.03",
    "cifar10-random": "≥ 36.79",
}
ORDER = ("mnist-fixed", "mnist-random", "cifar10-fixed", "cifar10-random")
BASELINES = baseline_names()


def main(argv: list[str]) -> None:
    for name in [word for word in argv if not word.startswith("--")]:
        base = name.removesuffix("-soft")
        out = Path("runs") / name
        if "--score-only" in argv:
            words = ["evaluate", str(out), "--n", str(recipe(base).n)]
        else:
            words = [
                "reproduce",
                base,
                "--labels",
                "hard" if name == base else "soft",
                "--out",
                str(out),
                "--overwrite",
            ]
        baselines = () if {"--no-baselines", "--keep-baselines"} & set(argv) else BASELINES
        words += ["--json", "--baselines", *(baselines or ("none",))]
        command = [str(Path(sys.executable).parent / "limbeck"), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        kept = previous_baselines(name) if "--keep-baselines" in argv else []
        record(name, base, json.loads(done.stdout)["rows"], Distilled.load(out), kept)


def previous_baselines(name: str) -> list[dict[str, Any]]:
    """The rows of the baselines in the results that are there."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    return rows[1:]


def record(
    name: str, base: str, rows: list[dict[str, Any]], run: Distilled, kept: Sequence[dict[str, Any]] = ()
) -> None:
    """One results file for one recipe, learned set first."""
    table = []
    for row in rows:
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        learned = row is rows[0]
        seconds = run.info["seconds"] if learned else row["seconds"]
        table.append(
            {
                "row": name if learned else row["row"],
                "paper": recipe(base).paper if learned else None,
                "asked": ASKED[base] if name == base and learned else None,
                "before": f"{row['before']:.2f}",
                "after": f"{row['mean']:.2f}{spread}",
                "worst": f"{row['worst']:.2f}",
                "n": row["n"],
                "step size": "learned" if row["step_size"] is None else row["step_size"],
                "seconds": f"{seconds:.0f}",
            }
        )
    table += kept
    info = run.info
    how = info["execution"]
    soft = " --labels soft" if name != base else ""
    write(
        name,
        title=recipe(base).title + (", learned soft labels" if soft else ""),
        order=10 + ORDER.index(base) + (0.5 if soft else 0),
        command=f"limbeck reproduce {base}{soft} --baselines {' '.join(row['row'] for row in table[1:]) or 'none'}",
        columns=list(table[0]),
        rows=table,
        threads=info["versions"]["threads"],
        notes=[
            f"Seed {run.config.seed}; {info['iterations']} of {run.config.outer.iterations} iterations "
            f"in {info['seconds']:.0f} s with "
            f"{info['versions']['threads']} thread(s), {'compiled' if how['compiled'] else 'eager'}"
            f"{', bfloat16 real batch' if how['bfloat16'] else ''}; kept: iteration {info['validation']['iteration']}, "
            f"validation {info['validation']['accuracy']:.2f} %; {info['rollbacks']} rollbacks.",
            "Seconds: learning for the learned set; drawing, tuning and scoring for a baseline.",
            *(["The baselines were measured before, for the same recipe and seed."] if kept else []),
            f"Paper: {recipe(base).source}. GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
