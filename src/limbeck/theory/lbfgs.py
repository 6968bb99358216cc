"""L-BFGS until nothing changes any more, with a limit of iterations and of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

_ROUND = 25
"""Iterations between two looks at the clock and at the progress."""
_HISTORY = 200
"""Pairs that L-BFGS remembers: with 50 an ill-conditioned H (MNIST's) takes several times as many iterations."""


@final
@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where the minimisation ended.

    Attributes:
        value: of the function at the leaves' last values.
        converged: whether it ended because nothing changed any more, rather than at a limit or where it ran away.
        evaluations: of the function and its gradient.
    """

    value: float
    converged: bool
    evaluations: int


def minimise(
    closure: Callable[[], Tensor], leaves: Sequence[Tensor], *, iterations: int, deadline: float = math.inf
) -> Minimum:
    """Change the leaves in place so that the closure returns less.

    Where the value stops being a finite number, the leaves go back to where they were before the last 25 iterations.

    Args:
        closure: sets ``grad`` of the leaves and returns the value, a scalar.
        leaves: what is optimised.
        iterations: at most, at least 1.
        deadline: time of ``time.monotonic`` after which no further 25 iterations begin.
    """
    optimizer = torch.optim.LBFGS(
        leaves,
        max_iter=_ROUND,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )
    calls = 0

    def evaluate() -> Tensor:
        nonlocal calls
        calls += 1
        return closure()

    first = last = float(evaluate())
    for start in range(0, iterations, _ROUND):
        if time.monotonic() > deadline:
            break
        optimizer.param_groups[0]["max_iter"] = min(_ROUND, iterations - start)
        copies = [leaf.detach().clone() for leaf in leaves]
        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        value = float(evaluate())
        if not math.isfinite(value):
            with torch.no_grad():
                for leaf, copy in zip(leaves, copies, strict=True):
                    leaf.copy_(copy)
            break
        # As exact as float64 has it, or no progress.
        if value <= 1e-26 * first or not value < last * (1 - 1e-7):
            return Minimum(value=value, converged=True, evaluations=calls)
        last = value
    return Minimum(value=last, converged=False, evaluations=calls)
