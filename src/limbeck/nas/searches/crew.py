"""Who scores: this process, several of this machine, or workers of a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import final

from limbeck.errors import LimbeckError
from limbeck.nas.searches.clusters import RayWorkers, connect
from limbeck.nas.searches.workers import Executor, InProcess, ProcessPool, Work


@final
@dataclass(frozen=True, kw_only=True)
class SearchWorkers:
    """Who scores architectures.

    Args:
        number: processes that score; with 1 it is this one.
        ray: score on a Ray cluster instead: ``local``, ``auto`` or HOST:PORT.
        gpus_per_worker: of Ray's workers; a fraction lets several share a GPU.
    """

    number: int = 1
    ray: str | None = None
    gpus_per_worker: float = 0.0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise LimbeckError(f"workers is {self.number}; it must be at least 1.")
        if not self.gpus_per_worker >= 0:
            raise LimbeckError(f"gpus_per_worker is {self.gpus_per_worker}; it must be 0 or more.")
        if self.gpus_per_worker and self.ray is None:
            raise LimbeckError("gpus_per_worker shares GPUs among Ray's workers; give --ray, too.")

    def connect(self) -> AbstractContextManager[None]:
        """A connection to the Ray cluster, if there is one to be used."""
        return nullcontext() if self.ray is None else connect(self.ray, self.number, self.gpus_per_worker)

    def executor(self, work: Work) -> Executor:
        """Workers that have the task and the scorers; with Ray within ``connect``."""
        if self.ray is not None:
            return RayWorkers(work, self.number, self.gpus_per_worker)
        return ProcessPool(work, self.number) if self.number > 1 else InProcess(work)
