"""The verbs of the command line, a function each; their options are in ``limbeck.options``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from limbeck.checkpoint import Checkpoint
from limbeck.config import Config
from limbeck.data import available, get, load
from limbeck.distill import distill as run_distill
from limbeck.distilled import Distilled
from limbeck.errors import LimbeckError, unknown
from limbeck.evaluate import Evaluation
from limbeck.evaluate import evaluate as run_evaluate
from limbeck.figures import figures_missing
from limbeck.memory import tune_allocator
from limbeck.options import (
    Common,
    DataOptions,
    DistillOptions,
    EvaluateOptions,
    ExportOptions,
    ReproduceOptions,
    ShowOptions,
)
from limbeck.progress import ConsoleReporter, Reporter, Several
from limbeck.recipes import Recipe, recipe, recipes, with_soft_labels
from limbeck.reproduction import StudyDirectory, draw_figures, run_study, summary
from limbeck.studies import study, study_names
from limbeck.tables import (
    class_table,
    curve_table,
    data_table,
    evaluation_table,
    print_images,
    reproduction_table,
    show_table,
    study_table,
)

Options = TypeVar("Options", bound="Common")


def distill(argv: list[str]) -> int:
    """``limbeck distill``."""
    chosen = _value_of(argv, "--recipe")
    default = DistillOptions() if chosen is None else DistillOptions(config=_settings(chosen))
    options = _parse(DistillOptions, argv, default)
    config = options.config if options.data is None else _replace(options.config, data=options.data)
    if options.resume is not None and options.out not in (None, options.resume):
        raise LimbeckError("--resume names the run to go on with; leave out --out.")
    out = options.resume or options.out or Path("runs") / f"{Path(config.data).stem}-{config.init.init.split(':')[0]}"
    console = _console()
    console.print(f"[dim]run directory: {out}[/dim]", soft_wrap=True)
    reporters: list[Reporter] = [ConsoleReporter(console)]
    if options.tensorboard:
        from limbeck.events import TensorBoardReporter

        reporters.append(TensorBoardReporter(out / "tensorboard"))
    _prepare(options, default_threads=None if options.resume is None else Checkpoint.load(options.resume).threads)
    result = run_distill(
        config,
        out=out,
        device=options.device,
        data_dir=options.data_dir,
        resume=options.resume is not None,
        overwrite=options.overwrite,
        reporter=Several(reporters),
    )
    if options.json:
        _print_json({"run": str(out), **result.summary()})
    else:
        console.print(
            f"[bold]{out}[/bold]: look at it with 'limbeck show {out}', judge it with 'limbeck evaluate {out}'",
            soft_wrap=True,
        )
    return 0 if result.info["finished"] else 130


def evaluate(argv: list[str]) -> int:
    """``limbeck evaluate``."""
    options = _parse(EvaluateOptions, argv)
    run = Distilled.load(options.run)
    console = _console()
    _prepare(options)
    task = None
    if options.data is not None:
        size, split_seed = run.config.val_size, run.config.seed
        task = load(options.data, data_dir=options.data_dir, device=options.device, val_size=size, seed=split_seed)
    result = run_evaluate(
        run,
        task,
        n=options.n,
        seed=options.seed,
        baselines=_baselines(options.baselines),
        learners=options.learners,
        every_step=options.every_step,
        device=options.device,
        data_dir=options.data_dir,
        tell=lambda text: console.print(f"[dim]{text}[/dim]"),
    )
    values = result.to_json(run=str(options.run))
    tables = [evaluation_table(result), class_table(result)]
    if options.every_step:
        tables.append(curve_table(result))
    _output(values, options.json, options.out, lambda: Console().print(*tables))
    return 0


def show(argv: list[str]) -> int:
    """``limbeck show``."""
    options = _parse(ShowOptions, argv)
    run = Distilled.load(options.run)
    if options.out is not None:
        from limbeck.preview import preview
        from limbeck.storage import write_atomically

        picture = preview(run)
        write_atomically(options.out, lambda part: picture.save(part, format="PNG"))
    if options.json:
        _print_json({"run": str(options.run), **run.summary()})
    else:
        console = Console()
        print_images(console, run)
        console.print(show_table(run, options.run))
    return 0


def export(argv: list[str]) -> int:
    """``limbeck export``."""
    from limbeck.export import export as write

    options = _parse(ExportOptions, argv)
    out = options.out or options.run / "images.npz"
    count = write(Distilled.load(options.run), out, overwrite=options.overwrite)
    if options.json:
        _print_json({"run": str(options.run), "path": str(out), "images": count})
    else:
        print(f"{count} images in {out}")
    return 0


def data(argv: list[str]) -> int:
    """``limbeck data``."""
    options = _parse(DataOptions, argv)
    if options.action == "list":
        rows = available(options.data_dir)
        _output(
            {"data": [row.to_json() for row in rows]},
            options.json,
            options.out,
            lambda: Console().print(data_table(rows)),
        )
        return 0
    if options.name is None:
        raise LimbeckError("'limbeck data get' needs the name of a data set; 'limbeck data list' shows them.")
    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def advance(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done, total=total)

        where = get(options.name, data_dir=options.out or options.data_dir, url_base=options.url, progress=advance)
    if options.json:
        _print_json({"name": options.name, "path": str(where)})
    else:
        print(where)
    return 0


def reproduce(argv: list[str]) -> int:
    """``limbeck reproduce``."""
    options = _parse(ReproduceOptions, argv)
    if options.name in study_names():
        return _reproduce_study(options)
    chosen = _recipe(options.name)
    if options.labels == "soft":
        chosen = with_soft_labels(chosen)
    changes: dict[str, Any] = {"max_time": options.max_time}
    if options.iterations is not None:
        changes["iterations"] = options.iterations
    config = _replace(chosen.config, seed=options.seed, outer=_replace(chosen.config.outer, **changes))
    suffix = "-soft" if options.labels == "soft" else ""
    out = options.out or Path("runs") / f"{options.name}{suffix}"
    console = _console()
    _prepare(options)
    run = run_distill(
        config,
        out=out,
        device=options.device,
        data_dir=options.data_dir,
        resume=options.resume,
        overwrite=options.overwrite,
        reporter=ConsoleReporter(console),
    )
    if not run.info["finished"]:
        console.print("interrupted: nothing is scored; go on with --resume")
        return 130
    result = run_evaluate(
        run,
        n=options.n or chosen.n,
        seed=options.seed,
        baselines=_baselines(options.baselines),
        device=options.device,
        data_dir=options.data_dir,
        tell=lambda text: console.print(f"[dim]{text}[/dim]"),
    )
    values = reproduction(result, run, out, chosen.name + suffix, chosen.paper)
    _output(values, options.json, None, lambda: Console().print(reproduction_table(chosen, result, run)))
    return 0


def _reproduce_study(options: ReproduceOptions) -> int:
    """A study: several runs, a table of their scores, and figures where matplotlib is installed."""
    if options.labels != "hard" or options.baselines:
        raise LimbeckError(
            f"{options.name} is a study of several runs; --labels and --baselines belong to single ones."
        )
    chosen, out = study(options.name, options.seed), options.out or Path("runs") / options.name
    for name in ("iterations", "max_time", "n"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise LimbeckError(f"--{name.replace('_', '-')} is {value}; it must be a positive number.")
    console = _console()
    _prepare(options)
    settings = {"iterations": options.iterations, "max_time": options.max_time, "n": options.n}
    StudyDirectory(out).prepare(chosen, resume=options.resume, overwrite=options.overwrite, **settings)
    scores = run_study(
        chosen,
        out,
        iterations=options.iterations,
        max_time=options.max_time,
        n=options.n,
        device=options.device,
        data_dir=options.data_dir,
        reporter=ConsoleReporter(console),
        tell=lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True),
    )
    if scores is None:
        console.print("interrupted: what is finished is kept; go on with --resume")
        return 130
    rows = summary(chosen, scores)
    values = {"study": chosen.name, "rows": rows}
    _output(values, options.json, None, lambda: Console().print(study_table(chosen, rows)))
    missing = figures_missing()
    if missing is None:
        for path in draw_figures(chosen, out, scores):
            console.print(f"[dim]{path}.png and .svg[/dim]", soft_wrap=True)
    else:
        console.print(f"no figures are drawn. {missing}", soft_wrap=True, markup=False)
    return 0


def reproduction(result: Evaluation, run: Distilled, out: Path, row: str, paper: str) -> dict[str, Any]:
    """The rows of ``limbeck reproduce --json``; ``seconds`` of the learned row is the time it took to learn."""
    rows = result.to_json(run=str(out), paper=paper)["rows"]
    rows[0] |= {"row": row, "seconds": run.info["seconds"]}
    return {"rows": rows}


def _settings(name: str) -> Config:
    """A recipe's configuration, or that of a study's first run."""
    return study(name).variants[0].config if name in study_names() else _recipe(name).config


def _recipe(name: str) -> Recipe:
    """A recipe; where there is none, studies are among the names that could have been meant."""
    if name not in recipes():
        raise unknown("recipe", name, recipe_names())
    return recipe(name)


def recipe_names() -> tuple[str, ...]:
    """What ``reproduce`` knows."""
    return (*recipes(), *study_names())


def _parse(kind: type[Options], argv: list[str], default: Options | None = None) -> Options:
    verb = kind.__name__.removesuffix("Options").lower()
    config = (tyro.conf.ConsolidateSubcommandArgs,)
    if default is None:
        return tyro.cli(kind, prog=f"limbeck {verb}", args=argv, config=config)
    return tyro.cli(kind, prog=f"limbeck {verb}", args=argv, default=default, config=config)


def _baselines(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The baselines that were named; the word ``none`` stands for no baseline."""
    return () if names == ("none",) else names


def _value_of(argv: list[str], flag: str) -> str | None:
    """The value of an option that decides the defaults of the others, before the parser runs."""
    for index, word in enumerate(argv):
        if word == flag and index + 1 < len(argv):
            return argv[index + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None


def _replace(config: Any, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(config, **changes)


def _prepare(options: Common, default_threads: int | None = None) -> None:
    """Set up the process as the options say."""
    threads = default_threads if options.threads is None else options.threads
    if threads is not None:
        if threads < 1:
            raise LimbeckError(f"--threads is {threads}; it must be at least 1.")
        torch.set_num_threads(threads)
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise LimbeckError(f"--device {options.device} cannot be used here ({reason}); try --device cpu.") from None
    tune_allocator(options.lean)


def _console() -> Console:
    return Console(stderr=True, highlight=False)


def _print_json(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values, allow_nan=False) + "\n")
    sys.stdout.flush()


def _output(values: dict[str, Any], as_json: bool, out: Path | None, table: Any) -> None:
    if out is not None:
        from limbeck.storage import write_json

        write_json(out, values)
    if as_json:
        _print_json(values)
    else:
        table()
