"""``limbeck bound``: how few images can do, for linear regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from limbeck.cli.commands.shared import log_console, output, parse, prepare, refuse_not_positive, result_console
from limbeck.cli.options import BoundOptions, ReproduceOptions
from limbeck.cli.tables import bound_table
from limbeck.common.charts import figures_missing
from limbeck.common.files import read_json, write_json
from limbeck.errors import LimbeckError
from limbeck.theory.bound import BoundConfig, draw_bound, run_bound
from limbeck.theory.closed_form import Regression
from limbeck.theory.distillation import RegressionConfig
from limbeck.theory.regressions import make_regression

RUNS: Final[tuple[tuple[str, int | None, BoundConfig], ...]] = (
    ("random", 10, BoundConfig(images=(1, 2, 5, 7, 9, 10))),
    ("diabetes", None, BoundConfig(images=(1, 2, 5, 8, 10, 11))),
    ("mnist", 49, BoundConfig(images=(1, 5, 10, 25))),
    (
        "random",
        8,
        BoundConfig(images=(1, 2, 4), steps=(1, 2, 4), epochs=(1, 3), regression=RegressionConfig(restarts=2)),
    ),
)
"""Problem, number of features, and the sets that are compared."""

RESULT: Final = "bound.json"


def bound(argv: list[str]) -> int:
    """``limbeck bound``."""
    options = parse(BoundOptions, argv)
    console = log_console()
    prepare(options)
    config = BoundConfig(
        images=options.images,
        steps=options.steps,
        epochs=options.epochs,
        inits=options.inits,
        engine=options.engine,
        regression=RegressionConfig(
            sigma=options.sigma,
            mean=options.mean,
            iterations=options.iterations,
            restarts=options.restarts,
            max_time=options.max_time,
            seed=options.seed,
            device=options.device,
        ),
    )
    problem = make_regression(options.problem, features=options.features, seed=options.seed, data_dir=options.data_dir)
    rows = run_bound(problem, config, tell=partial(_print_progress, console))
    title = _title(problem)
    values = {"problem": problem.name, "note": problem.note, "floor": problem.floor, "rows": rows}
    where = None if options.out is None else options.out / RESULT
    output(values, options.json, where, lambda: result_console().print(bound_table(rows, title)))
    if options.out is not None:
        _draw_chart(problem, rows, options.out / "bound", console)
    return 0


def reproduce_bound(options: ReproduceOptions) -> int:
    """``limbeck reproduce bound``: three problems, and steps and epochs on one of them.

    What is finished of each lies in a file of its own, for --resume.
    """
    if options.labels != "hard" or options.baselines or options.networks is not None:
        raise LimbeckError("bound is a linear regression; --labels, --baselines and --networks do not belong to it.")
    refuse_not_positive(options, "iterations", "max_time", "n")
    console, out = log_console(), options.out or Path("runs") / "bound"
    inits = 1000 if options.n is None else options.n
    budget: dict[str, Any] = {
        "iterations": 3000 if options.iterations is None else options.iterations,
        "max_time": options.max_time,
        "seed": options.seed,
    }
    settings = {"inits": inits, **budget}
    parts = [out / f"{name}-{features or name}.json" for name, features, _ in RUNS]
    prepare(options)
    _check_place(out, parts, settings, options)
    rows: list[dict[str, Any]] = []
    for part, (name, features, config) in zip(parts, RUNS, strict=True):
        if not part.is_file():
            problem = make_regression(name, features=features, seed=options.seed, data_dir=options.data_dir)
            regression = replace(config.regression, **budget, device=options.device)
            config = replace(config, inits=inits, regression=regression)
            part_rows = run_bound(problem, config, tell=partial(_print_progress, console))
            _draw_chart(problem, part_rows, out / f"{name}-{problem.dim}", console)
            write_json(part, {"asked": settings, "rows": part_rows})
        part_rows = read_json(part)["rows"]
        rows += [{**row, "row": f"{name}, D = {row['features']}: {row['row']}"} for row in part_rows]
    values = {"study": "bound", "rows": rows}
    title = "excess loss over the closed form, and of the construction"
    output(values, options.json, out / RESULT, lambda: result_console().print(bound_table(rows, title)))
    return 0


def _draw_chart(problem: Regression, rows: list[dict[str, Any]], path: Path, console: Console) -> None:
    """Draw the rows into ``path`` with the endings .png and .svg, or say what is missing for that."""
    missing = figures_missing()
    if missing is None:
        draw_bound(problem, rows, path)
        console.print(f"{path}.png and .svg", style="dim", soft_wrap=True, markup=False)
    else:
        console.print(f"no figure is drawn. {missing}", soft_wrap=True, markup=False)


def _check_place(out: Path, parts: Sequence[Path], settings: dict[str, Any], options: ReproduceOptions) -> None:
    """Refuse a folder with results that are not to be gone on with; --overwrite removes them."""
    present = [path for path in (out / RESULT, *parts) if path.exists()]
    if options.overwrite:
        for path in present:
            path.unlink()
    elif present and not options.resume:
        raise LimbeckError(
            f"{out} holds a result already; go on with --resume, replace it with --overwrite, or choose another --out."
        )
    for part in parts:
        if part.is_file() and (before := read_json(part).get("asked")) != settings:
            text = ", ".join(f"{name} {value}" for name, value in (before or {}).items())
            raise LimbeckError(f"{part} was made otherwise ({text}); go on with the same, or --overwrite it.")


def _print_progress(console: Console, text: str) -> None:
    console.print(text, style="dim", soft_wrap=True, markup=False)


def _title(problem: Regression) -> str:
    return f"excess loss of {problem.name}: {problem.dim} features, rank {problem.rank}, {problem.outputs} output(s)"
