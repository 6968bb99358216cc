"""Progress as TensorBoard events (extra: tensorboard)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from limbeck.engine import Execution
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Progress, Reporter


@final
class TensorBoardReporter(Reporter):
    """Loss, gradient norms and validation accuracy as scalars by outer iteration."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise LimbeckError(
                "--tensorboard needs the extra 'tensorboard': pip install 'limbeck[tensorboard]'."
            ) from None
        self._make, self._folder = SummaryWriter, folder
        self._writer: Any = None

    def message(self, text: str) -> None:
        pass

    def start(self, config: Config, execution: Execution, progress: Progress) -> None:
        # what a killed run wrote after its last checkpoint is written again: hide it
        self._writer = self._make(str(self._folder), purge_step=progress.iteration + 1)

    def update(self, record: dict[str, Any], progress: Progress, spent: float) -> None:
        for name, value in record.items():
            if name != "iteration" and isinstance(value, int | float):
                self._writer.add_scalar(name, value, record["iteration"])

    def finish(self, progress: Progress, interrupted: bool) -> None:
        self._writer.close()
