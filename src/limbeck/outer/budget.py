"""How long a run may take: iterations, seconds, or whichever is over first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from limbeck.experiment.progress import Progress


@final
@dataclass(frozen=True, kw_only=True)
class Budget:
    """Outer iterations, and seconds of work over all sittings: preparing, compiling and validation included."""

    iterations: int
    max_time: float | None = None

    def spent(self, progress: Progress) -> float:
        """The part that is spent, in [0, 1]; with two budgets that of the one that is further spent."""
        spent = progress.iteration / self.iterations
        if self.max_time is not None:
            spent = max(spent, progress.elapsed / self.max_time)
        return min(1.0, spent)

    def is_spent(self, progress: Progress) -> bool:
        """Whether the run is over."""
        return progress.iteration >= self.iterations or self.time_is_up(progress)

    def time_is_up(self, progress: Progress) -> bool:
        """Whether no second is left."""
        return self.max_time is not None and progress.elapsed >= self.max_time
