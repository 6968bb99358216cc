"""The engine's pure functions over B initial weights at once: batched by vmap, compiled where that pays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from limbeck.engine.compiling import Compiled
from limbeck.engine.learner import Learner, Mode
from limbeck.engine.modes import choose_mode
from limbeck.engine.objective import Objective
from limbeck.engine.state import Batch, State, Tensors


@final
@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the kernels run. None of it changes a result beyond rounding.

    Args:
        mode: which order of differentiation pulls a step back (see ``engine.learner``); another one takes its place
            where it is wrong for the learner (see ``engine.modes``).
        compiled: compile the kernels with ``torch.compile``; needs a C++ compiler on a CPU.
        bfloat16: autocast the real batch to bfloat16.
        channels_last: lay the real batch out as N, H, W, C, where the learner's operators can.
        chunk: how many initial weights are computed at once; 1 runs them one after another, without vmap.
        score_chunk: how many are at a time where they only predict, ``chunk`` by default; with 1 that is not compiled,
            which gains nothing there.
    """

    mode: Mode = "reverse-over-forward"
    compiled: bool = False
    bfloat16: bool = False
    channels_last: bool = False
    chunk: int = 8
    score_chunk: int | None = None


@final
class Kernels:
    """A learner's step, its pull-back, its predictions and an objective, each computed for B inits at once.

    What is batched has a leading dimension of B; images, labels and hyper-parameters are shared by all inits, but for
    ``step_each``. A function is built, and compiled where ``execution`` says so, at its first call.

    Args:
        learner: what is trained.
        objective: what ``terminal`` reads.
        execution: how they are computed.
    """

    def __init__(self, learner: Learner, objective: Objective, execution: Execution) -> None:
        self.learner = learner
        self.objective = objective
        self.execution = execution
        self._functions: dict[tuple[str, bool], Callable[..., Any]] = {}
        self._mode: Mode | None = None
        self._channels_last = execution.channels_last

    def init(self, params: Tensors) -> State:
        """States (B, ...) before the first step, from initial weights (B, ...)."""
        states: State = vmap(self.learner.init)(params)
        return states

    def step(self, states: State, batch: Batch) -> State:
        """The next states (B, ...)."""
        result: State = self._kernel("step", states.params)(states, batch)
        return result

    def step_each(self, states: State, batches: Batch) -> State:
        """The next states (B, ...), each init on a batch and with hyper-parameters of its own, all (B, ...)."""
        result: State = self._kernel("step_each", states.params)(states, batches)
        return result

    def pull(self, states: State, batch: Batch, cotangents: State) -> tuple[State, Batch]:
        """From cotangents (B, ...) of the next states to those of the states and of the batch, (B, ...) each.

        The first call compares the orders of differentiation on one init, and warns where another than that of
        ``execution`` is used (see ``engine.modes``).
        """
        if self._mode is None:
            self._mode = choose_mode(self.execution.mode, self.learner, states.at(0), batch, cotangents.at(0))
        mode = self._mode or self.execution.mode
        result: tuple[State, Batch] = self._kernel(mode, states.params)(states, batch, cotangents)
        return result

    def terminal(self, states: State, x_NCHW: Tensor, y_N: Tensor) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        """The objective (B,) and its gradients in the parameters and the carried buffers (B, ...)."""
        terminal = self._kernel("terminal", states.params)
        if self._channels_last:
            try:
                images = x_NCHW.contiguous(memory_format=torch.channels_last)
                grads, values = terminal(states.params, states.buffers, images, y_N)
                return values, grads
            except RuntimeError:  # some batching rules know one layout only, group normalisation's for example
                self._channels_last = False
        grads, values = terminal(states.params, states.buffers, x_NCHW, y_N)
        return values, grads

    def predict(self, networks: Tensors, x_NCHW: Tensor) -> Tensor:
        """Logits (B, N, K) of B networks, parameters and carried buffers, on the same images."""
        result: Tensor = self._kernel("predict", networks)(networks, x_NCHW)
        return result

    def _kernel(self, name: str, params: Tensors) -> Callable[..., Any]:
        batched = next(iter(params.values())).shape[0] > 1
        key = name, batched
        if key not in self._functions:
            self._functions[key] = self._build(*key)
        return self._functions[key]

    def _build(self, name: str, batched: bool) -> Callable[..., Any]:
        kinds: dict[str, tuple[Callable[..., Any], tuple[bool, ...]]] = {
            "step": (self.learner.step, (True, False)),
            "step_each": (self.learner.step, (True, True)),
            "terminal": (grad_and_value(self._value, argnums=(0, 1)), (True, True, False, False)),
            "predict": (self.learner.predict, (True, False)),
            **{mode: (self.learner.step_vjp(mode), (True, False, True)) for mode in get_args(Mode)},
        }
        function, has_inits = kinds[name]
        kernel = (_map_inits if batched else _run_one)(function, has_inits)
        alone = name == "predict" and self.execution.score_chunk == 1
        return Compiled(kernel) if self.execution.compiled and not alone else kernel

    def _value(self, params: Tensors, buffers: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = nullcontext()
        if self.execution.bfloat16:
            context = torch.autocast(x_NCHW.device.type, dtype=torch.bfloat16)
        with context:
            return self.objective.value(self.learner, params | buffers, x_NCHW, y_N)


def _map_inits(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
    return vmap(function, in_dims=tuple(0 if flag else None for flag in has_inits))


def _run_one(function: Callable[..., Any], has_inits: tuple[bool, ...]) -> Callable[..., Any]:
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
