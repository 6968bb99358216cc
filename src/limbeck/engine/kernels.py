"""The engine's pure functions over B initial weights at once: batched by vmap, compiled where that pays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from limbeck.engine.forward import detach_all, differentiable, holding
from limbeck.engine.ladder import Function, Ladder
from limbeck.engine.learner import Learner, Mode
from limbeck.engine.modes import choose_mode
from limbeck.engine.objective import Objective
from limbeck.engine.state import Batch, State, Tensors
from limbeck.errors import LimbeckError


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
        self._ladder = Ladder(learner.training_module, learner.simple)
        self._mode: Mode | None = None
        self._channels_last = execution.channels_last

    def init(self, params: Tensors) -> State:
        """States (B, ...) before the first step, from initial weights (B, ...)."""
        states: State = vmap(self.learner.init)(params)
        return states

    def step(self, states: State, batch: Batch) -> State:
        """The next states (B, ...)."""
        result: State = self._call("step", states.params, states, batch)
        return result

    def step_each(self, states: State, batches: Batch) -> State:
        """The next states (B, ...), each init on a batch and with hyper-parameters of its own, all (B, ...)."""
        result: State = self._call("step_each", states.params, states, batches)
        return result

    def pull(self, states: State, batch: Batch, cotangents: State) -> tuple[State, Batch]:
        """From cotangents (B, ...) of the next states to those of the states and of the batch, (B, ...) each.

        The first call compares the orders of differentiation on one init, and warns where another than that of
        ``execution`` is used (see ``engine.modes``).
        """
        if self._mode is None:
            trusted = choose_mode(self.execution.mode, self.learner, states.at(0), batch, cotangents.at(0))
            if trusted is not None:
                self._mode = trusted.mode
                if trusted.mode == "autograd" and self.execution.mode != "autograd":
                    self._ladder.descend("recorded", "its forward pass cannot be transformed as a function")
                elif trusted.unfused and trusted.mode != "autograd":
                    self._ladder.descend("unfused", "the fused kernels have no derivative of the second order")
        result: tuple[State, Batch] = self._call(self.mode, states.params, states, batch, cotangents)
        return result

    def terminal(self, states: State, x_NCHW: Tensor, y_N: Tensor) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        """The objective (B,) and its gradients in the parameters and the carried buffers (B, ...)."""
        if self._channels_last:
            try:
                images = x_NCHW.contiguous(memory_format=torch.channels_last)
                return self._terminal(states, images, y_N, fall=False)
            except RuntimeError:  # some batching rules know one layout only, group normalisation's for example
                self._channels_last = False
        return self._terminal(states, x_NCHW, y_N)

    def predict(self, networks: Tensors, x_NCHW: Tensor) -> Tensor:
        """Logits (B, N, K) of B networks, parameters and carried buffers, on the same images."""
        result: Tensor = self._call("predict", networks, networks, x_NCHW)
        return result

    @property
    def mode(self) -> Mode:
        """The order of differentiation that is used so far."""
        return self._mode or self.execution.mode

    @property
    def rung(self) -> str:
        """How the kernels are computed so far (see ``engine.ladder``)."""
        return self._ladder.rung

    def _terminal(
        self, states: State, x_NCHW: Tensor, y_N: Tensor, *, fall: bool = True
    ) -> tuple[Tensor, tuple[Tensors, Tensors]]:
        args = states.params, states.buffers, x_NCHW, y_N
        grads, values = self._call("terminal", states.params, *args, fall=fall)
        return values, grads

    def _call(self, name: str, params: Tensors, *args: Any, fall: bool = True) -> Any:
        batched = next(iter(params.values())).shape[0] > 1
        key = name, batched
        if key in self._functions:
            try:
                return self._functions[key](*args)
            except (LimbeckError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # a branch that the first arguments did not take, say
                if self.learner.simple or not fall or "not enough memory" in str(error):
                    raise
        alone = name == "predict" and self.execution.score_chunk == 1
        self._functions[key], result = self._ladder.first_call(
            self._function(name),
            batched=batched,
            compiled=self.execution.compiled and not alone,
            args=args,
            fall=fall,
        )
        return result

    def _function(self, name: str) -> Function:
        learner, coarse = self.learner, self.execution.bfloat16
        if name == "step":
            return Function(transformed=learner.step, recorded=learner.step_recorded, has_inits=(True, False))
        if name == "step_each":
            return Function(transformed=learner.step, recorded=learner.step_recorded, has_inits=(True, True))
        if name == "predict":
            return Function(transformed=learner.predict, recorded=learner.predict, has_inits=(True, False))
        if name == "terminal":
            transformed = grad_and_value(self._value, argnums=(0, 1))
            inits = True, True, False, False
            return Function(transformed=transformed, recorded=self._value_recorded, has_inits=inits, coarse=coarse)
        assert name in get_args(Mode)
        pull, recorded = learner.step_vjp(name), learner.step_vjp("autograd")  # type: ignore[arg-type]
        return Function(transformed=pull, recorded=recorded, has_inits=(True, False, True))

    def _value_recorded(
        self, params: Tensors, buffers: Tensors, x_NCHW: Tensor, y_N: Tensor
    ) -> tuple[tuple[Tensors, Tensors], Tensor]:
        """What ``grad_and_value`` gives, by recording operations."""
        params, buffers = detach_all(params), detach_all(buffers)
        module = self.learner.module
        with differentiable(module), holding(module, params), torch.enable_grad():
            value = self._value(params, buffers, x_NCHW, y_N)
            leaves = [*params.values(), *buffers.values()]
            parts = iter(torch.autograd.grad(value, leaves, materialize_grads=True))
        grads = {name: next(parts) for name in params}, {name: next(parts) for name in buffers}
        return grads, value.detach()

    def _value(self, params: Tensors, buffers: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = nullcontext()
        if self.execution.bfloat16:
            context = torch.autocast(x_NCHW.device.type, dtype=torch.bfloat16)
        with context:
            return self.objective.value(self.learner, params | buffers, x_NCHW, y_N)
