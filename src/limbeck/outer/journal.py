"""What a run writes down and tells as it goes: metrics, checkpoints, progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import torch

from limbeck.artefact.run_directory import RunDirectory
from limbeck.experiment.progress import Progress, Reporter
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.step import StepReport


@final
class Journal:
    """Keeps what iterations saw on the device until it is read, and writes what is worth keeping.

    Args:
        folder: of the run; nothing is written without one.
        reporter: told of every iteration.
        checkpoint: takes a snapshot of the run.
    """

    def __init__(self, folder: RunDirectory | None, reporter: Reporter, checkpoint: Callable[[], Checkpoint]) -> None:
        self._folder, self._reporter, self._checkpoint = folder, reporter, checkpoint
        self._waiting: list[tuple[int, StepReport]] = []
        self._last: dict[str, Any] = {}

    def note(self, iteration: int, report: StepReport) -> None:
        """Take in what an iteration saw, without waiting for it."""
        self._waiting.append((iteration, report))

    def read(self) -> list[dict[str, Any]]:
        """A record of every iteration since the last call, oldest first; waits for the device, once."""
        if not self._waiting:
            return []
        rows = torch.stack([torch.stack(report) for _, report in self._waiting]).tolist()
        records = [
            {"iteration": iteration, **dict(zip(StepReport._fields, row, strict=True))}
            for (iteration, _), row in zip(self._waiting, rows, strict=True)
        ]
        self._waiting.clear()
        return records

    def write(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        """Tell of an iteration; one that was validated is written down, and with it the state of the run."""
        record = finite_record(record) | {"elapsed": progress.elapsed, "rollbacks": progress.rollbacks}
        self._last = record
        if self._folder is not None and "val_mean" in record:
            self._folder.append_metrics(record)
            self.save()
        self._reporter.update(record, progress, spent)

    def save(self) -> None:
        """Write a checkpoint, if there is a folder."""
        if self._folder is not None:
            self._checkpoint().save(self._folder.path)

    def write_last(self) -> None:
        """Write down the last iteration, too, where it was not validated; a run that goes on replaces that line."""
        if self._folder is not None and self._last and "val_mean" not in self._last:
            self._folder.append_metrics(self._last)


def finite_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record of an iteration; one whose numbers ran away has no norms, and no loss if that is no number."""
    if all(math.isfinite(record[name]) for name in ("loss", "norm")) and not record.get("diverged"):
        return {name: value for name, value in record.items() if name != "diverged"}
    loss = record["loss"] if math.isfinite(record["loss"]) else None
    rest = {name: value for name, value in record.items() if name != "diverged"}
    return rest | {"loss": loss, "norm": None, "norm_median": None}
