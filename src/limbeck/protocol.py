"""Training on a learned set and scoring on real data: the one way in which anything here is judged.

Shapes: B inits, T steps, K classes, N real examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from limbeck.engine import Batch, Kernels, Tensors


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Accuracy over initial weights. ``correct_BK`` counts hits by init and true class, ``total_K`` examples."""

    correct_BK: Tensor
    total_K: Tensor

    @property
    def accuracy_B(self) -> Tensor:
        """Accuracy of each init in percent."""
        return 100 * self.correct_BK.sum(1).double() / self.total_K.sum()

    @property
    def n(self) -> int:
        """Number of initial weights."""
        return self.correct_BK.shape[0]

    @property
    def mean(self) -> float:
        """Mean accuracy over inits in percent."""
        return float(self.accuracy_B.mean())

    @property
    def std(self) -> float | None:
        """Sample standard deviation over inits in percentage points; None for a single init."""
        return float(self.accuracy_B.std()) if self.n > 1 else None

    @property
    def worst(self) -> float:
        """Accuracy of the worst init in percent."""
        return float(self.accuracy_B.min())

    @property
    def per_class(self) -> list[float]:
        """Mean accuracy of each class in percent."""
        return [float(v) for v in 100 * self.correct_BK.double().mean(0) / self.total_K]

    def to_json(self) -> dict[str, Any]:
        """Plain values, accuracies in percent."""
        return {"mean": self.mean, "std": self.std, "n": self.n, "worst": self.worst, "per_class": self.per_class}


def inits(params: Tensors) -> int:
    """B of a dict of tensors with a leading dimension of B inits."""
    return next(iter(params.values())).shape[0]


def chunks(params: Tensors, size: int) -> Iterator[Tensors]:
    """The same, at most ``size`` inits at a time."""
    for start in range(0, inits(params), size):
        yield {name: value[start : start + size] for name, value in params.items()}


def concatenate(parts: Sequence[Tensors]) -> Tensors:
    """Inverse of ``chunks``."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def train(kernels: Kernels, batches: Sequence[Batch], params: Tensors) -> Tensors:
    """Train B learners on T batches in order, a step each; weights (B, ...) in, parameters and carried buffers out."""
    trained = []
    for part in chunks(params, kernels.execution.chunk):
        states = kernels.init(part)
        for batch in batches:
            states = kernels.step(states, batch)
        trained.append(states.network)
    return concatenate(trained)


@torch.no_grad()
def score(kernels: Kernels, params: Tensors, examples: Iterable[tuple[Tensor, Tensor]], classes: int) -> Scores:
    """Accuracy of B sets of parameters on labelled batches ((N, C, H, W) normalised, (N,))."""
    parts = list(chunks(params, kernels.execution.chunk))
    correct: list[Tensor] = [torch.zeros(inits(part), classes) for part in parts]
    total = torch.zeros(classes)
    for x_NCHW, y_N in examples:
        hit = torch.nn.functional.one_hot(y_N, classes).float()
        total += hit.sum(0).cpu()
        for index, part in enumerate(parts):
            right_BN = kernels.predict(part, x_NCHW).argmax(-1) == y_N
            correct[index] += (right_BN.float() @ hit).cpu()
    return Scores(correct_BK=torch.cat(correct), total_K=total)
