"""The hyper-parameters of the inner loop: which optimiser, and which of its scalars are learned, for each step or one.

What is learned is unconstrained and mapped to where the hyper-parameter may lie: step sizes and weight decay are
positive (softplus, or bounded), momentum and Adam's decay rates lie between 0 and 1 (sigmoid). T: number of steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp, vmap

from limbeck.common.idle import IdleOptionError, refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.engine.optim import Adam, GradientDescent, InnerOptimizer, Momentum
from limbeck.engine.state import Tensors
from limbeck.errors import LimbeckError, unknown

Learned: TypeAlias = Literal["fixed", "shared", "per-step"]
"""A hyper-parameter keeps its value, is learned as one number for all steps, or as one for each step."""

HYPERPARAMETERS = ("lr", "momentum", "beta1", "beta2", "weight_decay")
"""All names that a hyper-parameter can have; no source may learn anything else under them."""

START = 0.02
"""The step size where none is named, or chosen."""

_FRACTIONS = ("momentum", "beta1", "beta2")
_BELOW_ONE = 1 - 1e-6
"""Bound of learned fractions: in float32 a saturated sigmoid is 1, where Adam's bias correction divides by 0."""


@final
@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """How the learner is trained on what is learned.

    Args:
        optimizer: ``gd`` is plain gradient descent, ``sgd`` has momentum, ``nesterov`` looks ahead, ``adam`` adapts.
        lr: the step size that every step starts from, > 0; by default the best of a few on validation data where a run
            may choose, else 0.02.
        lr_max: upper bound of the step sizes; none by default.
        momentum: of ``sgd`` and ``nesterov``, in [0, 1).
        inner_beta1: decay rate of ``adam``'s first moment, in [0, 1).
        inner_beta2: decay rate of ``adam``'s second moment, in [0, 1).
        weight_decay: added to the gradient times the weights, >= 0; not for ``gd``.
        epsilon: added to ``adam``'s second moment inside the root, > 0; 1e-8 is what torch calls 1e-4.
        learn_lr: ``fixed``, one ``shared`` by all steps, or ``per-step``.
        learn_momentum: the same for the momentum.
        learn_betas: the same for Adam's decay rates.
        learn_weight_decay: the same for the weight decay.
    """

    optimizer: Literal["gd", "sgd", "nesterov", "adam"] = "gd"
    lr: float | None = None
    lr_max: float | None = None
    momentum: float = 0.9
    inner_beta1: float = 0.9
    inner_beta2: float = 0.999
    weight_decay: float = 0.0
    epsilon: float = 1e-8
    learn_lr: Learned = "per-step"
    learn_momentum: Learned = "fixed"
    learn_betas: Learned = "fixed"
    learn_weight_decay: Learned = "fixed"

    def __post_init__(self) -> None:
        check_types(self)
        if self.optimizer not in ("gd", "sgd", "nesterov", "adam"):
            raise unknown("inner optimizer", self.optimizer, ("gd", "sgd", "nesterov", "adam"))
        for name in ("learn_lr", "learn_momentum", "learn_betas", "learn_weight_decay"):
            if getattr(self, name) not in ("fixed", "shared", "per-step"):
                raise unknown(name, getattr(self, name), ("fixed", "shared", "per-step"))
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise LimbeckError(f"lr is {self.lr}; a step size must be a positive number.")
        if self.lr_max is not None and not self.start("lr") < self.lr_max < math.inf:
            raise LimbeckError(f"lr_max is {self.lr_max}; it must be a number above lr ({self.start('lr')}).")
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise LimbeckError(f"epsilon is {self.epsilon}; it must be a positive number.")
        for name in ("momentum", "inner_beta1", "inner_beta2"):
            if not 0 <= getattr(self, name) < _BELOW_ONE:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must lie in [0, 0.999999).")
        if not 0 <= self.weight_decay < math.inf:
            raise LimbeckError(f"weight_decay is {self.weight_decay}; it must not be negative.")
        read = self.make().hyperparameters
        for name, options, others in (
            ("momentum", ("momentum", "learn_momentum"), "sgd or nesterov"),
            ("beta1", ("inner_beta1", "inner_beta2", "learn_betas", "epsilon"), "adam"),
            ("weight_decay", ("weight_decay", "learn_weight_decay"), "another"),
        ):
            if name not in read:
                why = f"with the inner optimizer {self.optimizer}"
                refuse_idle_fields(self, *options, why=why, fix=f"choose {others}")
        if self.lr_max is not None and self.learn_lr == "fixed":
            raise IdleOptionError("lr_max", self.lr_max, "where no step size is learned", "learn them")
        for name in read:
            if self.learning_of(name) != "fixed" and self.start(name) == 0:
                raise LimbeckError(f"{name} is 0, where it cannot be learned from; start it above 0 or keep it fixed.")

    def make(self) -> InnerOptimizer:
        """The optimiser."""
        if self.optimizer == "gd":
            return GradientDescent()
        if self.optimizer == "adam":
            return Adam(epsilon=self.epsilon)
        return Momentum(nesterov=self.optimizer == "nesterov")

    @property
    def learned(self) -> tuple[str, ...]:
        """The hyper-parameters of the optimiser that are learned."""
        return tuple(name for name in self.make().hyperparameters if self.learning_of(name) != "fixed")

    def start(self, name: str) -> float:
        """Where a hyper-parameter of the optimiser starts, or stays."""
        if name == "lr" and self.lr is None:
            return START
        value: float = getattr(self, f"inner_{name}" if name in ("beta1", "beta2") else name)
        return value

    def learning_of(self, name: str) -> Learned:
        """How a hyper-parameter of the optimiser is learned."""
        choice: Learned = getattr(self, "learn_betas" if name in ("beta1", "beta2") else f"learn_{name}")
        return choice


