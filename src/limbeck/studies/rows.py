"""Scores of runs, and the rows of a study that they make."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limbeck.artefact.distilled import Distilled
from limbeck.evaluation.judge import evaluate
from limbeck.studies.study import Judging, Score, Study, Variant, lost_score


def score_accuracy(
    study: Study, variant: Variant, run: Distilled | None, judging: Judging, *, every_step: bool = False
) -> Score:
    """Test accuracy of a run, and of other learners and baselines beside it; with ``every_step`` also its curve."""
    if run is None:
        return lost_score()
    result = evaluate(
        run,
        n=judging.count(study, run),
        seed=variant.seed,
        baselines=variant.baselines,
        learners=study.learners,
        every_step=every_step,
        device=judging.device,
        data_dir=judging.data_dir,
        tell=judging.tell,
    )
    first, *others = result.to_json()["rows"]
    return {
        **{name: first[name] for name in ("mean", "std", "worst", "n", "curve")},
        "rows": others,
        "seconds": run.info["seconds"],
        "iterations": run.info["iterations"],
        "versions": run.info["versions"],
    }


def group_rows(
    study: Study,
    scores: Sequence[Score],
    *,
    between: str = ", on ",
    extra: Callable[[Sequence[Score]], Mapping[str, Any]] = lambda members: {},
) -> list[dict[str, Any]]:
    """A row for each group, and one for each other learner or baseline, whose name ``between`` joins to the group's.

    With several runs in a group, ``mean`` and ``std`` are over its ``n`` runs, otherwise over initial weights.
    ``extra`` gives further values of a group's row from its scores.
    """
    rows: list[dict[str, Any]] = []
    for group in dict.fromkeys(score["group"] for score in scores):
        members = [score for score in scores if score["group"] == group]
        means = [score["mean"] for score in members]
        several = len(members) > 1
        row = {
            "row": group,
            "paper": study.paper.get(group),
            "mean": statistics.fmean(means),
            "std": statistics.stdev(means) if several else members[0]["std"],
            "n": len(members) if several else members[0]["n"],
            "over": "runs" if several else "initial weights",
            "diverged": sum(score["diverged"] for score in members),
            "seconds": sum(score["seconds"] for score in members),
        }
        rows.append({**row, **extra(members)})
        for other in members[0]["rows"]:
            rows.append(
                {
                    "row": f"{group}{between}{other['row']}",
                    "paper": None,
                    "mean": other["mean"],
                    "std": other["std"],
                    "n": other["n"],
                    "over": "initial weights",
                    "diverged": 0,
                    "seconds": other["seconds"],
                }
            )
    return rows


def speed_up(curve: list[float], reference: list[float]) -> float:
    """Inner steps that the reference takes to its best accuracy, by those that ``curve`` takes to reach that.

    0 where it never does, or where the reference diverged. Both hold the accuracy before training and after each step.
    """
    if not reference:
        return 0.0
    best = max(reference)
    needed = reference.index(best)
    reached = [step for step, accuracy in enumerate(curve) if accuracy >= best]
    return needed / max(1, reached[0]) if reached else 0.0


def attack_rows(score: Score) -> list[dict[str, Any]]:
    """Three rows for each batch that was tried, and one for each defence; a single one where nothing was learned."""
    rows: list[dict[str, Any]] = []
    common = {"paper": None, "over": "networks", "diverged": int(score["diverged"])}
    if score.get("attack") is None:
        values = {name: score[name] for name in ("mean", "std", "n", "seconds")}
        return [{"row": f"{score['group']}: K->T rate", **values, **common}]
    for each in score["attack"]["rows"]:
        own = each["row"] == "learned"
        batch = "" if own else f", {each['row']}"
        for name, what in (("rate", "K->T rate"), ("others", "other classes"), ("all", "all classes")):
            row = {"row": f"{score['group']}{batch}: {what}", **each[name], "n": each["n"]}
            about = {"before": each["before"][name]["mean"], "step_size": each["step_size"]}
            rows.append({**row, **about, "seconds": score["seconds"] if own else 0.0, **common})
    for defence in score["attack"]["defences"]:
        row = {"row": f"{score['group']}, behind {defence['row']}: K->T rate", "mean": defence["rate"]}
        about = {key: value for key, value in defence.items() if key not in ("row", "rate", "rate_std")}
        rows.append({**row, "std": defence["rate_std"], "n": score["attack"]["n"], "seconds": 0.0, **common, **about})
    return rows
