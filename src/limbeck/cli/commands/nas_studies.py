"""``limbeck reproduce nas-ranking``, ``nas-cells`` and ``nas-search``: the studies of architecture search."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from rich.table import Table

from limbeck.cli.commands.shared import (
    explicit_options,
    log_console,
    output,
    prepare,
    refuse_not_positive,
    result_console,
)
from limbeck.cli.options import ReproduceOptions
from limbeck.common.charts import figures_missing
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.console import ConsoleReporter
from limbeck.experiment.progress import Stop, interruptible
from limbeck.nas.proxies.base import Task, Tell
from limbeck.nas.studies.cell_ranking import SAMPLE as CELLS
from limbeck.nas.studies.cell_ranking import cells_config, cells_oracle, cells_proxies, cells_task
from limbeck.nas.studies.finals import draw_finals, run_finals, search_proxies
from limbeck.nas.studies.proxy_rows import Rows, choose
from limbeck.nas.studies.ranking import draw_ranking, ranking_proxies, run_ranking, study_task, synthetic_config
from limbeck.studies import Study, Variant
from limbeck.studies.kinds import CURVES
from limbeck.studies.run import StudyDirectory

SOURCE: Final = "Such et al. 2019, arXiv 1912.07768"
TITLES: Final = MappingProxyType(
    {
        "nas-ranking": "Rank correlation with training to the end, and what it costs",
        "nas-cells": "Rank correlation in the space of cells, reduced",
        "nas-search": "Random search with each proxy: test error of the winner",
    }
)
"""The studies by name."""


def reproduce_nas(options: ReproduceOptions) -> int:
    """A study of architecture search: its rows, and its figures where matplotlib is installed."""
    if options.labels != "hard" or options.baselines or options.networks is not None:
        raise LimbeckError(
            f"{options.name} is a study of architecture search; --labels, --baselines and --networks do not belong to "
            "it."
        )
    refuse_not_positive(options, "iterations", "max_time", "n")
    choose(_rows(options.name), options.proxies)  # refuses unknown names before anything is written
    out = options.out or Path("runs") / options.name
    console = log_console()
    prepare(options)
    changes: dict[str, Any] = explicit_options(options, "iterations", "max_time")
    config = nas_config(options.name, options.seed)
    config = dataclasses.replace(config, outer=dataclasses.replace(config.outer, **changes))
    settings = {"iterations": options.iterations, "max_time": options.max_time, "n": options.n}
    StudyDirectory(out).prepare(
        _study(options.name, config), resume=options.resume, overwrite=options.overwrite, **settings
    )
    make_task = cells_task if options.name == "nas-cells" else study_task
    task = make_task(options.seed, options.device, options.data_dir)

    def tell(text: str) -> None:
        console.print(f"[dim]{text}[/dim]", soft_wrap=True)

    with interruptible() as stop:
        outcome = _run(options, task, config, out, ConsoleReporter(console), tell, stop)
    if outcome is None:
        console.print("interrupted: what is finished is kept; go on with --resume")
        return 130
    rows, figures = outcome
    values = {"study": options.name, "rows": rows}
    output(values, options.json, out / "rows.json", lambda: result_console().print(_table(options.name, rows)))
    for path in figures:
        console.print(f"[dim]{path}.png and .svg[/dim]", soft_wrap=True)
    if not figures:
        console.print(f"no figures are drawn. {figures_missing()}", soft_wrap=True, markup=False)
    return 0


def nas_config(name: str, seed: int) -> Config:
    """The configuration of the set that a study learns."""
    return cells_config(seed) if name == "nas-cells" else synthetic_config(seed)


def _rows(name: str) -> Rows:
    """The rows of a study, for their names."""
    if name == "nas-search":
        return search_proxies(Path())
    return cells_proxies(Path(), 1) if name == "nas-cells" else ranking_proxies(Path(), 1)


def _run(
    options: ReproduceOptions, task: Task, config: Config, out: Path, reporter: ConsoleReporter, tell: Tell, stop: Stop
) -> tuple[list[dict[str, Any]], list[Path]] | None:
    """The study's rows and figures; None if someone stopped it."""
    size: dict[str, Any] = explicit_options(options, "n")
    folder, can_draw = out / "figures", figures_missing() is None
    if options.name != "nas-search":
        if options.name == "nas-cells":
            size = {"n": CELLS, "proxies": cells_proxies, "truth": cells_oracle(), "known": None, **size}
        ranking = run_ranking(task, config, out, **size, names=options.proxies, reporter=reporter, tell=tell, stop=stop)
        return None if ranking is None else (ranking.rows, draw_ranking(task, ranking, folder) if can_draw else [])
    finals = run_finals(task, config, out, **size, names=options.proxies, reporter=reporter, tell=tell, stop=stop)
    return None if finals is None else (finals.rows, draw_finals(task, finals, folder) if can_draw else [])


def _study(name: str, config: Config) -> Study:
    """The description of the study that its folder is marked with."""
    variant = Variant(group="synthetic", seed=config.seed, config=config)
    return Study(name=name, title=TITLES[name], paper={}, source=SOURCE, variants=(variant,), n=1, kind=CURVES)


_RANKING: Final = ("better_half", "regret", "seconds", "prepare_seconds", "share")
_COLUMNS: Final = MappingProxyType(
    {
        "nas-ranking": _RANKING,
        "nas-cells": _RANKING,
        "nas-search": ("n", "parameters", "seconds", "prepare_seconds"),
    }
)


def _table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    """The rows as far as a terminal is wide; the JSON has all."""
    table = Table(title=TITLES[name], title_justify="left", caption=f"paper: {SOURCE}", caption_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("paper")
    for column in ("error %" if name == "nas-search" else "Spearman", *_COLUMNS[name]):
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        cells = [_cell(row[column]) for column in _COLUMNS[name]]
        table.add_row(row["row"], row["paper"] or "–", f"{row['mean']:.2f}{spread}", *cells)
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return "–" if value is None else str(value)