@final
class Schedule:
    """The hyper-parameters of T inner steps, for a source to learn along with its data.

    ``parameters()`` are unconstrained, (T,) where learned per step and () where shared; ``decode`` gives every
    hyper-parameter of the optimiser as (T,), ``at`` those of one step as scalars.
    """

    def __init__(
        self, config: InnerConfig, steps: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
    ) -> None:
        self.config = config
        self.steps = steps
        self.names = config.make().hyperparameters
        self._params: Tensors = {}
        self._constants: Tensors = {}
        for name in self.names:
            value, learning = config.start(name), config.learning_of(name)
            if learning == "fixed":
                self._constants[name] = torch.tensor(value, dtype=dtype, device=device)
            else:
                shape = (steps,) if learning == "per-step" else ()
                self._params[name] = torch.full(shape, self._raw(name, value), dtype=dtype, device=device)

    def parameters(self) -> Tensors:
        """What is learned, unconstrained, by the hyper-parameter's name."""
        return self._params

    def at(self, params: Tensors, step: int) -> Tensors:
        """The hyper-parameters of one step, scalars by name."""
        return {name: self._value(params, name, step) for name in self.names}

    def decode(self, params: Tensors) -> Tensors:
        """The hyper-parameters of all steps, (T,) by name."""
        values = {name: self._value(params, name) for name in self.names}
        return {name: value.expand(self.steps) for name, value in values.items()}

    def _value(self, params: Tensors, name: str, step: int | None = None) -> Tensor:
        if name in self._constants:
            return self._constants[name]
        raw = params[name]
        if step is not None and raw.dim() == 1:
            raw = raw[step]
        if name in _FRACTIONS:
            return _BELOW_ONE * torch.sigmoid(raw)
        if name == "lr" and self.config.lr_max is not None:
            return self.config.lr_max * torch.sigmoid(raw)
        return F.softplus(raw)

    def _raw(self, name: str, value: float) -> float:
        bound = _BELOW_ONE if name in _FRACTIONS else self.config.lr_max if name == "lr" else None
        if bound is None:
            return value + math.log(-math.expm1(-value))  # log(expm1(value)) without overflow
        return math.log(value / (bound - value))


@final
class ScheduleGradients:
    """Adds up the cotangents of T steps' hyper-parameters, of B inits, and pulls them through ``decode`` once.

    Args:
        schedule: whose parameters get the gradients.
        params: where it is pulled back; others than the schedule's may be among them.
        inits: B.
    """

    def __init__(self, schedule: Schedule, params: Tensors, inits: int) -> None:
        h, self._pull = vjp(schedule.decode, {name: params[name] for name in schedule.parameters()})[:2]
        self._h = {name: value.new_zeros(inits, *value.shape) for name, value in h.items()}

    def add(self, step: int, cotangent: Tensors) -> None:
        """Add the cotangents of the hyper-parameters of one step, 0 ≤ step < T, each (B,)."""
        for name, value in cotangent.items():
            self._h[name][:, step] += value

    def result(self) -> Tensors:
        """Gradients of the schedule's parameters, each (B, *shape)."""
        (grads,) = vmap(self._pull)(self._h)
        result: Tensors = grads
        return result
