"""The reference that every other adjoint is tested against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from limbeck.engine.adjoint.base import Adjoint, MetaGradient, RealBatch, count_inits
from limbeck.engine.forward import differentiable, holding
from limbeck.engine.kernels import Kernels
from limbeck.engine.source.base import Source
from limbeck.engine.state import State, Tensors


@final
@dataclass(frozen=True, kw_only=True)
class Unroll(Adjoint):
    """Autograd through everything, one init after another: the reference. Memory grows with T times activations."""

    compilable = False  # it runs the learner itself, not the kernels

    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        # Activation checkpoints would run parts of the network again at the end, when its weights are others.
        hooks = torch.autograd.graph.disable_saved_tensors_hooks(
            "Activation checkpoints (torch.utils.checkpoint) cannot be unrolled; use the adjoint remat."
        )
        with differentiable(kernels.learner.training_module), hooks:
            rows = [self._one(kernels, source, params, states.at(b), real) for b in range(count_inits(states))]
        grads = {name: torch.stack([grad[name] for _, grad in rows]) for name in params}
        return MetaGradient(torch.stack([loss for loss, _ in rows]), grads)

    def _one(
        self, kernels: Kernels, source: Source, params: Tensors, state: State, real: RealBatch
    ) -> tuple[Tensor, Tensors]:
        learner, objective = kernels.learner, kernels.objective
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        state = state._replace(params={name: value.detach().requires_grad_() for name, value in state.params.items()})
        observed = objective.reading_steps(source.steps)
        total = next(iter(leaves.values())).new_zeros(())
        for t in range(source.steps):
            batch = source.batch(leaves, t)
            with holding(learner.training_module, state.params):
                loss, buffers = learner.inner_loss(state.params, state.buffers, batch.x_MCHW, batch.y_MK)
                gradients = torch.autograd.grad(
                    loss, list(state.params.values()), create_graph=True, materialize_grads=True
                )
            state = learner.optimizer.update(state, dict(zip(state.params, gradients, strict=True)), batch.h)
            state = state._replace(buffers=buffers)
            if t + 1 in observed:
                total = total + objective.value(learner, state.network, *real)
        grads = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return total.detach(), dict(zip(leaves, grads, strict=True))
