"""``limbeck reproduce``: published experiments, one run each or several."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from limbeck.artefact.distilled import Distilled
from limbeck.cli.commands.bounding import reproduce_bound
from limbeck.cli.commands.nas_studies import TITLES as NAS_STUDIES
from limbeck.cli.commands.nas_studies import nas_config, reproduce_nas
from limbeck.cli.commands.pooling import show_progress
from limbeck.cli.commands.shared import (
    baseline_choice,
    checkpoint_of,
    learn_set,
    log_console,
    output,
    parse,
    prepare,
    refuse_idle,
    refuse_many,
    refuse_not_positive,
    result_console,
)
from limbeck.cli.options import Common, ReproduceOptions, SensitivityOptions
from limbeck.cli.tables import reproduction_table, study_table
from limbeck.common.charts import figures_missing
from limbeck.data import canonical_name
from limbeck.errors import LimbeckError, unknown
from limbeck.evaluation.judge import evaluate as run_evaluate
from limbeck.evaluation.result import Evaluation
from limbeck.experiment.config import Config
from limbeck.experiment.console import ConsoleReporter
from limbeck.studies import Study, grid, grid_config, study_names
from limbeck.studies import study as study_named
from limbeck.studies.figures import draw_figures
from limbeck.studies.recipes import Recipe, recipe, recipes, with_soft_labels
from limbeck.studies.run import StudyDirectory, run_study


def reproduce(argv: list[str]) -> int:
    """``limbeck reproduce``."""
    options = parse(ReproduceOptions, argv)
    if options.proxies and options.name not in NAS_STUDIES:
        raise LimbeckError(f"--proxies belongs to {', '.join(NAS_STUDIES)}; leave it out.")
    if options.name == "bound":
        return reproduce_bound(options)
    if options.name in NAS_STUDIES:
        return reproduce_nas(options)
    if options.name in study_names():
        return _reproduce_study(options)
    refuse_not_positive(options, "iterations", "max_time", "n")
    experiment = recipe_named(options.name)
    refuse_idle(options, "networks", why=f"with {options.name}, which needs no trained networks")
    if experiment.config.init.fixed:
        refuse_many(options.n)
    if options.labels == "soft":
        experiment = with_soft_labels(experiment)
    changes: dict[str, Any] = {"max_time": options.max_time}
    if options.iterations is not None:
        changes["iterations"] = options.iterations
    config = dataclasses.replace(
        experiment.config, seed=options.seed, outer=dataclasses.replace(experiment.config.outer, **changes)
    )
    suffix = "-soft" if options.labels == "soft" else ""
    out = options.out or Path("runs") / f"{options.name}{suffix}"
    console = log_console()
    prepare(options, default_threads=checkpoint_of(config, out).threads if options.resume else None)
    run = learn_set(config, out, options, resume=options.resume, overwrite=options.overwrite)
    if not run.info["finished"]:
        console.print("interrupted: nothing is scored; go on with --resume")
        return 130
    result = run_evaluate(
        run,
        n=options.n or experiment.n,
        seed=options.seed,
        baselines=baseline_choice(options.baselines),
        device=options.device,
        data_dir=options.data_dir,
        tell=lambda text: console.print(f"[dim]{text}[/dim]"),
    )
    values = reproduction(result, run, out, experiment.name + suffix, experiment.paper)
    output(values, options.json, None, lambda: result_console().print(reproduction_table(experiment, result, run)))
    return 0


def _reproduce_study(options: ReproduceOptions) -> int:
    """A study: several runs, a table of their scores, and figures where matplotlib is installed."""
    if options.labels != "hard" or options.baselines:
        raise LimbeckError(
            f"{options.name} is a study of several runs; --labels and --baselines belong to single ones."
        )
    study, out = study_named(options.name, options.seed), options.out or Path("runs") / options.name
    if options.networks is not None and not study.pools:
        raise LimbeckError(f"{options.name} needs no trained networks; leave out --networks.")
    if options.networks is not None and options.networks < 8:
        raise LimbeckError(f"--networks is {options.networks}; at least 8 are needed to train, choose and report on.")
    refuse_not_positive(options, "iterations", "max_time", "n")
    settings: dict[str, Any] = {"iterations": options.iterations, "max_time": options.max_time, "n": options.n}
    if study.pools:
        settings["networks"] = options.networks
    return conduct_study(study, out, options, settings, resume=options.resume, overwrite=options.overwrite)


def sensitivity(argv: list[str]) -> int:
    """``limbeck sensitivity``."""
    options = parse(SensitivityOptions, argv)
    refuse_not_positive(options, "iterations", "max_time", "n")
    config = grid_config(options.data, options.learner, options.seed)
    study = grid(config, steps=options.steps, epochs=options.epochs, ipc=options.ipc, n=options.n)
    out = options.out or Path("runs") / f"sensitivity-{canonical_name(options.data)}"
    settings = {"iterations": options.iterations, "max_time": options.max_time, "n": options.n}
    about: dict[str, Any] = {name: list(getattr(options, name)) for name in ("steps", "epochs", "ipc")}
    about |= {"data": options.data, "learner": options.learner}
    return conduct_study(study, out, options, settings, about=about, resume=options.resume, overwrite=options.overwrite)


def conduct_study(
    study: Study,
    out: Path,
    options: Common,
    settings: dict[str, Any],
    *,
    about: dict[str, Any] | None = None,
    resume: bool,
    overwrite: bool,
) -> int:
    """Make or go on with a study, print its rows, draw its figures; ``about`` must be the same when it goes on, too."""
    console = log_console()
    prepare(options)
    StudyDirectory(out).prepare(study, resume=resume, overwrite=overwrite, **settings, **(about or {}))
    with show_progress(console) as watch:
        scores = run_study(
            study,
            out,
            **settings,
            device=options.device,
            data_dir=options.data_dir,
            reporter=ConsoleReporter(console),
            tell=lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True),
            watch=watch,
        )
    if scores is None:
        console.print("interrupted: what is finished is kept; go on with --resume")
        return 130
    rows = study.kind.rows(study, scores)
    values = {"study": study.name, "rows": rows}
    output(values, options.json, None, lambda: result_console().print(study_table(study, rows)))
    missing = figures_missing()
    if missing is None:
        for path in draw_figures(study, out, scores):
            console.print(f"[dim]{path}.png and .svg[/dim]", soft_wrap=True)
    else:
        console.print(f"no figures are drawn. {missing}", soft_wrap=True, markup=False)
    return 0


def reproduction(result: Evaluation, run: Distilled, out: Path, row: str, paper: str) -> dict[str, Any]:
    """The rows of ``limbeck reproduce --json``; ``seconds`` of the learned row is the time it took to learn."""
    rows = result.to_json(run=str(out), paper=paper)["rows"]
    rows[0] |= {"row": row, "seconds": run.info["seconds"]}
    return {"rows": rows}


def config_named(name: str) -> Config:
    """A recipe's configuration, or that of a study's first run."""
    if name in NAS_STUDIES:
        return nas_config(name, 0)
    if name not in study_names():
        return recipe_named(name).config
    study = study_named(name)
    if study.pools:
        raise LimbeckError(f"{name} starts from trained networks; see limbeck pool, limbeck attack and limbeck adapt.")
    return study.variants[0].config


def recipe_named(name: str) -> Recipe:
    """A recipe; where there is none, studies are among the names that could have been meant."""
    if name not in recipes():
        raise unknown("recipe", name, recipe_names())
    return recipe(name)


def recipe_names() -> tuple[str, ...]:
    """What ``reproduce`` knows."""
    return (*recipes(), *study_names(), *NAS_STUDIES, "bound")
