"""Run a study: learn and score every variant, put the published number beside ours, draw the figures.

What is finished is kept in the study's folder, a folder for each run, so that it can be stopped and gone on with.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from limbeck.distill import distill
from limbeck.distilled import Distilled
from limbeck.errors import DivergedError, LimbeckError
from limbeck.evaluate import evaluate
from limbeck.figures import Line, histogram_chart, line_chart, sample_chart
from limbeck.progress import Reporter
from limbeck.rundir import ARTEFACT, CHECKPOINT, RunDirectory
from limbeck.storage import read_json, write_json
from limbeck.studies import Study, Variant

SCORE = "score.json"
MARK = "study.json"


@final
class StudyDirectory:
    """The folder of a study's runs, marked by ``study.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self, study: Study, *, resume: bool, overwrite: bool, **settings: Any) -> None:
        """Make the folder, or refuse one that holds something else; ``settings`` must be the same when it goes on.

        Raises:
            LimbeckError: it holds a study and neither ``resume`` nor ``overwrite`` is set, another study, or no study.
        """
        mark, wanted = self.path / MARK, {"study": study.name, "seed": study.variants[0].seed, **settings}
        if mark.is_file() and not (resume or overwrite):
            raise LimbeckError(
                f"{self.path} already holds a study; go on with --resume, replace it with --overwrite, or choose "
                "another --out."
            )
        if not mark.is_file() and self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise LimbeckError(f"{self.path} is not empty and holds no study; choose another --out.")
        if mark.is_file() and overwrite:
            shutil.rmtree(self.path)
        elif mark.is_file() and read_json(mark) != wanted:
            found = ", ".join(f"{key} {value}" for key, value in read_json(mark).items())
            raise LimbeckError(f"{self.path} was begun otherwise ({found}); go on with the same, or --overwrite it.")
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(mark, wanted)


def run_study(
    study: Study,
    out: Path,
    *,
    iterations: int | None = None,
    max_time: float | None = None,
    n: int | None = None,
    device: str = "cpu",
    data_dir: Path | None = None,
    reporter: Reporter | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]] | None:
    """Learn and score what is not finished yet.

    Args:
        study: which runs.
        out: folder of the study.
        iterations: another number of outer iterations for every run.
        max_time: seconds after which each run stops learning.
        n: held-out initial weights for each score, the study's own by default.
        device: where to compute.
        data_dir: where data sets are looked for first.
        reporter: told about each run's progress.
        tell: told which run is next.

    Returns:
        The score of each variant, see ``_score``; None if someone stopped it.
    """
    scores = []
    for index, variant in enumerate(study.variants):
        folder = out / variant.label
        config = variant.config
        outer = dataclasses.replace(
            config.outer,
            iterations=config.outer.iterations if iterations is None else iterations,
            max_time=config.outer.max_time if max_time is None else max_time,
        )
        config = dataclasses.replace(config, outer=outer)
        variant = dataclasses.replace(variant, config=config)
        if (folder / SCORE).is_file():
            scores.append(read_json(folder / SCORE))
            continue
        tell(f"{study.name}: run {index + 1} of {len(study.variants)}, {variant.label}")
        begun = (folder / CHECKPOINT).is_file()
        diverged = False
        run: Distilled | None
        try:
            run = distill(
                config, out=folder, device=device, data_dir=data_dir, resume=begun, overwrite=True, reporter=reporter
            )
        except DivergedError as error:
            tell(f"{variant.label}: {error}")
            diverged = True
            run = Distilled.load(folder) if (folder / ARTEFACT).is_file() else None
        if run is not None and not run.info["finished"] and not diverged:
            return None
        score = _score(study, variant, run, diverged, n, device, data_dir, tell)
        write_json(folder / SCORE, score)
        scores.append(score)
    return scores


def _score(
    study: Study,
    variant: Variant,
    run: Distilled | None,
    diverged: bool,
    n: int | None,
    device: str,
    data_dir: Path | None,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Test accuracy of the kept state; a run that diverged before its first validation has none and counts as 0."""
    score: dict[str, Any] = {"group": variant.group, "seed": variant.seed, "diverged": diverged, "rows": []}
    if run is None:
        return score | {"mean": 0.0, "std": None, "n": 0, "curve": [], "seconds": 0.0, "iterations": 0}
    result = evaluate(
        run,
        n=study.n if n is None else n,
        seed=variant.seed,
        baselines=(),
        learners=study.learners,
        every_step=study.kind in ("curves", "speed"),
        device=device,
        data_dir=data_dir,
        tell=tell,
    )
    rows = result.to_json()["rows"]
    first = rows[0]
    return score | {
        "mean": first["mean"],
        "std": first["std"],
        "worst": first["worst"],
        "n": first["n"],
        "curve": first["curve"],
        "rows": rows[1:],
        "seconds": run.info["seconds"],
        "iterations": run.info["iterations"],
        "versions": run.info["versions"],
    }


def summary(study: Study, scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that are printed, one for each group, and one for each other learner.

    With several runs in a group, ``mean`` and ``std`` are over its ``n`` runs, otherwise over initial weights.
    """
    rows: list[dict[str, Any]] = []
    for group, members in _by_group(scores).items():
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
            rows.append(
                {
                    "row": f"{group}, on {other['row']}",
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


def _by_group(scores: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
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


def draw_figures(study: Study, out: Path, scores: list[dict[str, Any]]) -> list[Path]:
    """The study's figures in ``out/figures``, as PNG and SVG; the paths without their endings.

    Raises:
        LimbeckError: matplotlib is missing.
    """
    folder = out / "figures"
    drawn = []
    lines = {}
    for group in dict.fromkeys(variant.group for variant in study.variants):
        members = [variant for variant in study.variants if variant.group == group]
        line = _meta_training([RunDirectory(out / variant.label) for variant in members])
        if line is not None:
            lines[group] = line
    if lines:
        drawn.append(folder / "meta-training")
        y = "validation accuracy after all inner steps, %"
        line_chart(drawn[-1], lines, title=study.title, x="outer iteration", y=y)
    curves = {score["group"]: score["curve"] for score in scores if score["curve"]}
    if curves:
        drawn.append(folder / "inner-training")
        inner = {group: Line(x=range(len(curve)), y=curve) for group, curve in curves.items()}
        line_chart(drawn[-1], inner, title=study.title, x="inner step", y="validation accuracy, %")
    if study.kind == "sweep":
        drawn.append(folder / "histograms")
        groups = {group: [score["mean"] for score in members] for group, members in _by_group(scores).items()}
        histogram_chart(drawn[-1], groups, title=study.title, x="test accuracy, %")
    else:
        for variant in study.variants:
            if variant.seed == study.variants[0].seed and (out / variant.label / ARTEFACT).is_file():
                drawn.append(folder / f"samples-{variant.group.replace(' ', '-')}")
                sample_chart(drawn[-1], Distilled.load(out / variant.label), title=variant.group)
    return drawn


def _meta_training(folders: list[RunDirectory]) -> Line | None:
    """Validation accuracy over outer iterations: the mean of the runs at those iterations that all have, and range."""
    found = ({record["iteration"]: record["val_mean"] for record in folder.metrics()} for folder in folders)
    runs = [run for run in found if run]
    if not runs:
        return None
    common = sorted(set.intersection(*(set(run) for run in runs))) or sorted(runs[0])
    values = [[run[at] for run in runs if at in run] for at in common]
    several = len(runs) > 1
    return Line(
        x=common,
        y=[statistics.fmean(v) for v in values],
        low=[min(v) for v in values] if several else (),
        high=[max(v) for v in values] if several else (),
    )
