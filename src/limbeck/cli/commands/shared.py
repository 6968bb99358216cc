"""What every verb does: parse its options, set up the process, print its result."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from limbeck.artefact.distilled import Distilled
from limbeck.cli.allocator import tune_allocator
from limbeck.cli.options import Common
from limbeck.cli.parser import parse_words
from limbeck.common.devices import usable_device
from limbeck.common.files import write_json
from limbeck.data import TaskData
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.console import ConsoleReporter
from limbeck.experiment.task import with_pool_digest
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.loop import distill

WIDE: Final = 160
"""Columns of tables that go to a file or a pipe."""

COMPUTING: Final = ("device", "threads", "lean")
"""Options of every verb that say how to compute."""

Options = TypeVar("Options", bound="Common")


def parse(
    kind: type[Options],
    argv: list[str],
    default: Options | None = None,
    owners: Mapping[str, str] = MappingProxyType({}),
    first: Sequence[str] = (),
) -> Options:
    """The options of a verb, which is what their class is called after; the rest as ``parse_words`` has it."""
    verb = kind.__name__.removesuffix("Options").lower()
    options = parse_words(kind, f"limbeck {verb}", argv, default, owners, first)
    if getattr(options, "resume", None) and getattr(options, "overwrite", False):
        raise LimbeckError("--resume goes on with what is there and --overwrite begins anew; give one of them.")
    return options


def value_of(argv: list[str], flag: str) -> str | None:
    """The value of an option that decides the defaults of the others, before the parser runs."""
    value = None
    for index, word in enumerate(argv):
        if word == flag and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(f"{flag}="):
            value = word.removeprefix(f"{flag}=")
    return value


def prepare(options: Common, default_threads: int | None = None) -> None:
    """Set up the process as the options say."""
    threads = default_threads if options.threads is None else options.threads
    if threads is not None:
        if threads < 1:
            raise LimbeckError(f"--threads is {threads}; it must be at least 1.")
        torch.set_num_threads(threads)
    usable_device(options.device)
    tune_allocator(options.lean)


def result_console() -> Console:
    """Stdout; where that is no terminal, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDE))


def progress_bar(console: Console) -> Progress:
    """Percent, elapsed time and ETA of a piece of work, gone when it is over."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console, transient=True)


def log_console() -> Console:
    """Where people are told what goes on: stderr."""
    return Console(stderr=True, highlight=False)


def print_json(values: dict[str, Any]) -> None:
    """Exactly one JSON object on stdout."""
    sys.stdout.write(json.dumps(values, allow_nan=False) + "\n")
    sys.stdout.flush()


def output(values: dict[str, Any], as_json: bool, out: Path | None, table: Callable[[], None]) -> None:
    """Results to the file ``out``, if one is named, and to stdout, as JSON or as a table for people."""
    if out is not None:
        write_json(out, values)
    if as_json:
        print_json(values)
    else:
        table()


def baseline_choice(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The baselines that were named; the word ``none`` stands for no baseline."""
    return () if names == ("none",) else names


def explicit_options(options: Common, *names: str) -> dict[str, Any]:
    """Those of the options that are not left at None, by name."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def refuse_not_positive(options: Common, *names: str) -> None:
    """Raise LimbeckError for an option that is given and not above 0."""
    for name, value in explicit_options(options, *names).items():
        if not value > 0:
            raise LimbeckError(f"--{name.replace('_', '-')} is {value}; it must be a positive number.")


def refuse_many(n: int | None) -> None:
    """Raise LimbeckError for an ``--n`` other than 1 where the initial weights are fixed."""
    if n not in (None, 1):
        raise LimbeckError(f"--n is {n}, but a fixed initialisation is a single one; leave it out.")


def refuse_idle(options: Common, *names: str, why: str) -> None:
    """Raise LimbeckError for an option that is given but does nothing here; ``why`` says why, after "do nothing"."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    idle = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != defaults[name]]
    if idle:
        *others, last = idle
        text = f"{', '.join(others)} and {last} do" if others else f"{last} does"
        raise LimbeckError(f"{text} nothing {why}; leave {'them' if others else 'it'} out.")


def checkpoint_of(config: Config, out: Path) -> Checkpoint:
    """The checkpoint of a run that is to go on.

    Raises:
        LimbeckError: none is there, or the run began with other settings or another pool.
    """
    checkpoint = Checkpoint.load(out)
    ours, wanted = Config.from_json(checkpoint.config, out).settled(), config.settled()
    if ours.init.pool_sha256 is not None and config.init.pooled:
        wanted = with_pool_digest(wanted)
        if wanted.init.pool_sha256 != ours.init.pool_sha256:
            raise LimbeckError(
                f"The run in {out} began with another pool than {config.init.pool}; name that one, or choose another "
                "--out."
            )
    before, now = dict(_settings(ours.to_json())), dict(_settings(wanted.to_json()))
    # Digests tell whether pool and data are the same, wherever they lie.
    moved = {"data", "val_size", "split_seed", "init pool_sha256"} | ({"init init"} if config.init.pooled else set())
    for name in [name for name in now if name not in moved]:
        if before.get(name) != now[name]:
            raise LimbeckError(
                f"The run in {out} began with {name} {before.get(name)}, not {now[name]}; go on with the same options, "
                "or replace it with --overwrite."
            )
    return checkpoint


def _settings(values: dict[str, Any], part: str = "") -> Iterator[tuple[str, Any]]:
    """All of a configuration, the parts within parts too."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{name} ")
        else:
            yield part + name, value


def learn_set(
    config: Config,
    out: Path,
    options: Common,
    *,
    resume: bool,
    overwrite: bool,
    trust: bool = False,
    data: TaskData | None = None,
) -> Distilled:
    """The set that is learned in a run directory, with progress on the console."""
    return distill(
        config,
        data,
        out=out,
        device=options.device,
        data_dir=options.data_dir,
        resume=resume,
        overwrite=overwrite,
        trust=trust,
        reporter=ConsoleReporter(log_console()),
    )
