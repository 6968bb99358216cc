"""The bound on a distilled set's size beside what the construction and the engine reach: rows, and a chart of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor

from limbeck.common.charts import Line, line_chart
from limbeck.common.idle import refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.errors import LimbeckError, unknown
from limbeck.theory.closed_form import Regression, best_excess, best_set, bounds, exact_set, excess, take_steps
from limbeck.theory.distillation import DistilledRegression, RegressionConfig, check_count, distill_regression

_LARGEST = 200
"""Features up to which ``auto`` distils with the engine: with 785 an evaluation of MNIST's takes half a second."""
_ROUNDING = 1e-12
"""Below this part of the excess before training a point is drawn as 0."""
_MOST = 10
"""Images for each feature at most; one of each is enough."""


@final
@dataclass(frozen=True, kw_only=True)
class BoundConfig:
    """The sets that are compared, every combination of M, S and E, and how each is learned and checked.

    Args:
        images: numbers M of images in each step; by default a few up to D, the rank of H among them.
        steps: numbers S of steps with images of their own.
        epochs: numbers E of times that the steps are gone through.
        inits: random initial weights N(μ, σ²I) for the check.
        engine: distil with the engine, or not, or up to 200 features (``auto``).
        regression: the initial weights, and how the engine learns each set; its seed is also that of the check.
    """

    images: tuple[int, ...] = ()
    steps: tuple[int, ...] = (1,)
    epochs: tuple[int, ...] = (1,)
    inits: int = 1000
    engine: Literal["auto", "on", "off"] = "auto"
    regression: RegressionConfig = field(default_factory=RegressionConfig)

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("images", "steps", "epochs"):
            for value in getattr(self, name):
                check_count(name, value)
        check_count("inits", self.inits)
        if self.engine not in ("auto", "on", "off"):
            raise unknown("choice of engine", self.engine, ("auto", "on", "off"))
        if self.engine == "off":
            why, fix = "with engine off", "choose engine on"
            refuse_idle_fields(self.regression, "iterations", "restarts", "max_time", why=why, fix=fix)

    def sizes(self, problem: Regression) -> list[tuple[int, int, int]]:
        """(M, S, E) of every row; raises LimbeckError for more images than a problem has use for."""
        images = self.images or default_images(problem)
        limit = _MOST * problem.dim
        if max(images) * max(self.steps) > limit:
            raise LimbeckError(
                f"{max(images)} images in each of {max(self.steps)} steps are more than {_MOST} for each of "
                f"{problem.dim} features ({limit}); {problem.rank} are enough, more change nothing."
            )
        return [(M, S, E) for S, E, M in itertools.product(self.steps, self.epochs, images)]


