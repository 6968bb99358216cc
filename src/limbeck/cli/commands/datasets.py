"""``limbeck data``: the known data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from limbeck.cli.commands.shared import COMPUTING, log_console, output, parse, print_json, refuse_idle, result_console
from limbeck.cli.options import DataOptions
from limbeck.cli.tables import data_table
from limbeck.data import available, get
from limbeck.errors import LimbeckError

Advance = Callable[[str, int, int | None], None]
"""Told of a file, the bytes that are here, and those that there are, where that is known."""


def data(argv: list[str]) -> int:
    """``limbeck data``."""
    options = parse(DataOptions, argv)
    refuse_idle(options, *COMPUTING, why="with 'limbeck data', which computes nothing")
    if options.action == "list":
        refuse_idle(options, "url", why="with 'limbeck data list'")
        if options.name is not None:
            raise LimbeckError(f"'{options.name}' is one word too many; 'limbeck data list' shows all data sets.")
        rows = available(options.data_dir)
        output(
            {"data": [row.to_json() for row in rows]},
            options.json,
            options.out,
            lambda: result_console().print(data_table(rows)),
        )
        return 0
    if options.name is None:
        raise LimbeckError("'limbeck data get' needs the name of a data set; 'limbeck data list' shows them.")
    if options.out is not None:
        refuse_idle(options, "data_dir", why="beside --out, which says where the data set goes")
    console = log_console()
    with download_bar(console) as advance:
        where = get(options.name, data_dir=options.out or options.data_dir, url_base=options.url, progress=advance)
    if options.json:
        print_json({"name": options.name, "path": str(where)})
    else:
        print(where)
    return 0


@contextmanager
def download_bar(console: Console) -> Iterator[Advance]:
    """Bytes, speed and a bar for each file that is fetched; nothing before the first."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=console)
    tasks: dict[str, TaskID] = {}

    def advance(file: str, done: int, total: int | None) -> None:
        if not tasks:
            bar.start()
        if file not in tasks:
            tasks[file] = bar.add_task(file, total=total)
        bar.update(tasks[file], completed=done, total=total)

    try:
        yield advance
    finally:
        if tasks:
            bar.stop()
