"""The guard against divergence: it tells a run that ran away, and takes it back to its last good state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

from limbeck.engine import Tensors
from limbeck.errors import DivergedError
from limbeck.experiment.progress import Progress
from limbeck.outer.optimizer import OuterOptimizer

PATIENCE: Final = 10
"""Iterations in a row with a loss far above its running mean after which a run has diverged."""


@final
@dataclass(frozen=True, kw_only=True)
class Guard:
    """What counts as divergence, and what follows from it; its memory is in ``Progress``.

    Args:
        classes: K; a loss up to 1.5 times that of guessing, ln K, is never taken for divergence.
        max_rollbacks: how often a run goes back before it gives up.
    """

    classes: int
    max_rollbacks: int

    def has_diverged(self, progress: Progress, loss: float, norm: float) -> bool:
        """Whether an iteration's loss and largest gradient norm mean divergence: no numbers do at once, a loss far
        above its running mean only if it stays there."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return True
        usual = progress.smooth_loss if progress.smooth_loss is not None else loss
        far_off = loss > max(3 * usual, 1.5 * math.log(self.classes))
        progress.bad_in_a_row = progress.bad_in_a_row + 1 if far_off else 0
        if progress.bad_in_a_row == 0 or progress.smooth_loss is None:
            progress.smooth_loss = 0.98 * usual + 0.02 * loss
        return progress.bad_in_a_row >= PATIENCE

    def roll_back(
        self, progress: Progress, iteration: int, loss: float, optimizer: OuterOptimizer, good: Tensors
    ) -> str:
        """Bring the last good state back, at half the learning rates; returns what to tell a person.

        ``iteration`` and ``loss`` are of the iteration that diverged.

        Raises:
            DivergedError: it went back too often.
        """
        progress.rollbacks += 1
        progress.bad_in_a_row = 0
        if progress.rollbacks > self.max_rollbacks:
            raise DivergedError(
                f"The run diverged {progress.rollbacks} times (loss {loss:.3g} at iteration {iteration}), also"
                f" at {progress.factor:.3g} of the learning rates. The usual cause is a step size that runs away: "
                "lower --lr-steps or --lr, bound it with --lr-max, or average over more --inits."
            )
        progress.factor *= 0.5
        optimizer.load(good)
        return (
            f"diverged at iteration {iteration} (loss {loss:.3g}); back to the last good state, "
            f"learning rates at {progress.factor:.3g} of their setting"
        )
