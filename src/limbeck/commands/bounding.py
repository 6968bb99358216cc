"""``limbeck bound``: how few images can do, for linear regression."""

from __future__ import annotations

from rich.console import Console

from limbeck.bound import draw_bound, run_bound
from limbeck.commands.shared import log_console, output, parse, prepare
from limbeck.figures import figures_missing
from limbeck.options import BoundOptions
from limbeck.problems import problem as problem_named
from limbeck.tables import bound_table


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
    values = {"problem": problem.name, "note": problem.note, "floor": problem.floor, "rows": rows}
    where = None if options.out is None else options.out / "bound.json"
    title = f"excess loss of {problem.name}: {problem.dim} features, rank {problem.rank}, {problem.outputs} output(s)"
    output(values, options.json, where, lambda: Console().print(bound_table(rows, title)))
    if options.out is not None:
        missing = figures_missing()
        if missing is None:
            draw_bound(problem, rows, options.out / "bound")
            console.print(f"{options.out / 'bound'}.png and .svg", style="dim", soft_wrap=True, markup=False)
        else:
            console.print(f"no figure is drawn. {missing}", soft_wrap=True, markup=False)
    return 0
