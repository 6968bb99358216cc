"""Rematerialised and mixed-mode: the adjoint that everything is computed with.

Shapes: B inits, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from limbeck.common.typed import check_types
from limbeck.engine.adjoint.base import Adjoint, MetaGradient, RealBatch, chunk_rows, count_inits
from limbeck.engine.kernels import Kernels
from limbeck.engine.source.base import Source
from limbeck.engine.state import Batch, State, Tensors, add
from limbeck.errors import LimbeckError


@final
@dataclass(frozen=True, kw_only=True)
class Remat(Adjoint):
    """Keep the states, recompute each step while going back, and differentiate it in mixed mode (arXiv 2505.00793).

    Memory: T/k + k states of all inits and one step's activations of one chunk of them, k being ``store_every``; no
    double-differentiable graph exists at any time. With k > 1 the states between are computed a second time. A batch is
    made once a step for all chunks, forward, and once more on the way back.

    Args:
        store_every: k, keep every k-th inner state, >= 1.
    """

    store_every: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        if not self.store_every >= 1:
            raise LimbeckError(f"store_every is {self.store_every}; it must be a positive number.")

    def stored_states(self, steps: int) -> int:
        """Those at the beginnings of the blocks, and those of one block."""
        return -(-steps // self.store_every) + min(self.store_every, steps)

    @torch.no_grad()
    def meta_gradient(
        self, kernels: Kernels, source: Source, params: Tensors, states: State, real: RealBatch
    ) -> MetaGradient:
        steps, every = source.steps, self.store_every
        observed = kernels.objective.reading_steps(steps)
        # One block for all that is kept, taken before anything else: kept one by one among the activations, the states
        # would pin the C allocator's heap, and the peak would grow with T by far more than their size.
        store = states.each(lambda value: value.new_empty(-(-steps // every), *value.shape))
        chunks = list(chunk_rows(count_inits(states), kernels.execution.chunk))
        current = [states.at(rows) for rows in chunks]
        for t in range(steps):
            if t % every == 0:
                for rows, state in zip(chunks, current, strict=True):
                    for slots, field in zip(store, state, strict=True):
                        for name, value in field.items():
                            slots[name][t // every, rows].copy_(value)
            current = self._step_all(kernels, source, params, current, t)

        cotangents = [state.each(torch.zeros_like) for state in current]
        loss_B = next(iter(states.params.values())).new_zeros(count_inits(states))
        pullback = source.pullback(params, count_inits(states))
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
                segment[start] = [store.at(start // every, rows).each(Tensor.clone) for rows in chunks]
                for inner in range(start, t):
                    segment[inner + 1] = self._step_all(kernels, source, params, segment[inner], inner)
            batch, pull = pullback.batch(t)
            parts = []
            for c, state in enumerate(segment[t]):
                cotangents[c], part = kernels.pull(state, batch, cotangents[c])
                parts.append(part)
            pull(_join(parts))
        return MetaGradient(loss_B, pullback.result())

    def _step_all(
        self, kernels: Kernels, source: Source, params: Tensors, states: list[State], step: int
    ) -> list[State]:
        """One step of all chunks, on a batch that is made once."""
        batch = source.batch(params, step)
        return [kernels.step(state, batch) for state in states]


def _join(parts: list[Batch]) -> Batch:
    """The batch cotangents of all chunks as one batch, (B, ...)."""
    if len(parts) == 1:
        return parts[0]
    h = {name: torch.cat([part.h[name] for part in parts]) for name in parts[0].h}
    return Batch(torch.cat([part.x_MCHW for part in parts]), torch.cat([part.y_MK for part in parts]), h)
