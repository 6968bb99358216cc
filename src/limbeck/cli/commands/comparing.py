"""``limbeck compare``: which method gives the best small set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from limbeck.cli.commands.shared import log_console, output, parse, prepare, result_console
from limbeck.cli.options import CompareOptions
from limbeck.common.charts import figures_missing
from limbeck.data import canonical_name
from limbeck.experiment.console import ConsoleReporter
from limbeck.studies.compare import compare as run_comparison
from limbeck.studies.compare import draw_comparison


def compare(argv: list[str]) -> int:
    """``limbeck compare``."""
    options = parse(CompareOptions, argv)
    console = log_console()
    comparison = options.comparison
    prepare(options)
    out = options.out or Path("runs") / f"compare-{canonical_name(options.data)}"
    rows = run_comparison(
        options.data,
        comparison,
        out,
        device=options.device,
        data_dir=options.data_dir,
        resume=options.resume,
        overwrite=options.overwrite,
        reporter=ConsoleReporter(console),
        tell=lambda text: console.print(f"[dim]{text}[/dim]", soft_wrap=True),
    )
    output({"rows": rows}, options.json, None, lambda: result_console().print(comparison_table(rows)))
    judged = {(row["ipc"], row["method"]) for row in rows}
    if len(judged) < len(comparison.ipc) * len(comparison.methods):
        console.print("interrupted: what is finished is kept; go on with --resume")
        return 130
    missing = figures_missing()
    if missing is not None:
        console.print(missing)
        return 0
    for ipc in comparison.ipc:
        for learner in (comparison.learner, *comparison.learners):
            path = out / "figures" / f"{ipc}-{canonical_name(learner)}"
            draw_comparison(rows, path, ipc=ipc, learner=learner)
            console.print(f"{path}.png")
    return 0


def comparison_table(rows: list[dict[str, Any]]) -> Table:
    """A line for each set, protocol and learner, the best of each group first."""
    table = Table(title="accuracy on the real test set (%)", title_justify="left")
    for column in ("per class", "learner", "training", "method", "accuracy", "worst", "n", "seconds"):
        left = column in ("learner", "training", "method")
        table.add_column(column, justify="left" if left else "right")

    def group(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["ipc"], row["learner"], row["protocol"]

    before = None
    for row in sorted(rows, key=lambda row: (*group(row), -row.get("mean", -1.0))):
        if before not in (None, group(row)):
            table.add_section()
        before = group(row)
        if "error" in row:
            table.add_row(str(row["ipc"]), row["learner"], row["protocol"], row["method"], row["error"])
            continue
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        cells = [str(row["ipc"]), row["learner"], row["protocol"], row["method"], f"{row['mean']:.2f}{spread}"]
        table.add_row(*cells, f"{row['worst']:.2f}", str(row["n"]), f"{row['seconds']:.0f}")
    return table
