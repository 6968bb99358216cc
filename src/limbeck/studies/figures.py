"""A study's figures."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import ARTEFACT, RunDirectory
from limbeck.artefact.sample_chart import sample_chart
from limbeck.common.charts import Line, bar_chart, histogram_chart, line_chart
from limbeck.engine import PixelConfig
from limbeck.studies import Study
from limbeck.studies.rows import by_group


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
    if study.kind == "grid":
        drawn.append(folder / "accuracy")
        line_chart(drawn[-1], _grid(study, scores), title=study.title, x="steps", y="test accuracy, %")
    if study.kind in ("attack", "baselines"):
        drawn.append(folder / "compared")
        bar_chart(drawn[-1], _compared(study, scores), title=study.title, y="%")
    if study.kind == "sweep":
        drawn.append(folder / "histograms")
        groups = {group: [score["mean"] for score in members] for group, members in by_group(scores).items()}
        histogram_chart(drawn[-1], groups, title=study.title, x="test accuracy, %")
    else:
        for variant in study.variants:
            if variant.seed == study.variants[0].seed and (out / variant.label / ARTEFACT).is_file():
                drawn.append(folder / f"samples-{variant.slug}")
                sample_chart(drawn[-1], Distilled.load(out / variant.label), title=variant.group)
    return drawn


def _meta_training(folders: list[RunDirectory]) -> Line | None:
    """Validation accuracy over outer iterations: the mean of the runs at those iterations that all have, and range."""
    validated = (
        {record["iteration"]: record["val_mean"] for record in folder.metrics() if "val_mean" in record}
        for folder in folders
    )
    runs = [run for run in validated if run]
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


def _grid(study: Study, scores: list[dict[str, Any]]) -> dict[str, Line]:
    """Accuracy against batches, a line for each number of epochs and images per class."""
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for variant, score in zip(study.variants, scores, strict=True):
        pixels = variant.config.source
        assert isinstance(pixels, PixelConfig)
        name = f"{pixels.epochs} epoch(s), {pixels.ipc} per class"
        lines.setdefault(name, []).append((pixels.steps, score["mean"], score["std"] or 0.0))
    return {
        name: Line(
            x=[steps for steps, _, _ in points],
            y=[mean for _, mean, _ in points],
            low=[mean - std for _, mean, std in points],
            high=[mean + std for _, mean, std in points],
        )
        for name, points in lines.items()
    }


def _compared(study: Study, scores: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Learned images beside what they are compared with, by group."""
    groups: dict[str, dict[str, tuple[float, float | None]]] = {}
    for score in scores:
        if study.kind == "baselines":
            bars = {"learned": (score["mean"], score["std"])}
            groups[score["group"]] = bars | {row["row"]: (row["mean"], row["std"]) for row in score["rows"]}
            continue
        if score.get("attack") is None:  # diverged
            groups[score["group"]] = {"K to T": (score["mean"], score["std"])}
            continue
        learned, *others = score["attack"]["rows"]
        pairs = (("rate", "K to T"), ("others", "other classes"))
        bars = {name: (learned[key]["mean"], learned[key]["std"]) for key, name in pairs}
        own = [row for row in others if row["row"].endswith("own step size")]
        bars |= {f"K to T, {row['row'].split(',')[0]}": (row["rate"]["mean"], row["rate"]["std"]) for row in own}
        groups[score["group"]] = bars
    return groups
