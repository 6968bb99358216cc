"""``limbeck data``: the known data sets."""

from __future__ import annotations

from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from limbeck.cli.commands.shared import log_console, output, parse, print_json, result_console
from limbeck.cli.options import DataOptions
from limbeck.cli.tables import data_table
from limbeck.data import available, get
from limbeck.errors import LimbeckError


def data(argv: list[str]) -> int:
    """``limbeck data``."""
    options = parse(DataOptions, argv)
    if options.action == "list":
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
    console = log_console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def advance(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done, total=total)

        where = get(options.name, data_dir=options.out or options.data_dir, url_base=options.url, progress=advance)
    if options.json:
        print_json({"name": options.name, "path": str(where)})
    else:
        print(where)
    return 0
