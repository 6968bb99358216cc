"""Training on a learned set and scoring on real data: the one way in which anything here is judged.

Shapes: B inits, T steps, K classes, N real examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from limbeck.engine import Batch, Kernels, Tensors
from limbeck.errors import LimbeckError


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Accuracy over initial weights. ``correct_BK`` counts hits by init and true class, ``total_K`` examples."""

    correct_BK: Tensor
    total_K: Tensor

    def __repr__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.2f}"
        return f"Scores({self.mean:.2f}{spread} %, n = {self.n})"

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
    def per_class(self) -> list[float | None]:
        """Mean accuracy of each class in percent; None for a class without examples."""
        right_K = (100 * self.correct_BK.double().mean(0)).tolist()
        return [right / total if total else None for right, total in zip(right_K, self.total_K.tolist(), strict=True)]

    @property
    def balanced(self) -> float:
        """The mean of the accuracies of the classes that have examples, in percent."""
        known = [accuracy for accuracy in self.per_class if accuracy is not None]
        return sum(known) / len(known)

    def balance(self, label: int) -> Scores:
        """The same with one class counting as much as all others together, in ``mean`` and ``worst``."""
        weight_K = torch.ones_like(self.total_K)
        weight_K[label] = (self.total_K.sum() - self.total_K[label]) / self.total_K[label]
        return Scores(correct_BK=self.correct_BK * weight_K, total_K=self.total_K * weight_K)

    def to_json(self) -> dict[str, Any]:
        """Plain values, accuracies in percent."""
        return {"mean": self.mean, "std": self.std, "n": self.n, "worst": self.worst, "per_class": self.per_class}


def inits(params: Tensors) -> int:
    """B, the number of inits that tensors (B, ...) hold."""
    return next(iter(params.values())).shape[0]


def chunks(params: Tensors, size: int) -> Iterator[Tensors]:
    """Tensors (B, ...) by name in parts of at most ``size`` inits, in order."""
    for start in range(0, inits(params), size):
        yield {name: value[start : start + size] for name, value in params.items()}


def concatenate(parts: Sequence[Tensors]) -> Tensors:
    """Tensors (B, ...) by name from their parts; inverse of ``chunks``."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def train(kernels: Kernels, batches: Iterable[Batch], params: Tensors) -> Tensors:
    """Train B learners on T batches in order, a step each; weights (B, ...) in, parameters and carried buffers out.

    The batches are gone through once, for all chunks of learners, so that each may be made when it is its turn.
    """
    states = [kernels.init(part) for part in chunks(params, kernels.execution.chunk)]
    for batch in batches:
        states = [kernels.step(state, batch) for state in states]
    return concatenate([state.network for state in states])


def train_each(kernels: Kernels, sets: Sequence[Iterable[Batch]], params: Tensors) -> Tensors:
    """Train each of several sets on a share of the B learners of its own, as ``train`` does, or all on the only one.

    So the spread of the scores is over initial weights and over sets. With fewer learners than sets, but more than one,
    the last sets are left out.

    Args:
        kernels: of the learner.
        sets: the T batches of each set, in order, each gone through once.
        params: initial weights (B, ...) by name.

    Returns:
        Parameters and carried buffers (B, ...) of the trained networks, set after set; with B = 1 one for each set.
    """
    shares = [params] * len(sets)
    if inits(params) > 1:
        rows = torch.arange(inits(params)).tensor_split(len(sets))
        shares = [{name: value[index.to(value.device)] for name, value in params.items()} for index in rows]
    pairs = [(batches, share) for batches, share in zip(sets, shares, strict=True) if inits(share)]
    return concatenate([train(kernels, batches, share) for batches, share in pairs])


def score(
    kernels: Kernels,
    params: Tensors,
    examples: Iterable[tuple[Tensor, Tensor]],
    classes: int,
    *,
    relabel: Callable[[Tensor], Tensor] | None = None,
) -> Scores:
    """Accuracy of B sets of parameters on labelled batches ((N, C, H, W) normalised, (N,)), by class.

    ``relabel`` maps class indices to those that count as right; the counts stay those of the class itself.
    """
    counts_BKK = confusion(kernels, params, examples, classes)
    wanted_K = torch.arange(classes)
    if relabel is not None:
        wanted_K = relabel(wanted_K)
    return Scores(
        correct_BK=counts_BKK.gather(2, wanted_K.expand(len(counts_BKK), -1)[..., None])[..., 0],
        total_K=counts_BKK[0].sum(1),
    )


@torch.no_grad()
def confusion(kernels: Kernels, params: Tensors, examples: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """How often each of B networks takes class k for class l, (B, K, K), on labelled batches as in ``score``."""
    parts = list(chunks(params, kernels.execution.score_chunk or kernels.execution.chunk))
    counts = [torch.zeros(inits(part), classes * classes, dtype=torch.float32) for part in parts]
    for x_NCHW, y_N in examples:
        for part, count in zip(parts, counts, strict=True):
            logits_BNK = kernels.predict(part, x_NCHW)
            if logits_BNK.shape[1] != len(y_N):
                raise LimbeckError(
                    f"The network gives {logits_BNK.shape[1]} outputs for {len(y_N)} images; it must give one row of "
                    "logits for each image, however many there are."
                )
            pairs_BN = y_N * classes + logits_BNK.argmax(-1)
            count += torch.stack([torch.bincount(row, minlength=classes * classes) for row in pairs_BN.cpu()])
    return torch.cat(counts).view(-1, classes, classes)
