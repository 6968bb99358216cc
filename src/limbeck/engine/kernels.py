"""The engine's pure functions over B initial weights at once: batched by vmap, compiled where that pays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from limbeck.engine.learner import Learner, Mode
from limbeck.engine.objective import Objective
from limbeck.engine.state import Batch, State, Tensors


@final
@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the kernels run. None of it changes a result beyond rounding.

    Args:
        mode: which order of differentiation pulls a step back (see ``engine.learner``).
        compiled: compile the kernels with ``torch.compile``; needs a C++ compiler on a CPU.
        bfloat16: autocast the real batch to bfloat16.
        channels_last: lay the real batch out as N, H, W, C.
        chunk: how many initial weights are computed at once; 1 runs them one after another, without vmap.
        store_every: keep every n-th inner state and recompute those between (``Remat`` only).
    """

    mode: Mode = "reverse-over-forward"
    compiled: bool = False
    bfloat16: bool = False
    channels_last: bool = False
    chunk: int = 8
    store_every: int = 1


@final
class Kernels:
    """``step``, ``pull``, ``terminal`` and ``predict`` of a learner and an objective, over B inits at once."""

    def __init__(self, learner: Learner, objective: Objective, execution: Execution) -> None:
        self.learner = learner
        self.objective = objective
        self.execution = execution
        self._functions: dict[bool, tuple[Callable[..., Any], ...]] = {}

    def init(self, params: Tensors) -> State:
        """States (B, ...) before the first step, from initial weights (B, ...)."""
        return self.learner.init(params)

    def step(self, states: State, batch: Batch) -> State:
        """The next states (B, ...)."""
        result: State = self._for(states.params)[0](states, batch)
        return result

    def pull(self, states: State, batch: Batch, cotangents: State) -> tuple[State, Batch]:
        """Cotangents (B, ...) of the next states to those of the states and of the batch, one per init."""
        result: tuple[State, Batch] = self._for(states.params)[1](states, batch, cotangents)
        return result

    def terminal(self, states: State, x_NCHW: Tensor, y_N: Tensor) -> tuple[Tensor, Tensors]:
        """The objective (B,) and its gradient in the parameters (B, ...)."""
        if self.execution.channels_last:
            x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
        grads, values = self._for(states.params)[2](states.params, x_NCHW, y_N)
        return values, grads

    def predict(self, params: Tensors, x_NCHW: Tensor) -> Tensor:
        """Logits (B, N, K) of B sets of parameters on the same images."""
        result: Tensor = self._for(params)[3](params, x_NCHW)
        return result

    def _for(self, params: Tensors) -> tuple[Callable[..., Any], ...]:
        batched = next(iter(params.values())).shape[0] > 1
        if batched not in self._functions:
            self._functions[batched] = self._build(batched)
        return self._functions[batched]

    def _build(self, batched: bool) -> tuple[Callable[..., Any], ...]:
        over = _vmapped if batched else _single
        step = over(self.learner.step, (True, False))
        pull = over(self.learner.step_vjp(self.execution.mode), (True, False, True))
        terminal = over(grad_and_value(self._value), (True, False, False))
        predict = over(self.learner.predict, (True, False))
        functions = (step, pull, terminal, predict)
        if self.execution.compiled:
            # All kernels share the code of vmap's wrapper, and torch counts compilations per code: without this the
            # ninth kernel in a process (another learner, another batch size) would be refused.
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 1000)
            torch._dynamo.config.accumulated_recompile_limit = max(
                torch._dynamo.config.accumulated_recompile_limit, 1000
            )
            functions = tuple(torch.compile(f, fullgraph=True, dynamic=False) for f in functions)  # type: ignore[assignment]
        return functions

    def _value(self, params: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = nullcontext()
        if self.execution.bfloat16:
            context = torch.autocast(x_NCHW.device.type, dtype=torch.bfloat16)
        with context:
            return self.objective.value(self.learner, params, x_NCHW, y_N)


def _vmapped(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
    return vmap(function, in_dims=tuple(0 if flag else None for flag in has_inits))


def _single(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
    """The same for B = 1 without vmap, whose batching rules cost some operators (overlapping pools) dearly."""

    def call(*args: Any) -> Any:
        squeezed = [_map(lambda v: v[0], arg) if flag else arg for arg, flag in zip(args, has_inits, strict=True)]
        return _map(lambda v: v[None], function(*squeezed))

    return call


def _map(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {name: _map(function, value) for name, value in tree.items()}
    items = [_map(function, value) for value in tree]
    return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
