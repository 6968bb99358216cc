"""Results as tables and pictures for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.artefact.preview import stretched
from limbeck.data.registry import Available
from limbeck.evaluation.judge import Evaluation, Row
from limbeck.studies import Study
from limbeck.studies.recipes import Recipe


def accuracy(row: Row) -> str:
    """Mean ± std in percent."""
    spread = "" if row.scores.std is None else f" ± {row.scores.std:.2f}"
    return f"{row.scores.mean:.2f}{spread}"


def evaluation_table(result: Evaluation) -> Table:
    """One line per learned set or baseline."""
    table = Table(title="accuracy on the real test set (%)", title_justify="left")
    for column in ("set", "before", "after", "worst", "n", "step size"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in result.rows:
        lr = "learned" if row.step_size is None else f"{row.step_size:.3g}"
        cells = [row.row, f"{row.before:.2f}", accuracy(row), f"{row.scores.worst:.2f}", str(row.scores.n), lr]
        table.add_row(*cells)
    return table


def class_table(result: Evaluation) -> Table:
    """The same, class by class."""
    table = Table(title="after training, by class (%)", title_justify="left")
    for column in ("set", *result.class_names):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in result.rows:
        table.add_row(row.row, *(f"{value:.1f}" for value in row.scores.per_class))
    return table


def reproduction_table(recipe: Recipe, result: Evaluation, run: Distilled) -> Table:
    """The paper's number beside ours."""
    table = Table(title=recipe.title, title_justify="left", caption=f"paper: {recipe.source}", caption_justify="left")
    for column in ("row", "paper", "before", "ours", "n", "seconds"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in result.rows:
        learned = row.row == "distilled"
        paper = recipe.paper if learned else "–"
        seconds = f"{run.info['seconds']:.0f}" if learned else f"{row.seconds:.0f}"
        name = recipe.name if learned else row.row
        table.add_row(name, paper, f"{row.before:.2f}", accuracy(row), str(row.scores.n), seconds)
    return table


def study_table(study: Study, rows: Sequence[dict[str, Any]]) -> Table:
    """A study's rows, the published result beside ours."""
    table = Table(title=study.title, title_justify="left", caption=f"paper: {study.source}", caption_justify="left")
    extra = [
        name
        for name in ("median", "lowest", "highest", "speed-up", "before", "worst")
        if any(name in row for row in rows)
    ]
    for column in ("", "paper", study.kind.unit, "n", "diverged", "learned in", *extra):
        table.add_column(column, justify="left" if column in ("", "paper") else "right")
    for row in rows:
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        table.add_row(
            row["row"],
            row["paper"] or "–",
            f"{row['mean']:.2f}{spread}",
            f"{row['n']} {row['over']}",
            str(row["diverged"]),
            f"{row['seconds']:.0f} s",
            *(f"{row[name]:.2f}" if name in row else "–" for name in extra),
        )
    return table


def bound_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """The rows of ``limbeck bound``: the least excess that is possible beside what is reached."""
    table = Table(title=title, title_justify="left")
    for column in ("", "possible", "engine", "ratio", "left of it", "construction, worst", "n", "seconds"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        paper = row["paper"] if isinstance(row["paper"], str) else f"{row['paper']:.6g}"
        numbers = (("mean", ".6g"), ("ratio", ".6f"), ("left", ".2g"), ("worst", ".3g"))
        cells = ["–" if row[name] is None else f"{row[name]:{form}}" for name, form in numbers]
        table.add_row(row["row"], paper, *cells, str(row["n"]), f"{row['seconds']:.1f}")
    return table


def curve_table(result: Evaluation) -> Table:
    """Accuracy on the validation split before training and after each inner step."""
    rows = [row for row in result.rows if row.curve]
    table = Table(title="after each inner step, validation data", title_justify="left")
    table.add_column("step", justify="right")
    for row in rows:
        table.add_column(row.row, justify="right")
    for step in range(max(len(row.curve) for row in rows)):
        table.add_row(str(step), *(f"{row.curve[step]:.2f}" for row in rows))
    return table


def show_table(run: Distilled, where: Path) -> Table:
    """What a run is, line by line."""
    config = run.config
    batches, images, *shape = run.images.shape
    table = Table(title=str(where), title_justify="left", show_header=False)
    rates = ", ".join(f"{float(v):.4g}" for v in run.learning_rates)
    rows = {
        "images": f"{batches * images} of {' x '.join(map(str, shape))}: {batches} batch(es) of {images}",
        "labels": run.kind_of_labels,
        "inner steps": f"{len(run.learning_rates)} ({batches} batch(es), {config.inner.optimizer})",
        "step sizes": rates,
        **{
            name.replace("_", " "): ", ".join(f"{float(v):.4g}" for v in value)
            for name, value in run.hyperparameters.items()
            if name != "lr"
        },
        "learner": f"{', '.join(config.learners)}, {config.init.init} init ({config.init.distribution})",
        "data": f"{run.info['data']['name']}  sha256 {run.info['data']['sha256'][:16]}…",
        "validation": f"{run.info['validation']['accuracy']:.2f} % at iteration {run.info['validation']['iteration']}",
        "learned in": f"{run.info['seconds']} s, {run.info['iterations']} iterations, seed {config.seed}",
        "picture": str(where / "preview.png"),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def print_images(console: Console, run: Distilled, rows: int = 1) -> None:
    """The first batches as half-block characters, two pixels to a cell, as many images abreast as fit."""
    width = run.shape[2]
    abreast = max(1, (console.width - 1) // (width + 1))
    for s in range(min(rows, run.images.shape[0])):
        names = [run.class_names[int(k)] for k in run.labels[s].argmax(-1)]
        for start in range(0, run.images.shape[1], abreast):
            block = run.images[s, start : start + abreast]
            console.print(
                " ".join(f"{name[:width]:<{width}}" for name in names[start : start + abreast]), highlight=False
            )
            for line in _half_blocks(block, console.color_system is not None):
                console.print(line, no_wrap=True)


def data_table(rows: Sequence[Available]) -> Table:
    """The known data sets and where they are."""
    table = Table(title="data sets", title_justify="left")
    for column in ("name", "training", "test", "image", "classes", "where"):
        table.add_column(column)
    for row in rows:
        where = f"missing: {row.install}" if row.where is None else str(row.where)
        if row.where is not None and (row.embedded or row.package):
            where = f"in {row.package or 'the package'}"
        shape = " x ".join(map(str, row.image_shape))
        table.add_row(row.name, f"{row.n_train:,}", f"{row.n_test:,}", shape, str(row.classes), escape(where))
    return table


def _half_blocks(images_MCHW: Tensor, color: bool) -> list[Text]:
    """Lines of text, two rows of pixels each: coloured half blocks, or shades of ASCII where there is no colour."""
    ramp = " .:-=+*#%@"
    rgb = [stretched(x_CHW) for x_CHW in images_MCHW]
    tiles = [torch.nn.functional.pad(tile, (0, 0, 0, tile.shape[1] % 2)) for tile in rgb]
    lines = []
    for y in range(0, tiles[0].shape[1], 2):
        line = Text()
        for tile in tiles:
            for x in range(tile.shape[2]):
                upper, lower = tile[:, y, x].tolist(), tile[:, y + 1, x].tolist()
                if color:
                    line.append("▀", style="rgb({},{},{}) on rgb({},{},{})".format(*upper, *lower))
                else:
                    line.append(ramp[sum(upper + lower) * (len(ramp) - 1) // (6 * 255)])
            line.append(" ")
        lines.append(line)
    return lines
