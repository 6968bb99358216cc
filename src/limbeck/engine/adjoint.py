"""How to differentiate through T inner steps: an object, chosen by name, never an ``if`` in the loop.

Shapes: B inits, T steps, N real examples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, final

import torch
from torch import Tensor

from limbeck.engine.kernels import Kernels
from limbeck.engine.source.base import Source
from limbeck.engine.state import Batch, State, Tensors, add
from limbeck.errors import unknown


class RealBatch(NamedTuple):
    """Real examples that the objective reads: normalised images (N, C, H, W) and targets (N,)."""

    x_NCHW: Tensor
    y_N: Tensor


class MetaGradient(NamedTuple):
    """The objective for each init, and its gradient in everything the source learns, one per init.

    ``loss_B`` is (B,); ``grads`` maps the source's parameter names to (B, *shape). Gradients are per init because a few
    inits carry most of their norm: whoever averages them wants to clip them first.
    """

    loss_B: Tensor
    grads: Tensors


class Adjoint(ABC):
    """A way to get the meta-gradient ∂L(s_T)/∂(what the source learns)."""

    @abstractmethod
    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        """Train B learners from ``states`` on the source's batches and differentiate the objective through it.

        Args:
            kernels: the learner's step, its pull-back and the objective.
            source: what is learned.
            params: the source's parameters, unconstrained.
            states: B initial states, every tensor (B, ...).
            real: the batch of real data that the objective reads.
        """


@final
class Unroll(Adjoint):
    """Autograd through everything, one init after another: the reference. Memory grows with T times activations."""

    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        inits = _inits(states)
        rows = [self._one(kernels, source, params, states.at(b), real) for b in range(inits)]
        grads = {name: torch.stack([grad[name] for _, grad in rows]) for name in params}
        return MetaGradient(torch.stack([loss for loss, _ in rows]), grads)

    def _one(
        self, kernels: Kernels, source: Source, params: Tensors, state: State, real: RealBatch
    ) -> tuple[Tensor, Tensors]:
        learner, objective = kernels.learner, kernels.objective
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        state = state._replace(params={name: value.detach().requires_grad_() for name, value in state.params.items()})
        observed = objective.observed(source.steps)
        total = next(iter(leaves.values())).new_zeros(())
        for t in range(source.steps):
            batch = source.batch(leaves, t)
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


@final
class Remat(Adjoint):
    """Keep the states, recompute each step while going back, and differentiate it in mixed mode.

    Memory: T/k + k states of all inits and one step's activations of one chunk of them, k being the execution's
    ``store_every``; no double-differentiable graph exists at any time. With k > 1 the states between are computed a
    second time. A batch is made once a step for all chunks, forward, and once more on the way back.
    """

    @torch.no_grad()
    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        steps, every = source.steps, kernels.execution.store_every
        observed = kernels.objective.observed(steps)
        # One block for all that is kept, taken before anything else: kept one by one among the activations, the states
        # would pin the C allocator's heap, and the peak would grow with T by far more than their size.
        kept = states.each(lambda value: value.new_empty(-(-steps // every), *value.shape))
        chunks = list(_chunks(_inits(states), kernels.execution.chunk))
        current = [states.at(rows) for rows in chunks]
        for t in range(steps):
            if t % every == 0:
                for rows, state in zip(chunks, current, strict=True):
                    for slots, field in zip(kept, state, strict=True):
                        for name, value in field.items():
                            slots[name][t // every, rows].copy_(value)
            current = self._stepped(kernels, source, params, current, t)

        cotangents = [state.each(torch.zeros_like) for state in current]
        loss_B = next(iter(states.params.values())).new_zeros(_inits(states))
        pullback = source.pullback(params, _inits(states))
        segment: dict[int, list[State]] = {steps: current}
        for t in reversed(range(steps)):
            if t + 1 in observed:
                for c, rows in enumerate(chunks):
                    value_B, (params_cot, buffers_cot) = kernels.terminal(segment[t + 1][c], *real)
                    loss_B[rows] += value_B
                    params_cot = add(cotangents[c].params, params_cot)
                    cotangents[c] = State(params_cot, cotangents[c].opt, add(cotangents[c].buffers, buffers_cot))
            segment.pop(t + 1)
            if t not in segment:  # the last step of a stored block: run it forward again
                start = t - t % every
                # Clones: compiled, forward mode fails on views.
                segment[start] = [kept.at(start // every, rows).each(Tensor.clone) for rows in chunks]
                for inner in range(start, t):
                    segment[inner + 1] = self._stepped(kernels, source, params, segment[inner], inner)
            batch = pullback.batch(t)
            found = []
            for c, state in enumerate(segment[t]):
                cotangents[c], batch_cotangent = kernels.pull(state, batch, cotangents[c])
                found.append(batch_cotangent)
            pullback.add(t, _joined(found))
        return MetaGradient(loss_B, pullback.result())

    def _stepped(
        self, kernels: Kernels, source: Source, params: Tensors, states: list[State], step: int
    ) -> list[State]:
        """One step of all chunks, on a batch that is made once."""
        batch = source.batch(params, step)
        return [kernels.step(state, batch) for state in states]


def adjoint_names() -> tuple[str, ...]:
    """The adjoints by name."""
    return ("remat", "unroll")


def make_adjoint(name: str) -> Adjoint:
    """An adjoint by name; raises LimbeckError for an unknown one."""
    adjoints: dict[str, type[Adjoint]] = {"remat": Remat, "unroll": Unroll}
    if name not in adjoints:
        raise unknown("adjoint", name, adjoints)
    return adjoints[name]()


def _inits(states: State) -> int:
    return next(iter(states.params.values())).shape[0]


def _chunks(inits: int, size: int) -> Iterator[slice]:
    for start in range(0, inits, size):
        yield slice(start, min(start + size, inits))


def _joined(parts: list[Batch]) -> Batch:
    """The cotangents of all chunks, (B, ...)."""
    if len(parts) == 1:
        return parts[0]
    h = {name: torch.cat([part.h[name] for part in parts]) for name in parts[0].h}
    return Batch(torch.cat([part.x_MCHW for part in parts]), torch.cat([part.y_MK for part in parts]), h)
