"""The bound on a distilled set's size beside what the construction and the engine reach: rows, and a chart of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from limbeck.common.charts import Line, line_chart
from limbeck.errors import LimbeckError, unknown
from limbeck.theory.closed_form import Regression, best_excess, best_set, bounds, exact_set, excess, trained
from limbeck.theory.learned import Reached, reached

_LARGEST = 200
"""Features up to which ``auto`` distils with the engine: with 785 an evaluation of MNIST's takes half a second."""
_ROUNDING = 1e-12
"""What is left of an excess is drawn as 0 below this."""
_MOST = 10
"""Images for each feature at most; one is enough."""


def run_bound(
    problem: Regression,
    *,
    images: Sequence[int] = (),
    steps: Sequence[int] = (1,),
    epochs: Sequence[int] = (1,),
    sigma: float = 1.0,
    mean: Literal["optimum", "zero"] = "optimum",
    inits: int = 1000,
    engine: Literal["auto", "on", "off"] = "auto",
    iterations: int = 3000,
    restarts: int = 1,
    max_time: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Every combination of images M, steps S and epochs E: the closed form, the construction, and the engine.

    Args:
        problem: the regression.
        images: M; by default a few numbers up to D, the rank of H among them.
        steps: S, batches of images of their own.
        epochs: E.
        sigma: standard deviation of the initial weights, > 0.
        mean: they lie around θ* (``optimum``) or around 0 (``zero``).
        inits: random initial weights N(μ, σ²I) for the check.
        engine: distil with the engine, or not, or up to 200 features (``auto``).
        iterations, restarts, max_time: of the optimisation of each row, see ``regress.reached``.
        seed: of the check and of the optimisation's starts.
        device: where the engine computes.
        tell: is told of progress.

    Returns:
        A dictionary for each row, JSON as it is. Excess losses: ``paper`` the closed form, a number or where only
        bounds are known "lower – upper"; ``lower`` and ``upper`` themselves; ``before`` any training; ``mean`` the
        exact expectation for the learned set (None without the engine), ``ratio`` of it to ``lower`` (None where that
        is 0), ``left`` of it to ``before``, ``sampled`` and ``std`` of it over the ``n`` random initial weights;
        ``construction_mean`` and ``worst`` of the construction over the same.

    Raises:
        LimbeckError: settings that make no sense.
    """
    images = tuple(images) or default_images(problem)
    _check(
        problem, images, steps, epochs, sigma, mean, {"inits": inits, "iterations": iterations, "restarts": restarts}
    )
    if engine not in ("auto", "on", "off"):
        raise unknown("choice of engine", engine, ("auto", "on", "off"))
    if max_time is not None and not max_time > 0:
        raise LimbeckError(f"max_time is {max_time}; it must be a positive number of seconds.")
    if problem.note is not None:
        tell(problem.note)
    distilled = engine == "on" or (engine == "auto" and problem.dim <= _LARGEST)
    if engine == "auto" and not distilled:
        tell(
            f"{problem.name}: closed form and construction only; with {problem.dim} features the engine takes minutes."
        )
    mean_DK = problem.best_DK if mean == "optimum" else torch.zeros_like(problem.best_DK)
    rng = torch.Generator().manual_seed(seed)
    theta_BDK = mean_DK + sigma * torch.randn(inits, *mean_DK.shape, generator=rng, dtype=torch.float64)
    before = best_excess(problem, 0, sigma=sigma) + float(excess(problem, mean_DK))
    rows = []
    for S, E, M in itertools.product(steps, epochs, images):
        lower, upper = bounds(problem, M, steps=S, mean_DK=mean_DK, sigma=sigma)
        exact = S == 1 and problem.dim <= M
        built = exact_set(problem, M) if exact else best_set(problem, M, steps=S, mean_DK=mean_DK, sigma=sigma)
        built_B = excess(problem, trained(built, theta_BDK))
        row: dict[str, Any] = {
            "row": _name(M, S, E),
            "paper": lower if lower == upper else f"{lower:.6g} – {upper:.6g}",
            "before": before,
            "mean": None,
            "std": None,
            "n": inits,
            "seconds": 0.0,
            "device": device,
            "lower": lower,
            "upper": upper,
            "ratio": None,
            "left": None,
            "sampled": None,
            "construction_mean": float(built_B.mean()),
            "worst": float(built_B.max()),
            "problem": problem.name,
            "examples": problem.examples,
            "features": problem.dim,
            "outputs": problem.outputs,
            "rank": problem.rank,
            "images": M,
            "steps": S,
            "epochs": E,
            "sigma": sigma,
            "mean_of_inits": mean,
            "seed": seed,
        }
        if distilled:
            found = reached(
                problem,
                M,
                steps=S,
                epochs=E,
                sigma=sigma,
                mean_DK=mean_DK,
                seed=seed,
                restarts=restarts,
                iterations=iterations,
                max_seconds=math.inf if max_time is None else max_time,
                device=device,
                tell=tell,
            )
            sampled_B = excess(problem, trained(found.tiny, theta_BDK))
            row |= _scores(found, lower, before)
            row["sampled"] = float(sampled_B.mean())
            row["std"] = float(sampled_B.std()) if inits > 1 else None
            possible = f"{lower:.6g}" if lower == upper else row["paper"]
            tell(f"{row['row']}: {found.excess:.6g} reached, {possible} possible, {found.seconds:.1f} s")
        rows.append(row)
    return rows


def default_images(problem: Regression) -> tuple[int, ...]:
    """Numbers of images worth a look: 1, quarters of the rank, one less than the rank, the rank, D."""
    r = problem.rank
    return tuple(sorted({m for m in (1, r // 4, r // 2, 3 * r // 4, r - 1, r, problem.dim) if m >= 1}))


def draw_bound(problem: Regression, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The rows as a chart, ``path`` with the endings .png and .svg: left of the excess over the images of all steps.

    Its scale is logarithmic; what is 0 but for rounding lies below it. Needs the extra ``figures``.
    """
    first = rows[0]
    lines: dict[str, Line] = {}
    many = sorted({row["images"] * row["steps"] for row in rows})
    curve = list(range(1, problem.rank)) if first["mean_of_inits"] == "optimum" else []
    if curve:
        least = [best_excess(problem, m, sigma=first["sigma"]) / first["before"] for m in curve]
        lines["closed form"] = Line(x=curve, y=least)
    else:
        by_count = {row["images"] * row["steps"]: row for row in rows}
        for name in ("lower", "upper"):
            lines[f"{name} bound"] = Line(x=many, y=[by_count[m][name] / first["before"] for m in many])
    for (S, E), members in itertools.groupby(rows, key=lambda row: (row["steps"], row["epochs"])):
        learned = [row for row in members if row["left"] is not None]
        if learned:
            name = "engine" if (S, E) == (1, 1) else f"engine, S = {S}, E = {E}"
            lines[name] = Line(x=[S * row["images"] for row in learned], y=[row["left"] for row in learned])
    known = [y for line in lines.values() for y in line.y if y > _ROUNDING]
    title = f"{problem.name}, {problem.dim} features, rank {problem.rank}: what is left of the excess loss"
    words = {"x": "learned images, all steps", "y": "excess, 1 before training"}
    line_chart(path, lines, title=title, log_from=0.5 * min(known, default=_ROUNDING), **words)


def _scores(found: Reached, lower: float, before: float) -> dict[str, Any]:
    return {
        "mean": found.excess,
        "seconds": round(found.seconds, 3),
        "ratio": found.excess / lower if lower > 0 else None,
        "left": found.excess / before,
        "evaluations": found.evaluations,
        "converged": found.converged,
    }


def _name(images: int, steps: int, epochs: int) -> str:
    rest = "" if (steps, epochs) == (1, 1) else f", S = {steps}, E = {epochs}"
    return f"M = {images}{rest}"


def _check(
    problem: Regression,
    images: Sequence[int],
    steps: Sequence[int],
    epochs: Sequence[int],
    sigma: float,
    mean: str,
    counts: dict[str, int],
) -> None:
    if mean not in ("optimum", "zero"):
        raise unknown("mean", mean, ("optimum", "zero"))
    if not (math.isfinite(sigma) and sigma > 0):
        raise LimbeckError(f"sigma is {sigma}; the deviation of the initial weights must be a positive number.")
    numbers = [("images", m) for m in images] + [("steps", s) for s in steps] + [("epochs", e) for e in epochs]
    for name, value in (*numbers, *counts.items()):
        if value < 1:
            raise LimbeckError(f"{name} is {value}; it must be at least 1.")
    most = _MOST * problem.dim
    if max(images) * max(steps) > most:
        raise LimbeckError(
            f"{max(images)} images in each of {max(steps)} steps are more than {_MOST} for each of {problem.dim} "
            f"features ({most}); {problem.rank} are enough, more change nothing."
        )
