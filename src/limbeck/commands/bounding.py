"""``limbeck bound``: how few images can do, for linear regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console

from limbeck.bound import draw_bound, run_bound
from limbeck.commands.shared import log_console, output, parse, prepare
from limbeck.errors import LimbeckError
from limbeck.figures import figures_missing
from limbeck.options import BoundOptions, ReproduceOptions
from limbeck.problems import problem as problem_named
from limbeck.tables import bound_table
from limbeck.theory import Regression

RUNS: Final[tuple[tuple[str, int | None, dict[str, Any]], ...]] = (
    ("random", 10, {"images": (1, 2, 5, 7, 9, 10)}),
    ("diabetes", None, {"images": (1, 2, 5, 8, 10, 11)}),
    ("mnist", 49, {"images": (1, 5, 10, 25)}),
    ("random", 8, {"images": (1, 2, 4), "steps": (1, 2, 4), "epochs": (1, 3), "restarts": 2}),
)
"""Problem, features, and what is tried of images, steps and epochs."""


def bound(argv: list[str]) -> int:
    """``limbeck bound``."""
    options = parse(BoundOptions, argv)
    console = log_console()
    prepare(options)
    problem = problem_named(options.problem, features=options.features, seed=options.seed, data_dir=options.data_dir)
    rows = run_bound(
        problem,
        images=options.images,
        steps=options.steps,
        epochs=options.epochs,
        sigma=options.sigma,
        mean=options.mean,
        inits=options.inits,
        engine=options.engine,
        iterations=options.iterations,
        restarts=options.restarts,
        max_time=options.max_time,
        seed=options.seed,
        device=options.device,
        tell=lambda text: console.print(text, style="dim", soft_wrap=True, markup=False),
    )
    title = _title(problem)
    values = {"problem": problem.name, "note": problem.note, "floor": problem.floor, "rows": rows}
    where = None if options.out is None else options.out / "bound.json"
    output(values, options.json, where, lambda: Console().print(bound_table(rows, title)))
    if options.out is not None:
        _draw(problem, rows, options.out / "bound", console)
    return 0


def reproduce_bound(options: ReproduceOptions) -> int:
    """``limbeck reproduce bound``: three problems, and steps and epochs on one of them."""
    if options.labels != "hard" or options.baselines or options.networks is not None:
        raise LimbeckError("bound is a linear regression; --labels, --baselines and --networks do not belong to it.")
    console, out = log_console(), options.out or Path("runs") / "bound"
    if (out / "bound.json").is_file() and not (options.overwrite or options.resume):
        raise LimbeckError(f"{out} holds a result already; replace it with --overwrite, or choose another --out.")
    prepare(options)
    rows: list[dict[str, Any]] = []
    for name, features, settings in RUNS:
        problem = problem_named(name, features=features, seed=options.seed, data_dir=options.data_dir)
        found = run_bound(
            problem,
            **settings,
            inits=options.n or 1000,
            iterations=options.iterations or 3000,
            max_time=options.max_time,
            seed=options.seed,
            device=options.device,
            tell=lambda text: console.print(text, style="dim", soft_wrap=True, markup=False),
        )
        _draw(problem, found, out / f"{name}-{problem.dim}", console)
        rows += [{**row, "row": f"{name}, D = {problem.dim}: {row['row']}"} for row in found]
    values = {"study": "bound", "rows": rows}
    title = "excess loss over the closed form, and of the construction"
    output(values, options.json, out / "bound.json", lambda: Console().print(bound_table(rows, title)))
    return 0


def _title(problem: Regression) -> str:
    return f"excess loss of {problem.name}: {problem.dim} features, rank {problem.rank}, {problem.outputs} output(s)"


def _draw(problem: Regression, rows: list[dict[str, Any]], path: Path, console: Console) -> None:
    missing = figures_missing()
    if missing is None:
        draw_bound(problem, rows, path)
        console.print(f"{path}.png and .svg", style="dim", soft_wrap=True, markup=False)
    else:
        console.print(f"no figure is drawn. {missing}", soft_wrap=True, markup=False)
