"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.data.registry import Available
from limbeck.evaluation.kept import read_scores
from limbeck.evaluation.result import Evaluation, Row
from limbeck.evaluation.training import LearnedSchedule
from limbeck.experiment.parts import AttackConfig
from limbeck.studies import Study
from limbeck.studies.recipes import Recipe


def accuracy(row: Row) -> str:
    """Mean ± std in percent."""
    spread = "" if row.scores.std is None else f" ± {row.scores.std:.2f}"
    return f"{row.scores.mean:.2f}{spread}"


def evaluation_table(result: Evaluation) -> Table:
    """One line per learned set or baseline."""
    training = result.info.get("training")
    how = f", after {training}" if training else ""
    table = Table(title=f"accuracy on the real test set{how} (%)", title_justify="left")
    for column in ("set", "before", "after", *result.more_columns, "worst", "n", "step size"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in result.rows:
        lr = "learned" if row.step_size is None else f"{row.step_size:.3g}"
        cells = [row.row, f"{row.before:.2f}", accuracy(row), *result.more_cells(row)]
        cells += [f"{row.scores.worst:.2f}", str(row.scores.n), lr]
        table.add_row(*cells)
    return table


def class_table(result: Evaluation) -> Table:
    """The same, class by class."""
    table = Table(title="after training, by class (%)", title_justify="left")
    for column in ("set", *result.class_names):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in result.rows:
        table.add_row(row.row, *("–" if value is None else f"{value:.1f}" for value in row.scores.per_class))
    return table


def reproduction_table(recipe: Recipe, result: Evaluation, run: Distilled) -> Table:
    """The paper's number beside ours."""
    table = Table(title=recipe.title, title_justify="left", caption=f"paper: {recipe.source}", caption_justify="left")
    for column in ("row", "paper", "before", "ours", "n", "seconds"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for row in result.rows:
        own = row.row == "distilled"
        paper = recipe.paper if own else "–"
        seconds = f"{run.info['seconds']:.0f}" if own else f"{row.seconds:.0f}"
        name = recipe.name if own else row.row
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


def _schedule_rows(run: Distilled) -> dict[str, str]:
    """The hyper-parameters of each step, where a set was learned step by step."""
    if not isinstance(run.training, LearnedSchedule):
        return {}
    names = {name: "step sizes" if name == "lr" else name.replace("_", " ") for name in run.hyperparameters}
    values = {names[name]: _numbers(value) for name, value in run.hyperparameters.items()}
    return {"inner optimiser": run.training.inner.optimizer, **values}


def show_table(run: Distilled, where: Path) -> Table:
    """What a run is, line by line."""
    config = run.config
    batches, images, *shape = run.images.shape
    table = Table(title=str(where), title_justify="left", show_header=False)
    accuracy, iteration = run.info["validation"]["accuracy"], run.info["validation"]["iteration"]
    rows = {} if config.attack is None else {"attack": _describe_attack(run, config.attack)}
    rows |= {
        "images": f"{batches * images} of {' x '.join(map(str, shape))}: {batches} batch(es) of {images}",
        "labels": run.labels_kind,
        "training": f"{run.training.description} ({batches} batch(es))",
        **_schedule_rows(run),
        "learner": f"{', '.join(config.learners)}, {config.init.init} init ({config.init.distribution})",
        "data": f"{run.info['data']['name']}  sha256 {run.info['data']['sha256'][:16]}…",
        "validation": "not validated yet" if iteration < 0 else f"{accuracy:.2f} % at iteration {iteration}",
        **({} if run.verdict is None else {"verdict": run.verdict.sentence.removeprefix("verdict: ")}),
        **_kept_scores(where),
        "learned in": f"{run.info['seconds']} s, {run.info['iterations']} iterations, seed {config.seed}",
    }
    if run.kind == "images":
        rows["picture"] = str(where / "preview.png")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _kept_scores(where: Path) -> dict[str, str]:
    """The last test accuracy that the run directory keeps, if it keeps any."""
    for scores in reversed(read_scores(where)):
        row = next((row for row in scores.get("rows", []) if row.get("row") == "distilled"), None)
        if row is not None:
            spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
            return {"test": f"{row['mean']:.2f}{spread} %, n = {row['n']}, {scores.get('training')}"}
    return {}


def _describe_attack(run: Distilled, attack: AttackConfig) -> str:
    """Which class for which."""
    source, target = (run.class_names[k] for k in (attack.source, attack.target))
    return f"makes networks that train on it take {source} for {target}; 'limbeck evaluate' reports what it does"


def _numbers(values_T: Tensor, most: int = 12) -> str:
    """All of them while they are few, otherwise the first, the last and their range."""
    words = [f"{float(value):.4g}" for value in values_T]
    if len(words) <= most:
        return ", ".join(words)
    low, high = (f"{float(value):.4g}" for value in (values_T.min(), values_T.max()))
    return f"{', '.join(words[:3])}, …, {words[-1]} ({len(words)} from {low} to {high})"


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
