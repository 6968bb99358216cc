"""The exact state of a distillation in one file, so that it can go on as if it had never stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from limbeck.common.files import read_tensors, write_tensors
from limbeck.engine import Execution, Tensors, with_prefix
from limbeck.errors import LimbeckError
from limbeck.experiment.progress import Progress


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that the next iteration depends on: three states of the outer optimiser and the generators.

    And what it is learned for: the shapes of each network's parameters by name, and a fixed θ₀; none in older ones.
    """

    progress: Progress
    current: Tensors
    good: Tensors
    best: Tensors
    generators: dict[str, Tensor]
    config: dict[str, Any]
    execution: dict[str, Any]
    data_sha256: str
    threads: int
    networks: Any = None
    theta: Tensors = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replace the folder's checkpoint; the previous one stays loadable until the new one is complete."""
        tensors = {f"generator.{name}": value for name, value in self.generators.items()}
        tensors |= {f"theta.{name}": value for name, value in self.theta.items()}
        for part in ("current", "good", "best"):
            tensors |= {f"{part}.{name}": value for name, value in getattr(self, part).items()}
        metadata = {
            "progress": asdict(self.progress),
            "config": self.config,
            "execution": self.execution,
            "data": self.data_sha256,
            "threads": self.threads,
            "networks": self.networks,
        }
        write_tensors(folder / "checkpoint" / "state.safetensors", tensors, metadata)

    def restore_execution(self) -> Execution:
        """How the run is computed; raises LimbeckError for what this version does not know."""
        known = {name: value for name, value in self.execution.items() if name != "store_every"}  # until schema 2
        try:
            return Execution(**known)
        except TypeError as error:
            raise LimbeckError(f"The checkpoint does not fit this version of Limbeck: {error}.") from None

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """Read the folder's checkpoint; raises LimbeckError if there is none or it is damaged."""
        path = folder / "checkpoint" / "state.safetensors"
        if not path.is_file():
            raise LimbeckError(f"{folder} holds no checkpoint to resume from; begin the run there, without --resume.")
        tensors, metadata = read_tensors(path)
        try:
            return cls(
                progress=Progress(**metadata["progress"]),
                current=with_prefix(tensors, "current."),
                good=with_prefix(tensors, "good."),
                best=with_prefix(tensors, "best."),
                generators=with_prefix(tensors, "generator."),
                config=metadata["config"],
                execution=metadata["execution"],
                data_sha256=metadata.get("data", ""),
                threads=metadata.get("threads", torch.get_num_threads()),
                networks=metadata.get("networks"),
                theta=with_prefix(tensors, "theta."),
            )
        except (KeyError, TypeError) as error:
            raise LimbeckError(f"{path} is damaged or from another version ({error}).") from None
