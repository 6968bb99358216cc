"""What a person at a terminal or in a notebook sees of a run, and who sees anything at all."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, final

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from limbeck.engine import Execution
from limbeck.experiment.config import Config
from limbeck.experiment.progress import InPython, Progress, Reporter, Silent

MOST_NAMES = 5  # learners of a family that are called by name


@final
class ConsoleReporter(Reporter):
    """A progress bar on a terminal, one line per validation elsewhere; always on the console that it is given.

    Where a run has a ``folder``, that is named when it begins.
    """

    def __init__(self, console: Console, *, folder: Path | None = None) -> None:
        self._console, self._folder = console, folder
        self._bar: Bar | None = None
        self._begun = time.monotonic()
        self._spent_at_start: float | None = None
        self._last = 0.0
        self._val = ""
        self._planned = 0

    def message(self, text: str) -> None:
        self._console.print(
            f"[dim]{time.monotonic() - self._begun:6.1f} s[/dim]  {text}",
            highlight=False,
            soft_wrap=True,
        )

    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        self._spent_at_start, self._last, self._val = None, 0.0, ""
        self._planned = config.outer.iterations
        if self._folder is not None:
            self._console.print(f"run directory: {self._folder}", style="dim", markup=False, soft_wrap=True)
        how = ("compiled" if execution.compiled else "eager") + (", bfloat16 real batch" if execution.bfloat16 else "")
        steps = "1 inner step" if config.inner_steps == 1 else f"{config.inner_steps} inner steps"
        self.message(
            f"{config.data}: {_describe_source(config)}, {steps}, {_describe_learners(config)}, "
            f"{config.init.init} init, {config.outer.inits} at a time ({how})"
        )
        if config.attack is not None:
            self.message(
                "validation counts two parts equally: the source class taken for the target, the other classes right"
            )
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[eta]}"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._bar.add_task("distilling", total=1.0, eta="")

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        now = time.monotonic()
        if self._spent_at_start is None:  # the first iteration may have compiled: the estimate starts after it
            self._spent_at_start, self._first = spent, now
        if "val_mean" in record:
            std = "" if record["val_std"] is None else f" ± {record['val_std']:.2f} (worst {record['val_worst']:.1f})"
            self._val = f"val {record['val_mean']:.2f} %{std}"
        loss = "nan" if record["loss"] is None else f"{record['loss']:.3f}"
        eta = self._eta(now, spent)
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0],
                completed=spent,
                eta=eta,
                description=f"loss {loss}  {self._val}  it {progress.iteration}",
            )
        if "val_mean" in record or (self._bar is None and now - self._last > 30) or progress.iteration == 1:
            self._last = now
            val = f"  {self._val}" if "val_mean" in record else ""
            self.message(f"iteration {progress.iteration}  loss {loss}{val}  {eta}")

    def finish(self, progress: Progress, interrupted: bool) -> None:
        self.close()
        word = "stopped; the work is kept" if interrupted else "done"
        if not interrupted and progress.iteration < self._planned:
            word = f"time is up before {self._planned} iterations"
        best = f"best validation accuracy {progress.best:.2f} % at iteration {progress.best_iteration}"
        if progress.best_iteration < 0:
            best = "not validated yet"
        self.message(f"{word}: {progress.iteration} iterations, {progress.elapsed:.0f} s, {best}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _eta(self, now: float, spent: float) -> str:
        done = spent - (self._spent_at_start or 0.0)
        if done <= 0:
            return "ETA --"
        left = max(0.0, (1 - spent) * (now - self._first) / done)
        return f"ETA {int(left // 60)}:{int(left % 60):02d}"


def in_notebook() -> bool:
    """Whether this is a cell of a notebook: an IPython that shows its output elsewhere than in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def reporter_for(progress: bool | None = None, *, folder: Path | None = None) -> Reporter:
    """Who is told about a piece of work in Python.

    Args:
        progress: True shows it, False does not; None shows it in a notebook, and where stderr is a terminal.
        folder: of the run, to be named when it begins.
    """
    shown = (in_notebook() or sys.stderr.isatty()) if progress is None else progress
    if not shown:
        return Silent()
    return InPython(ConsoleReporter(Console(stderr=True, highlight=False), folder=folder))


def _describe_learners(config: Config) -> str:
    """By name while they are few."""
    few = config.learners[:MOST_NAMES]
    more = len(config.learners) - len(few)
    return ", ".join(few) + (f" and {more} other networks" if more else "")


def _describe_source(config: Config) -> str:
    """What is learned, in a few words."""
    lessons = config.source.description
    if config.attack is None:
        return lessons
    return f"an attack of {lessons}, class {config.attack.source} taken for {config.attack.target}"
