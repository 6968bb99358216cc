"""Gradients and losses of several networks on one batch, and lengths of what has a value for each network.

Shapes: B networks, M images a batch, K classes; ``Tensors`` are {name: (B, ...)}.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, vmap

from limbeck.engine import Batch, Learner, State, Tensors
from limbeck.evaluation.train_and_score import chunks


def gradients(learner: Learner, states: State, batch: Batch) -> Tensors:
    """Gradients (B, ...) of the inner loss on a batch."""

    def of_network(params: Tensors, buffers: Tensors) -> Tensors:
        grads: Tensors = grad(lambda p: learner.inner_loss(p, buffers, batch.x_MCHW, batch.y_MK)[0])(params)
        return grads

    result: Tensors = vmap(of_network)(states.params, states.buffers)
    return result


def next_buffers(learner: Learner, states: State, batch: Batch) -> Tensors:
    """Buffers (B, ...), such as running statistics, after a step on a batch."""
    if not states.buffers:
        return {}
    result: Tensors = vmap(lambda p, b: learner.inner_loss(p, b, batch.x_MCHW, batch.y_MK)[1])(
        states.params, states.buffers
    )
    return result


def gradient_norms(learner: Learner, networks: Tensors, batch: Batch, chunk: int) -> Tensor:
    """Length (B,) of each network's gradient on a batch, ``chunk`` networks at once."""
    parts = chunks(networks, chunk)
    return torch.cat([norms(gradients(learner, vmap(learner.init)(part), batch)) for part in parts])


def losses(learner: Learner, networks: Tensors, batch: Batch, chunk: int) -> Tensor:
    """Inner loss (B,) of each network on a batch, in training mode."""

    def of_network(weights: Tensors) -> Tensor:
        state = learner.init(weights)
        return learner.inner_loss(state.params, state.buffers, batch.x_MCHW, batch.y_MK)[0]

    return torch.cat([vmap(of_network)(part) for part in chunks(networks, chunk)])


def update_norms(learner: Learner, before: Tensors, after: Tensors) -> Tensor:
    """Distance (B,) between the parameters of each network before and after; buffers do not count."""
    return norms({name: value - before[name] for name, value in after.items() if name not in learner.carried})


def norms(tensors: Tensors) -> Tensor:
    """Euclidean length (B,) over all tensors."""
    return torch.stack([value.flatten(1).square().sum(1) for value in tensors.values()]).sum(0).sqrt()


def clip(tensors: Tensors, bound: float) -> Tensors:
    """The tensors, scaled down for each network whose length is above the bound."""
    scale_B = (bound / norms(tensors).clamp_min(1e-30)).clamp_max(1.0)
    return {name: value * broadcast(scale_B, value) for name, value in tensors.items()}


def broadcast(values_B: Tensor, other: Tensor) -> Tensor:
    """Values (B,) in a shape that broadcasts against another tensor (B, ...)."""
    return values_B.view(-1, *[1] * (other.dim() - 1))
