"""``limbeck distill``, ``evaluate``, ``show`` and ``export``: make a run and look at it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from limbeck.artefact.distilled import Distilled
from limbeck.cli.commands.attacking import report_on
from limbeck.cli.commands.reproducing import config_named
from limbeck.cli.commands.shared import (
    COMPUTING,
    baseline_choice,
    log_console,
    output,
    parse,
    prepare,
    print_json,
    refuse_idle,
    refuse_many,
    result_console,
    value_of,
)
from limbeck.cli.options import DistillOptions, EvaluateOptions, ExportOptions, ShowOptions
from limbeck.cli.options.unions import choose_members, owners_of_flags
from limbeck.cli.pictures import print_images
from limbeck.cli.tables import class_table, curve_table, evaluation_table, show_table
from limbeck.common.idle import IdleOptionError, reset_option
from limbeck.data import canonical_name
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import evaluate as run_evaluate
from limbeck.evaluation.training import LearnedSchedule, OrdinaryTraining
from limbeck.evaluation.usage import Protocol
from limbeck.experiment.config import Config
from limbeck.experiment.console import ConsoleReporter
from limbeck.experiment.progress import Reporter, Several
from limbeck.experiment.task import task_of
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.defaults import SIZES
from limbeck.outer.loop import distill as run_distill

FIRST: Final = (
    "[DATA]", "--recipe", "--learner", "--ipc", "--steps", "--epochs", "--init", "--iterations", "--max-time", "--out",
    "--resume", "--seed", "--device",
)  # fmt: skip
"""The options that matter most, which ``limbeck distill --help`` shows."""


def distill(argv: list[str]) -> int:
    """``limbeck distill``."""
    if not argv:
        plain = Config()
        raise LimbeckError(
            f"'limbeck distill' learns a training set; on its own it would take {plain.data}, {plain.learner} and "
            f"{plain.outer.iterations} iterations, half an hour. Name the data and a time: limbeck distill "
            f"{plain.data} --max-time 150 --out runs/{plain.data}, or see 'limbeck distill --help'."
        )
    console = log_console()
    recipe = value_of(argv, "--recipe")
    base = Config() if recipe is None else config_named(recipe)
    options, default = _distill_options(
        argv, base, lambda text: console.print(f"[dim]recipe {recipe}: {text}[/dim]", soft_wrap=True)
    )
    config = options.config if options.data is None else dataclasses.replace(options.config, data=options.data)
    free = frozenset(name for name in (*SIZES, "learner") if not _names(argv, name)) if recipe is None else None
    if options.data is not None and options.config.data not in (options.data, default.config.data):
        raise LimbeckError(f"{options.data} and --data {options.config.data} are two data sets; name one of them.")
    if options.resume is not None and options.out not in (None, options.resume):
        raise LimbeckError("--resume names the run to go on with; leave out --out.")
    if options.resume is not None and _names_settings(options):
        raise LimbeckError(
            "--resume goes on with the settings that the run began with; leave out the others (but --max-time and "
            "--iterations give it more, over all sittings, and --init pool:FILE tells where its pool is now)."
        )
    init = config.init.init.split(":")[0]
    out = options.resume or options.out or Path("runs") / f"{canonical_name(config.data)}-{init}"
    if options.resume is None:
        refuse_idle(options, "trust", why="without --resume")
    reporters: list[Reporter] = [ConsoleReporter(console, folder=out)]
    if options.tensorboard:
        from limbeck.outer.tensorboard import TensorBoardReporter

        reporters.append(TensorBoardReporter(out / "tensorboard"))
    prepare(options, default_threads=None if options.resume is None else Checkpoint.load(options.resume).threads)
    result = run_distill(
        config,
        out=out,
        device=options.device,
        data_dir=options.data_dir,
        resume=options.resume is not None,
        overwrite=options.overwrite,
        trust=options.trust,
        iterations=_new_budget(argv, options, "iterations"),
        max_time=_new_budget(argv, options, "max_time"),
        verdict=options.verdict,
        free=free,
        reporter=Several(reporters),
    )
    if options.json:
        print_json({"run": str(out), **result.summary()})
    else:
        own = f" --learner {config.learner}" if config.learner in result.config.code else ""
        console.print(
            f"[bold]{out}[/bold]: look at it with 'limbeck show {out}', judge it with 'limbeck evaluate {out}{own}'",
            soft_wrap=True,
        )
    if result.verdict is not None:  # the last line, whatever else is said
        console.print(result.verdict.sentence, style="" if result.verdict.word == "above" else "bold", soft_wrap=True)
    return 0 if result.info["finished"] else 130


def _distill_options(
    argv: list[str], base: Config, tell: Callable[[str], None]
) -> tuple[DistillOptions, DistillOptions]:
    """The options and their defaults, which are those of ``base`` without what does nothing beside the words given.

    Raises:
        IdleOptionError: an option that does nothing is among the words.
        LimbeckError: words that are no options, or values that do not fit.
    """
    try:
        default = DistillOptions(config=choose_members(base, partial(value_of, argv)))
        return parse(DistillOptions, argv, default, owners_of_flags(), FIRST), default
    except IdleOptionError as error:
        without = reset_option(base, error.option)
        if without == base:
            raise
        if not _names(argv, error.option):
            tell(f"{error.option} {error.value} does nothing {error.why}, and is left out")
        return _distill_options(argv, without, tell)


def _names(argv: list[str], name: str) -> bool:
    """Whether an option is among the words."""
    return any(word.split("=")[0].replace("_", "-") == f"--{name.replace('_', '-')}" for word in argv)


def _names_settings(options: DistillOptions) -> bool:
    """Whether anything is said about what to learn, besides where a pool is."""
    config, plain = options.config, Config()
    if config.init.pooled:
        config = dataclasses.replace(config, init=dataclasses.replace(config.init, init=plain.init.init))
    budgets = {name: getattr(plain.outer, name) for name in ("iterations", "max_time")}
    config = dataclasses.replace(config, outer=dataclasses.replace(config.outer, **budgets))
    return config != plain or options.data is not None or options.recipe is not None


def _new_budget(argv: list[str], options: DistillOptions, name: str) -> Any:
    """What a run that goes on is given from now on; None to leave it as it was."""
    named = options.resume is not None and value_of(argv, f"--{name.replace('_', '-')}") is not None
    return getattr(options.config.outer, name) if named else None


def evaluate(argv: list[str]) -> int:
    """``limbeck evaluate``."""
    options = parse(EvaluateOptions, argv)
    run = Distilled.load(options.run, trust=options.trust, learner=options.learner)
    if options.training != OrdinaryTraining() and options.protocol == "learned":
        raise LimbeckError("Options of ordinary training do nothing with --protocol learned; leave them out.")
    if run.config.attack is not None:
        return report_on(run, options)
    if run.config.init.fixed and not options.learners:
        refuse_many(options.n)
    console = log_console()
    prepare(options)
    task = None
    if options.data is not None:
        task = task_of(run.config, data_dir=options.data_dir, device=options.device, source=options.data)
    result = run_evaluate(
        run,
        task,
        n=options.n,
        seed=options.seed,
        baselines=baseline_choice(options.baselines),
        learners=options.learners,
        every_step=options.every_step,
        training=None if options.training == OrdinaryTraining() else options.training,
        protocol=options.protocol or _protocol_for(run),
        device=options.device,
        data_dir=options.data_dir,
        tell=lambda text: console.print(f"[dim]{text}[/dim]"),
    )
    values = result.to_json(run=str(options.run))
    tables = [evaluation_table(result), class_table(result)]
    if options.every_step:
        tables.append(curve_table(result))
    output(values, options.json, options.out, lambda: result_console().print(*tables))
    return 0


def _protocol_for(run: Distilled) -> Protocol:
    """Both where steps were learned, but for a fixed initialisation, from which nobody trains ordinarily."""
    if not isinstance(run.training, LearnedSchedule):
        return "ordinary"
    return "learned" if run.config.init.fixed else "both"


def show(argv: list[str]) -> int:
    """``limbeck show``."""
    options = parse(ShowOptions, argv)
    refuse_idle(options, *COMPUTING, "data_dir", why="with 'limbeck show', which only reads a run")
    run = Distilled.load(options.run, trust=options.trust)
    if options.out is not None:
        from limbeck.artefact.preview import preview
        from limbeck.common.files import write_atomically

        picture = preview(run)
        write_atomically(options.out, lambda part: picture.save(part, format="PNG"))
    if options.json:
        print_json({"run": str(options.run), **run.summary()})
    else:
        console = result_console()
        print_images(console, run)
        console.print(show_table(run, options.run))
    return 0


def export(argv: list[str]) -> int:
    """``limbeck export``."""
    from limbeck.artefact.exporters import EXPORTERS
    from limbeck.artefact.exporting import export as write
    from limbeck.artefact.exporting import exporter_named

    options = parse(ExportOptions, argv)
    exporter = EXPORTERS[0] if options.format is None else exporter_named(options.format)
    out = options.out or options.run / f"images{exporter.suffix}"
    run = Distilled.load(options.run, trust=options.trust)
    count = write(run, out, format=options.format, overwrite=options.overwrite)
    if options.json:
        print_json({"run": str(options.run), "path": str(out), "images": count})
    else:
        print(f"{count} images in {out}")
    return 0
