"""Record studies that ``limbeck reproduce`` has run:  python benchmarks/studies.py NAME ...

With --run they are run first. The rows are those that the command prints.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import write

from limbeck.artefact.distilled import Distilled
from limbeck.common.files import read_json
from limbeck.studies import Study, study, study_names
from limbeck.studies.pooled import TARGETS

ASKED: dict[str, dict[str, str]] = {
    "gtn-mnist": {"generator": "≥ 97.5 on two CPU cores within 60 minutes (GPU: 98.9)"},
    "gtn-curriculum": {},
    "gtn-weight-norm": {},
    "gtn-learners": {"generator": "≥ 90 on at least 4 unseen learners"},
    "gtn-cifar10": {"generator": "GPU: ≥ 4 times fewer steps; CPU: reduced"},
    "poison-mnist": {
        f"{pair}: {what}": "≥ 90"
        for pair in ("7->1", "0->1", "3->8", "4->9")
        for what in ("K->T rate", "other classes")
    },
    "poison-cifar10": {"airplane->automobile: K->T rate": "stated", "airplane->automobile: other classes": "stated"},
    "adapt": dict.fromkeys(TARGETS, "≥ 5 points above fine-tuning, on two sets"),
    "sensitivity": {},
}
RUNS = Path("runs")


def main(argv: list[str]) -> None:
    for name in [word for word in argv if not word.startswith("--")]:
        if name == "bound":
            record_bound(read_json(RUNS / "bound" / "bound.json")["rows"])
            continue
        if "--run" in argv:
            command = [str(Path(sys.executable).parent / "limbeck"), "reproduce", name, "--overwrite", "--json"]
            subprocess.run(command, stdout=subprocess.PIPE, check=True)
        chosen = study(name)
        scores = [read_json(RUNS / name / variant.label / "score.json") for variant in chosen.variants]
        mark = read_json(RUNS / name / "study.json")
        words = [
            f"--{key.replace('_', '-')} {mark[key]:g}"
            for key in ("iterations", "max_time", "n", "networks")
            if mark.get(key)
        ]
        record(chosen, scores, " ".join(["limbeck reproduce", name, *words]))


def record(chosen: Study, scores: list[dict[str, Any]], command: str) -> None:
    """One results file for a study."""
    rows = []
    for row in chosen.kind.rows(chosen, scores):
        wanted = ("median", "lowest", "highest", "speed-up", "before", "worst", "step_size", "accepted")
        extra: dict[str, Any] = {key: row[key] for key in (*wanted, "honest_accuracy", "honest_accepted") if key in row}
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        rows.append(
            {
                "row": row["row"],
                "paper": row["paper"],
                "asked": ASKED[chosen.name].get(row["row"]),
                "accuracy": f"{row['mean']:.2f}{spread}",
                "n": f"{row['n']} {row['over']}",
                **extra,
                "diverged": row["diverged"],
                "seconds": f"{row['seconds']:.0f}",
            }
        )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    notes = []
    for variant, score in zip(chosen.variants, scores, strict=True):
        if len(chosen.variants) <= 4 and score["n"]:
            run = Distilled.load(RUNS / chosen.name / variant.label)
            info, outer = run.info, run.config.outer
            limit = "" if outer.max_time is None else f" (at most {outer.max_time:.0f} s)"
            notes.append(
                f"{variant.group}: {info['iterations']} of {outer.iterations} iterations in {info['seconds']:.0f} s"
                f"{limit}, {info['versions']['threads']} thread(s); kept: iteration {info['validation']['iteration']}, "
                f"validation {info['validation']['accuracy']:.2f} %; {info['rollbacks']} rollbacks; step sizes times "
                f"{info['calibration']['factor']:g}."
            )
    notes += [
        f"Seeds from {chosen.variants[0].seed}. ± is the sample standard deviation over what n counts. Seconds: "
        "learning, summed over runs; for another learner, training and scoring.",
        f"Paper: {chosen.source}. GPU: not measured.",
    ]
    threads = next((score["versions"]["threads"] for score in scores if "versions" in score), None)
    write(
        chosen.name,
        title=chosen.title,
        order=20 + study_names().index(chosen.name),
        command=command,
        columns=columns,
        rows=[{column: row.get(column) for column in columns} for row in rows],
        threads=threads,
        notes=notes,
    )


def record_bound(rows: list[dict[str, Any]]) -> None:
    """One results file for the lower bound."""
    write(
        "bound",
        title="The lower bound: excess loss of linear regression after training on M images",
        order=20 + len(study_names()),
        command="limbeck reproduce bound --max-time 10",
        columns=["row", "closed form", "reached by the engine", "ratio", "construction, worst", "n", "seconds"],
        rows=[
            {
                "row": row["row"],
                "closed form": f"{row['lower']:.6g}",
                "reached by the engine": f"{row['mean']:.6g}",
                "ratio": "–" if row["ratio"] is None else f"{row['ratio']:.6f}",
                "construction, worst": f"{row['worst']:.3g}",
                "n": row["n"],
                "seconds": f"{row['seconds']:.1f}",
            }
            for row in rows
        ],
        notes=[
            "Asked: M = D at most 1e-10 for 1,000 random θ₀ (the construction's column), M = D − 1 within 1 % of the "
            "closed form (the ratio).",
            "θ₀ ~ N(θ*, I). Reached: the exact expectation for the learned set. Seed 0, float64. GPU: not measured.",
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
    print(json.dumps({"recorded": [word for word in sys.argv[1:] if not word.startswith("--")]}), file=sys.stderr)
