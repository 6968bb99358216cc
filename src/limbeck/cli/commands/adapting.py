"""``limbeck adapt``: move trained networks from one data set to another."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from limbeck.cli.commands.shared import (
    baseline_choice,
    checkpoint_of,
    explicit_options,
    learn_set,
    log_console,
    output,
    parse,
    prepare,
    refuse_idle,
    refuse_not_positive,
    result_console,
)
from limbeck.cli.options import AdaptOptions
from limbeck.cli.tables import class_table, evaluation_table
from limbeck.data import canonical_name
from limbeck.evaluation.baselines import FINE_TUNING, baseline_names
from limbeck.evaluation.judge import evaluate
from limbeck.experiment.task import task_of
from limbeck.pools.adapt import AdaptSettings, adapt_config, adapt_outer
from limbeck.pools.pool import open_card, validation_networks


def adapt(argv: list[str]) -> int:
    """``limbeck adapt``."""
    options = parse(AdaptOptions, argv)
    refuse_not_positive(options, "n")
    if options.network is not None:
        refuse_idle(options, "validate_inits", why="with --network, which is a single one")
    console = log_console()
    out = options.out or Path("runs") / f"{options.pool.stem}-to-{canonical_name(options.to)}"
    card = open_card(options.pool)
    selection = {"validate_inits": validation_networks(card["config"]["n"], options.held_out, options.validate_inits)}
    changes = explicit_options(options, "iterations", "max_time", "inits", "real_batch", "validate_inits")
    config = adapt_config(
        options.pool,
        options.to,
        _settings(options),
        outer=adapt_outer(options.network, **(selection | changes)),
        card=card,
        trust=options.trust,
        data_dir=options.data_dir,
    )
    prepare(options, default_threads=checkpoint_of(config, out).threads if options.resume else None)
    data = task_of(config, data_dir=options.data_dir, device=options.device)
    run = learn_set(
        config,
        out,
        options,
        resume=options.resume,
        overwrite=options.overwrite,
        trust=options.trust,
        data=data,
    )
    if not run.info["finished"]:
        console.print("stopped; nothing is scored; go on with --resume")
        return 130
    names = baseline_choice(options.baselines)
    result = evaluate(
        run,
        data,
        n=options.n,
        seed=options.seed,
        baselines=(*baseline_names(), FINE_TUNING) if names is None else names,
        device=options.device,
        tell=lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True),
    )
    values = result.to_json(run=str(out))
    output(
        values,
        options.json,
        out / "score.json",
        lambda: result_console().print(evaluation_table(result), class_table(result)),
    )
    return 0


def _settings(options: AdaptOptions) -> AdaptSettings:
    """Those options that are settings of an adaptation."""
    return AdaptSettings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(AdaptSettings)})
