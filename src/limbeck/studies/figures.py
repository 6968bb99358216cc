"""A study's figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.run_directory import ARTEFACT, RunDirectory
from limbeck.artefact.sample_chart import sample_chart
from limbeck.common.charts import Line, line_chart
from limbeck.engine import PixelConfig
from limbeck.studies.study import Score, Study

Bars = dict[str, tuple[float, float | None]]
"""Heights and standard deviations by name."""


def draw_figures(study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
    """Draw the study's figures into ``out/figures``, as PNG and SVG; their paths without the endings.

    Raises:
        LimbeckError: matplotlib is missing.
    """
    return [*_draw_training(study, out, scores), *study.kind.draw(study, out, scores)]


def draw_samples(study: Study, out: Path) -> list[Path]:
    """A picture of what was learned, for each group its first seed; their paths without the endings."""
    paths = []
    for variant in study.variants:
        if variant.seed == study.variants[0].seed and (out / variant.label / ARTEFACT).is_file():
            paths.append(out / "figures" / f"samples-{variant.slug}")
            sample_chart(
                paths[-1], Distilled.load(out / variant.label, trust=variant.config.trusted), title=variant.group
            )
    return paths


def _draw_training(study: Study, out: Path, scores: Sequence[Score]) -> list[Path]:
    """Validation accuracy over outer iterations, and over inner steps where it was followed."""
    folder, paths = out / "figures", []
    lines = {}
    for group in dict.fromkeys(variant.group for variant in study.variants):
        members = [variant for variant in study.variants if variant.group == group]
        line = _meta_training([RunDirectory(out / variant.label) for variant in members])
        if line is not None:
            lines[group] = line
    if lines:
        paths.append(folder / "meta-training")
        y = "validation accuracy after all inner steps, %"
        line_chart(paths[-1], lines, title=study.title, x="outer iteration", y=y)
    curves = {score["group"]: score["curve"] for score in scores if score["curve"]}
    if curves:
        paths.append(folder / "inner-training")
        inner = {group: Line(x=range(len(curve)), y=curve) for group, curve in curves.items()}
        line_chart(paths[-1], inner, title=study.title, x="inner step", y="validation accuracy, %")
    return paths


def _meta_training(folders: list[RunDirectory]) -> Line | None:
    """Validation accuracy over outer iterations: the mean of the runs at those iterations that all have, and range."""
    curves = (
        {record["iteration"]: record["val_mean"] for record in folder.metrics() if "val_mean" in record}
        for folder in folders
    )
    runs = [curve for curve in curves if curve]
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


def accuracy_lines(study: Study, scores: Sequence[Score]) -> dict[str, Line]:
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
