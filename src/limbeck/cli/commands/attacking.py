"""``limbeck attack``: a robustness test of update pipelines."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from limbeck.artefact.distilled import Distilled
from limbeck.attack.config import AttackSettings, attack_config, attack_outer
from limbeck.attack.effect import Effect
from limbeck.attack.report import AttackReport, attack_report, check_report
from limbeck.cli.commands.shared import (
    baseline_choice,
    checkpoint_of,
    explicit_options,
    learn_set,
    log_console,
    output,
    parse,
    prepare,
    result_console,
)
from limbeck.cli.options import AttackOptions, Common, EvaluateOptions
from limbeck.data import TaskData
from limbeck.errors import LimbeckError, unknown
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig
from limbeck.experiment.task import task_of
from limbeck.pools.pool import open_card, validation_networks

REPORT = "attack.json"


def attack(argv: list[str]) -> int:
    """``limbeck attack``."""
    options = parse(AttackOptions, argv)
    console = log_console()
    if options.objective == "paper" and options.keep is not None:
        raise LimbeckError("--keep weighs a term that --objective paper does not have; leave out one of them.")
    keep = (1.0 if options.keep is None else options.keep) if options.objective == "keep" else None
    card = open_card(options.pool)
    source, target = (class_index(name, card["classes"]) for name in (options.source, options.target))
    validate_inits = validation_networks(card["config"]["n"], options.held_out, options.validate_inits)
    budget = explicit_options(options, "iterations", "max_time", "inits", "real_batch")
    settings = AttackSettings(
        images=options.images,
        steps=options.steps,
        epochs=options.epochs,
        step_size=options.step_size,
        start=options.start,
        max_change=options.max_change,
        norm=options.norm,
        valid_pixels=options.valid_pixels,
        held_out=options.held_out,
        seed=options.seed,
    )
    outer = attack_outer(validate_inits=validate_inits, **budget)
    attack_classes = AttackConfig(source=source, target=target, keep=keep)
    config = attack_config(options.pool, attack_classes, settings, outer=outer, card=card, trust=options.trust)
    out = options.out or Path("runs") / f"attack-{options.pool.stem}-{source}-to-{target}"
    prepare(options, default_threads=checkpoint_of(config, out).threads if options.resume else None)
    data = _task(config, card["data"]["sha256"], options, options.data)
    baselines = baseline_choice(options.baselines)
    check_report(config, data, n=options.n, baselines=baselines or (), transfer=options.transfer)
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
        console.print("stopped; nothing is reported; go on with --resume")
        return 130
    return _report(run, data, options, out)


def report_on(run: Distilled, options: EvaluateOptions) -> int:
    """``limbeck evaluate`` on an attack: the same report."""
    if options.learners or options.every_step or options.protocol:
        raise LimbeckError(
            "--learners, --every-step and --protocol do not belong to an attack; see limbeck attack --transfer."
        )
    prepare(options)
    data = _task(run.config, run.info["data"]["sha256"], options, options.data)
    return _report(run, data, options, options.run)


def _task(config: Config, sha256: str, options: Common, source: str | None = None) -> TaskData:
    """The data that the pool was trained on, split as then, so that no network has seen what selection looks at."""
    data = task_of(config, data_dir=options.data_dir, device=options.device, source=source)
    if data.sha256 != sha256:
        where = source or config.data
        raise LimbeckError(f"{where} is not the data that the pool was trained on; name the same with --data.")
    return data


def _report(run: Distilled, data: TaskData, options: AttackOptions | EvaluateOptions, out: Path) -> int:
    """Print the report; ``limbeck attack`` keeps it in the run directory, ``limbeck evaluate`` where it is told to."""
    console = log_console()
    report = attack_report(
        run,
        data,
        n=options.n,
        seed=options.seed,
        baselines=baseline_choice(options.baselines),
        transfer=options.transfer if isinstance(options, AttackOptions) else (),
        trust=options.trust,
        device=options.device,
        tell=lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True),
    )
    values = report.to_json(run=str(out))
    where = options.out if isinstance(options, EvaluateOptions) else out / REPORT
    output(values, options.json, where, lambda: result_console().print(*tables(report)))
    return 0


def class_index(name: str, classes: list[str]) -> int:
    """The index of a class, given its name or that number."""
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise unknown("class", name, classes)


def tables(report: AttackReport) -> list[Table]:
    """Three tables: what the batch does, what defences do about it, and how it differs from real data."""
    source, target = (report.class_names[k] for k in (report.attack.source, report.attack.target))
    effect = Table(title=f"{source} taken for {target}, {report.info['n']} held-out networks (%)", title_justify="left")
    effect.add_column("batch")
    for column in (f"{source}→{target}", "other classes", "all", "step size"):
        effect.add_column(column, justify="right", no_wrap=True)
    effect.add_row("none", *_cells(report.learned_row.before), "")
    for row in report.rows:
        step = "learned" if row.step_size is None else f"{row.step_size:.3g}"
        effect.add_row(row.row, *_cells(row.after), step)
    defences = Table(
        title="behind defences",
        title_justify="left",
        caption="the attack's step, then steps on honest batches: accuracy on validation data, part of them that is "
        "taken, length of the update against the undefended one",
        caption_justify="left",
    )
    defences.add_column("defence")
    for column in (f"{source}→{target} %", "step taken %", "honest: accuracy %", "step taken %", "length"):
        defences.add_column(column, justify="right", no_wrap=True)
    for result in report.defences:
        defences.add_row(
            result.row,
            f"{result.rate:.1f} ± {result.rate_std:.1f}",
            f"{result.accepted:.0f}",
            f"{result.honest_accuracy:.2f}",
            f"{result.honest_accepted:.0f}",
            f"{result.honest_kept:.2f}",
        )
    d = report.difference
    difference = Table(title="the batch against real ones", title_justify="left")
    for column in ("", "this batch", "real"):
        difference.add_column(column, justify="left" if not column else "right")
    difference.add_row("gradient norm", f"{d.gradient_norm:.3g}", f"{d.honest_gradient_norm:.3g}")
    difference.add_row("longer than 95 % of the real ones", f"{d.above:.0f} % of the networks", "5 %")
    difference.add_row("loss", f"{d.loss:.3g}", f"{d.honest_loss:.3g}")
    difference.add_row("distance to the nearest training image", f"{d.neighbour:.3g}", f"{d.honest_neighbour:.3g}")
    difference.add_row("whose label is another", f"{d.wrong_neighbours:.0f} %", f"{d.honest_wrong_neighbours:.0f} %")
    difference.add_row("pixels out of range", f"{d.out_of_range:.1f} %", "0 %")
    return [effect, defences, difference]


def _cells(effect: Effect) -> list[str]:
    """Rate, accuracy on the other classes and on all, in percent: mean ± standard deviation over networks."""
    cells = []
    for values in (effect.rate_B, effect.others_B, effect.accuracy_B):
        spread = f" ± {float(values.std()):.1f}" if len(values) > 1 else ""
        cells.append(f"{float(values.mean()):.1f}{spread}")
    return cells
