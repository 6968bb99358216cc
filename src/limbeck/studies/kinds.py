"""The kinds of studies: for each one object that says how its runs are scored, summed up in rows and drawn.

A new kind is a class here and its object in ``KINDS``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

from limbeck.artefact.distilled import Distilled
from limbeck.attack.report import attack_report
from limbeck.common.charts import bar_chart, histogram_chart, line_chart
from limbeck.common.registry import Registry
from limbeck.experiment.task import task_of
from limbeck.studies.figures import Bars, accuracy_lines, draw_samples
from limbeck.studies.rows import attack_rows, group_rows, score_accuracy, speed_up
from limbeck.studies.study import Judging, Score, Study, StudyKind, Variant, lost_score


@final
class Curves(StudyKind):
    """Single runs, followed from inner step to inner step."""

    name = "curves"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        return score_accuracy(study, variant, run, judging, every_step=True)

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        return group_rows(study, scores)

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        return draw_samples(study, out)


@final
class Seeds(StudyKind):
    """Several seeds of each group: their mean and spread."""

    name = "seeds"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        return score_accuracy(study, variant, run, judging)

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        return group_rows(study, scores)

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        return draw_samples(study, out)


@final
class Sweep(StudyKind):
    """Settings drawn at random in each group: the median, the range and a histogram; too many runs for pictures."""

    name = "sweep"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        return score_accuracy(study, variant, run, judging)

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        def spread(members: Sequence[Score]) -> dict[str, float]:
            means = [score["mean"] for score in members]
            return {"median": statistics.median(means), "lowest": min(means), "highest": max(means)}

        return group_rows(study, scores, extra=spread)

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        means: dict[str, list[float]] = {}
        for score in scores:
            means.setdefault(score["group"], []).append(score["mean"])
        path = out / "figures" / "histograms"
        histogram_chart(path, means, title=study.title, x="test accuracy, %")
        return [path]


@final
class Speed(StudyKind):
    """Inner steps to the accuracy of the last group, which is the one to be faster than."""

    name = "speed"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        return score_accuracy(study, variant, run, judging, every_step=True)

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        def against_last(members: Sequence[Score]) -> dict[str, float]:
            if members[0]["group"] == scores[-1]["group"]:
                return {}
            return {"speed-up": speed_up(members[0]["curve"], scores[-1]["curve"])}

        return group_rows(study, scores, extra=against_last)

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        return draw_samples(study, out)


@final
class Grid(StudyKind):
    """Accuracy against the number of batches, epochs and images per class."""

    name = "grid"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        return score_accuracy(study, variant, run, judging)

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        return group_rows(study, scores)

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        path = out / "figures" / "accuracy"
        line_chart(path, accuracy_lines(study, scores), title=study.title, x="steps", y="test accuracy, %")
        return [path, *draw_samples(study, out)]


@final
class Baselines(StudyKind):
    """Single runs beside real images in the same role."""

    name = "baselines"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        return score_accuracy(study, variant, run, judging)

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        return group_rows(study, scores, between=": ")

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        groups: dict[str, Bars] = {
            score["group"]: {"learned": (score["mean"], score["std"])}
            | {row["row"]: (row["mean"], row["std"]) for row in score["rows"]}
            for score in scores
        }
        path = out / "figures" / "compared"
        bar_chart(path, groups, title=study.title, y="%")
        return [path, *draw_samples(study, out)]


@final
class Attack(StudyKind):
    """What a batch does to networks of a pool, what defences do about it, and what relabelled real images do."""

    name = "attack"
    unit = "%"

    def score(self, study: Study, variant: Variant, run: Distilled | None, judging: Judging) -> Score:
        if run is None:
            return lost_score() | {"attack": None}
        n = judging.count(study, run)
        report = attack_report(
            run,
            task_of(run.config, data_dir=judging.data_dir),
            n=n,
            seed=variant.seed,
            baselines=variant.baselines,
            transfer=judging.transfer,
            defended=bool(variant.baselines),
            device=judging.device,
            tell=judging.tell,
        ).to_json()
        return {
            **report["rows"][0]["rate"],
            "n": n,
            "attack": report,
            "curve": [],
            "seconds": run.info["seconds"],
            "iterations": run.info["iterations"],
            "versions": run.info["versions"],
        }

    def rows(self, study: Study, scores: Sequence[Score]) -> list[dict[str, Any]]:
        return [row for score in scores for row in attack_rows(score)]

    def draw(self, study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
        path = out / "figures" / "compared"
        bar_chart(path, {score["group"]: _attack_bars(score) for score in scores}, title=study.title, y="%")
        return [path, *draw_samples(study, out)]


def _attack_bars(score: Score) -> Bars:
    """The batch's two rates, and the first of real images whose step size was chosen for them."""
    if score.get("attack") is None:  # diverged
        return {"K to T": (score["mean"], score["std"])}
    batch, *others = score["attack"]["rows"]
    pairs = (("rate", "K to T"), ("others", "other classes"))
    bars = {name: (batch[key]["mean"], batch[key]["std"]) for key, name in pairs}
    own = [row for row in others if row["row"].endswith("own step size")]
    return bars | {f"K to T, {row['row'].split(',')[0]}": (row["rate"]["mean"], row["rate"]["std"]) for row in own}


CURVES, SEEDS, SWEEP, SPEED, GRID, BASELINES, ATTACK = (
    Curves(),
    Seeds(),
    Sweep(),
    Speed(),
    Grid(),
    Baselines(),
    Attack(),
)
KINDS: Final[Registry[StudyKind]] = Registry.of("kind of study", (CURVES, SEEDS, SWEEP, SPEED, GRID, BASELINES, ATTACK))
"""All kinds by name."""


def kind_named(name: str) -> StudyKind:
    """The kind of that name; raises LimbeckError for an unknown one."""
    return KINDS[name]