def run_bound(
    problem: Regression,
    config: BoundConfig | None = None,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Every combination of images M, steps S and epochs E: the closed form, the construction, and the engine.

    Args:
        problem: the regression.
        config: the combinations and how each is learned; defaults by default.
        tell: is called with lines of progress.

    Returns:
        A dictionary for each row, JSON as it is. Excess losses: ``paper`` the closed form, a number or where only
        bounds are known "lower – upper"; ``lower`` and ``upper`` themselves; ``before`` any training; ``mean`` the
        exact expectation for the learned set (None without the engine), ``ratio`` of it to ``lower`` (None where that
        is 0), ``left`` of it to ``before``, ``sampled`` and ``std`` of it over the ``n`` random initial weights;
        ``construction_mean`` and ``worst`` of the construction over the same.

    Raises:
        LimbeckError: more images than the problem has use for.
    """
    config = config or BoundConfig()
    settings = config.regression
    sizes = config.sizes(problem)
    if problem.note is not None:
        tell(problem.note)
    with_engine = config.engine == "on" or (config.engine == "auto" and problem.dim <= _LARGEST)
    if config.engine == "auto" and not with_engine:
        tell(
            f"{problem.name}: closed form and construction only; with {problem.dim} features the engine takes minutes."
        )
    mean_DK = settings.mean_of(problem)
    rng = torch.Generator().manual_seed(settings.seed)
    theta_BDK = mean_DK + settings.sigma * torch.randn(config.inits, *mean_DK.shape, generator=rng, dtype=torch.float64)
    rows = []
    for M, S, E in sizes:
        row = _closed_form_row(problem, M, S, E, settings, theta_BDK)
        if with_engine:
            result = distill_regression(problem, M, steps=S, epochs=E, config=settings, tell=tell)
            row |= _engine_columns(problem, result, row, theta_BDK)
            possible = f"{row['lower']:.6g}" if row["lower"] == row["upper"] else row["paper"]
            tell(f"{row['row']}: {result.excess:.6g} reached, {possible} possible, {result.seconds:.1f} s")
        rows.append(row)
    return rows


def default_images(problem: Regression) -> tuple[int, ...]:
    """Numbers of images to compare: 1, quarters of the rank, one less than the rank, the rank, D."""
    r = problem.rank
    return tuple(sorted({m for m in (1, r // 4, r // 2, 3 * r // 4, r - 1, r, problem.dim) if m >= 1}))


def draw_bound(problem: Regression, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The rows as a chart, ``path`` with the endings .png and .svg: left of the excess over the images of all steps.

    Its scale is logarithmic; what is 0 but for rounding lies below it. Needs the extra ``figures``.
    """
    first = rows[0]
    lines: dict[str, Line] = {}
    totals = sorted({row["images"] * row["steps"] for row in rows})
    curve = list(range(1, problem.rank)) if first["mean_of_inits"] == "optimum" else []
    if curve:
        least = [best_excess(problem, m, sigma=first["sigma"]) / first["before"] for m in curve]
        lines["closed form"] = Line(x=curve, y=least)
    else:
        by_count = {row["images"] * row["steps"]: row for row in rows}
        for name in ("lower", "upper"):
            lines[f"{name} bound"] = Line(x=totals, y=[by_count[m][name] / first["before"] for m in totals])
    for (S, E), members in itertools.groupby(rows, key=lambda row: (row["steps"], row["epochs"])):
        points = [row for row in members if row["left"] is not None]
        if points:
            name = "engine" if (S, E) == (1, 1) else f"engine, S = {S}, E = {E}"
            lines[name] = Line(x=[S * row["images"] for row in points], y=[row["left"] for row in points])
    positive = [y for line in lines.values() for y in line.y if y > _ROUNDING]
    title = f"{problem.name}, {problem.dim} features, rank {problem.rank}: what is left of the excess loss"
    axes = {"x": "learned images, all steps", "y": "excess, 1 before training"}
    line_chart(path, lines, title=title, log_from=0.5 * min(positive, default=_ROUNDING), **axes)


def _closed_form_row(
    problem: Regression, images: int, steps: int, epochs: int, config: RegressionConfig, theta_BDK: Tensor
) -> dict[str, Any]:
    """A row without the engine's columns."""
    mean_DK, sigma = config.mean_of(problem), config.sigma
    lower, upper = bounds(problem, images, steps=steps, mean_DK=mean_DK, sigma=sigma)
    if steps == 1 and problem.dim <= images:
        construction = exact_set(problem, images)
    else:
        construction = best_set(problem, images, steps=steps, mean_DK=mean_DK, sigma=sigma)
    excess_B = excess(problem, take_steps(construction, theta_BDK))
    rest = "" if (steps, epochs) == (1, 1) else f", S = {steps}, E = {epochs}"
    return {
        "row": f"M = {images}{rest}",
        "paper": lower if lower == upper else f"{lower:.6g} – {upper:.6g}",
        "before": best_excess(problem, 0, sigma=sigma) + float(excess(problem, mean_DK)),
        "mean": None,
        "std": None,
        "n": len(theta_BDK),
        "seconds": 0.0,
        "device": config.device,
        "lower": lower,
        "upper": upper,
        "ratio": None,
        "left": None,
        "sampled": None,
        "construction_mean": float(excess_B.mean()),
        "worst": float(excess_B.max()),
        "problem": problem.name,
        "examples": problem.examples,
        "features": problem.dim,
        "outputs": problem.outputs,
        "rank": problem.rank,
        "images": images,
        "steps": steps,
        "epochs": epochs,
        "sigma": sigma,
        "mean_of_inits": config.mean,
        "seed": config.seed,
    }


def _engine_columns(
    problem: Regression, result: DistilledRegression, row: dict[str, Any], theta_BDK: Tensor
) -> dict[str, Any]:
    """What the engine's set adds to a row."""
    sampled_B = excess(problem, take_steps(result.tiny, theta_BDK))
    return {
        "mean": result.excess,
        "seconds": round(result.seconds, 3),
        "ratio": result.excess / row["lower"] if row["lower"] > 0 else None,
        "left": result.excess / row["before"],
        "evaluations": result.evaluations,
        "converged": result.converged,
        "sampled": float(sampled_B.mean()),
        "std": float(sampled_B.std()) if len(sampled_B) > 1 else None,
    }
