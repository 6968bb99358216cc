"""The exact state of a distillation in one file, so that it can go on as if it had never stopped."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from limbeck.common.files import read_tensors, write_tensors
from limbeck.engine import Tensors, with_prefix
from limbeck.errors import LimbeckError


@final
@dataclass(kw_only=True)
class Progress:
    """Where a run is.

    ``elapsed`` is in seconds over all sittings, ``best`` the validation accuracy in percent of the kept state,
    ``smooth_loss`` the running mean that the divergence guard compares with, ``factor`` what rollbacks left of the
    learning rates, ``inner_steps`` how many there are now and ``grown_at`` the iteration since when.
    """

    iteration: int = 0
    elapsed: float = 0.0
    best: float = -1.0
    best_iteration: int = -1
    smooth_loss: float | None = None
    bad_in_a_row: int = 0
    rollbacks: int = 0
    factor: float = 1.0
    inner_steps: int = 0
    grown_at: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that the next iteration depends on: three states of the outer optimiser and the generators."""

    progress: Progress
    current: Tensors
    good: Tensors
    best: Tensors
    generators: dict[str, Tensor]
    config: dict[str, Any]
    execution: dict[str, Any]
    data_sha256: str
    threads: int

    def save(self, folder: Path) -> None:
        """Replace the folder's checkpoint; the previous one stays loadable until the new one is complete."""
        tensors = {f"generator.{name}": value for name, value in self.generators.items()}
        for part in ("current", "good", "best"):
            tensors |= {f"{part}.{name}": value for name, value in getattr(self, part).items()}
        metadata = {
            "progress": asdict(self.progress),
            "config": self.config,
            "execution": self.execution,
            "data": self.data_sha256,
            "threads": self.threads,
        }
        write_tensors(folder / "checkpoint" / "state.safetensors", tensors, metadata)

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """Read the folder's checkpoint; raises LimbeckError if there is none or it is damaged."""
        path = folder / "checkpoint" / "state.safetensors"
        if not path.is_file():
            raise LimbeckError(f"{folder} holds no checkpoint to resume from; start it with --out {folder}.")
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
            )
        except (KeyError, TypeError) as error:
            raise LimbeckError(f"{path} is damaged or from another version ({error}).") from None


def generator(seed: int, stream: str) -> torch.Generator:
    """A generator of its own for each purpose, so that streams never overlap however much each is used."""
    digest = hashlib.sha256(f"{seed}:{stream}".encode()).digest()
    # Below 2^31: torch's CPU generator reads 32 bits of a seed, and held-out draws own the upper half.
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little") & 0x7FFFFFFF)
