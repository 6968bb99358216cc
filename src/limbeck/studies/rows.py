"""A study's scores as the rows that are printed."""

from __future__ import annotations

import statistics
from typing import Any

from limbeck.studies import Study


def summary(study: Study, scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that are printed, one for each group, and one for each other learner.

    With several runs in a group, ``mean`` and ``std`` are over its ``n`` runs, otherwise over initial weights.
    """
    if study.kind == "attack":
        return [row for score in scores for row in _attack_rows(score)]
    rows: list[dict[str, Any]] = []
    for group, members in by_group(scores).items():
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
        if study.kind == "sweep":
            row |= {"median": statistics.median(means), "lowest": min(means), "highest": max(means)}
        if study.kind == "speed" and group != scores[-1]["group"]:
            row |= {"speed-up": speed_up(members[0]["curve"], scores[-1]["curve"])}
        rows.append(row)
        for other in members[0]["rows"]:
            between = ": " if study.kind == "baselines" else ", on "
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


def by_group(scores: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Scores by the row that they belong to."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for score in scores:
        groups.setdefault(score["group"], []).append(score)
    return groups


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


def _attack_rows(score: dict[str, Any]) -> list[dict[str, Any]]:
    """Three rows for each batch that was tried, and one for each defence; a single one where nothing was learned."""
    rows: list[dict[str, Any]] = []
    common = {"paper": None, "over": "networks", "diverged": int(score["diverged"])}
    if score.get("attack") is None:
        values = {name: score[name] for name in ("mean", "std", "n", "seconds")}
        return [{"row": f"{score['group']}: K->T rate", **values, **common}]
    for tried in score["attack"]["rows"]:
        learned = tried["row"] == "learned"
        batch = "" if learned else f", {tried['row']}"
        for name, what in (("rate", "K->T rate"), ("others", "other classes"), ("all", "all classes")):
            row = {"row": f"{score['group']}{batch}: {what}", **tried[name], "n": tried["n"]}
            about = {"before": tried["before"][name]["mean"], "step_size": tried["step_size"]}
            rows.append({**row, **about, "seconds": score["seconds"] if learned else 0.0, **common})
    for defended in score["attack"]["defences"]:
        row = {"row": f"{score['group']}, behind {defended['row']}: K->T rate", "mean": defended["rate"]}
        about = {key: value for key, value in defended.items() if key not in ("row", "rate", "rate_std")}
        rows.append({**row, "std": defended["rate_std"], "n": score["attack"]["n"], "seconds": 0.0, **common, **about})
    return rows
