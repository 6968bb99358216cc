"""Attacks and honest batches behind each defence: which cheap defences stop an attack, and what they cost.

Every threshold is taken from honest batches: a defender has nothing else. Shapes: B networks, M images a batch,
K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.func import vmap

from limbeck.attack.defences import DEFENCES, Calibration, Defence, Undefended
from limbeck.attack.gradients import gradient_norms, next_buffers, update_norms
from limbeck.attack.honest import FEW, HONEST_BATCHES, QUANTILE, held_out_examples, honest_batches
from limbeck.common.files import finite
from limbeck.data import TaskData
from limbeck.engine import Batch, Kernels, Learner, State, Tensors
from limbeck.evaluation.train_and_score import chunks, concatenate, confusion

COST_BATCHES = 5
"""Further honest batches, on which the cost of a defence is measured."""

JUDGED_EXAMPLES = 2000
"""Held-out examples at most on which the cost of a defence is measured."""

CHECK_EXAMPLES = 500
"""Held-out examples at most that a defence may look at."""


@final
@dataclass(frozen=True, kw_only=True)
class DefenceResult:
    """What a defence does to an attack and to honest batches, means over networks.

    Attributes:
        row: the defence and its setting.
        rate: part of the source class that is taken for the target after the defended step, in percent.
        rate_std: its sample standard deviation over networks.
        accepted: part of the networks that took the attack's step, in percent.
        honest_accuracy: validation accuracy after a defended step on an honest batch, in percent.
        honest_accepted: part of the honest steps that were taken, in percent.
        honest_kept: mean length of the defended honest update over that of the undefended one; noise makes it long.
    """

    row: str
    rate: float
    rate_std: float
    accepted: float
    honest_accuracy: float
    honest_accepted: float
    honest_kept: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, None for what is not finite."""
        return finite(vars(self))


@torch.no_grad()
def try_defences(
    kernels: Kernels,
    networks: Tensors,
    batches: Sequence[Batch],
    data: TaskData,
    rng: torch.Generator,
    rate_of: Callable[[Tensors], Tensor],
) -> Iterator[DefenceResult]:
    """Let networks (B, ...) take the attack's steps behind each of ``DEFENCES``, and steps on honest batches.

    Args:
        kernels: of the networks' learner.
        networks: that were trained.
        batches: the attack, a step each.
        data: the real task.
        rng: draws honest batches and noise.
        rate_of: networks to the part of the source class that is taken for the target, (B,) in percent.
    """
    learner, chunk = kernels.learner, kernels.execution.chunk
    honest = [honest_batches(data, batches, rng) for _ in range(HONEST_BATCHES)]
    others = [honest_batches(data, batches, rng) for _ in range(COST_BATCHES)]
    some = next(chunks(networks, FEW))
    undefended = Undefended()

    def step_norms(defence: Defence, steps: Sequence[Batch]) -> tuple[Tensors, Tensor]:
        after = take_steps(learner, defence, some, steps, rng, chunk)
        return after, update_norms(learner, some, after)

    gradients = torch.stack([gradient_norms(learner, some, steps[0], chunk) for steps in honest])
    updates = torch.stack([step_norms(undefended, steps[:1])[1] for steps in honest])
    # A defence decides on images of its own: at most half of those that are held out, the others are for judging it.
    size = min(CHECK_EXAMPLES, len(data.val_y) // 2)
    x_NCHW, y_N = held_out_examples(data, size + JUDGED_EXAMPLES, rng)
    calibration = Calibration(
        gradient_norm=float(gradients.nanquantile(QUANTILE)),
        update_norm=float(updates.nanquantile(QUANTILE)),
        kernels=kernels,
        x_NCHW=x_NCHW[:size],
        y_N=y_N[:size],
        classes=data.num_classes,
    )
    judging = x_NCHW[size:], y_N[size:]
    full = torch.stack([step_norms(undefended, steps)[1] for steps in others])
    for kind in DEFENCES.values():
        defence = kind.calibrate(calibration)
        after = take_steps(learner, defence, networks, batches, rng, chunk)
        rate_B = rate_of(after)
        accuracies, honest_norms = [], []
        for steps in others:
            honest_after, norm_B = step_norms(defence, steps)
            counts_BKK = confusion(kernels, honest_after, [judging], data.num_classes)
            accuracies.append(100 * counts_BKK.diagonal(dim1=1, dim2=2).sum(1) / counts_BKK.sum((1, 2)))
            honest_norms.append(norm_B)
        honest_norm = torch.stack(honest_norms)
        yield DefenceResult(
            row=defence.row,
            rate=float(rate_B.mean()),
            rate_std=float(rate_B.std()) if len(rate_B) > 1 else 0.0,
            # A step that ends in no number was taken, too.
            accepted=float(100.0 * (update_norms(learner, networks, after) != 0).float().mean()),
            honest_accuracy=float(torch.stack(accuracies).mean()),
            honest_accepted=float((100.0 * (honest_norm != 0).float()).mean()),
            honest_kept=float(honest_norm.mean() / full.mean().clamp_min(1e-30)),
        )


def take_steps(
    learner: Learner, defence: Defence, networks: Tensors, batches: Sequence[Batch], rng: torch.Generator, chunk: int
) -> Tensors:
    """Networks (B, ...) after a step on each batch behind a defence, ``chunk`` networks at once."""
    parts = []
    for part in chunks(networks, chunk):
        states: State = vmap(learner.init)(part)
        for batch in batches:
            grads = defence.gradients(learner, states, batch, rng)
            after: State = vmap(learner.optimizer.update, in_dims=(0, 0, None))(states, grads, batch.h)
            states = defence.accept(states, after._replace(buffers=next_buffers(learner, states, batch)))
        parts.append(states.network)
    return concatenate(parts)
