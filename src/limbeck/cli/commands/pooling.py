"""``limbeck pool``: train many networks at once and keep them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from limbeck.cli.commands.shared import log_console, output, parse, prepare, progress_bar, result_console
from limbeck.cli.options import PoolOptions
from limbeck.data import canonical_name, load
from limbeck.errors import LimbeckError
from limbeck.pools.parts import read_threads
from limbeck.pools.pool import open_card
from limbeck.pools.train import PoolProgress, Watch, make_pool


def pool(argv: list[str]) -> int:
    """``limbeck pool``."""
    options = parse(PoolOptions, argv)
    if options.action == "show":
        return _show_card(options)
    console = log_console()
    config = options.config
    path = options.out or default_path(options.data, config.learner)
    prepare(options, default_threads=read_threads(path) if options.resume else None)
    data = load(
        options.data, data_dir=options.data_dir, device=options.device, val_size=config.val_size, seed=config.seed
    )
    with show_progress(console) as watch:
        trained = make_pool(
            config,
            data,
            path,
            device=options.device,
            resume=options.resume,
            overwrite=options.overwrite,
            watch=watch,
            tell=lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True),
        )
    if trained is None:
        console.print("stopped; what is trained is kept, go on with --resume", soft_wrap=True)
        return 130
    _output(trained.card, path, options)
    return 0


def _show_card(options: PoolOptions) -> int:
    """``limbeck pool show``."""
    plain = PoolOptions(action="show", data=options.data)
    for name in ("out", "resume", "overwrite", "config"):
        if getattr(options, name) != getattr(plain, name):
            what = "settings of training do" if name == "config" else f"option --{name} does"
            raise LimbeckError(f"The {what} nothing with 'limbeck pool show', which only reads a file.")
    path = Path(options.data)
    _output(open_card(path), path, options)
    return 0


def default_path(data: str, learner: str) -> Path:
    """The file of a pool that is given no place: runs/pools/DATA-LEARNER.safetensors."""
    return Path("runs") / "pools" / f"{canonical_name(data)}-{learner.replace(':', '.')}.safetensors"


@contextmanager
def show_progress(console: Console) -> Iterator[Watch]:
    """What shows the progress of pools, one after the other: a bar on a terminal, a line for every tenth elsewhere."""
    tenths: dict[int, int] = {}

    def print_tenth(progress: PoolProgress) -> None:
        tenth = int(10 * progress.done / progress.total)
        if tenth > tenths.get(progress.total, 0):
            tenths[progress.total] = tenth
            console.print(f"[dim]{progress.done:.0f} of {progress.total} networks[/dim]")

    if not console.is_terminal:
        yield print_tenth
        return
    bar = progress_bar(console)
    task: list[Any] = []

    def move_bar(progress: PoolProgress) -> None:
        if not task:
            bar.start()
            task.append(bar.add_task("training networks"))
        bar.update(task[0], completed=progress.done, total=progress.total)
        if progress.done >= progress.total:  # what comes next may have a bar of its own
            bar.stop()
            bar.remove_task(task.pop())

    try:
        yield move_bar
    finally:
        bar.stop()


def _output(card: dict[str, Any], path: Path, options: PoolOptions) -> None:
    """Print a card, for people or as JSON."""
    values = {"path": str(path), "n": len(card["validation_accuracy"]), **card}
    output(values, options.json, None, lambda: result_console().print(_table(card, path)))


def _table(card: dict[str, Any], path: Path) -> Table:
    table = Table(title=str(path), title_justify="left", show_header=False)
    rows = {
        "networks": f"{len(card['validation_accuracy'])} x {card['config']['learner']}",
        "data": f"{card['data']['name']}  sha256 {card['data']['sha256'][:16]}…",
        "validation accuracy": _summary(card["validation_accuracy"]),
        "test accuracy": _summary(card["test_accuracy"]),
        "trained": f"{card['config']['steps']} steps of {card['config']['batch']}, {card['seconds']:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _summary(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread} %, worst {min(values):.2f}"
