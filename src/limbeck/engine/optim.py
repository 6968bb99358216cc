"""Inner optimisers: how the learner turns a gradient into its next state, as two pure functions.

Their state is part of what the meta-gradient goes through. Written as torch.optim computes them, in the notation
θ parameters, g gradient, η learning rate, λ weight decay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from limbeck.engine.state import State, Tensors


class InnerOptimizer(ABC):
    """A pure pair ``init``, ``update``; everything that changes during training is in the state they pass on."""

    @property
    @abstractmethod
    def hyperparameters(self) -> tuple[str, ...]:
        """Names of the scalars that ``update`` reads in ``h``."""

    @property
    @abstractmethod
    def affine(self) -> bool:
        """Whether the update is affine in the gradient. The reverse pass is cheaper then: the cotangent that reaches
        the gradient does not depend on the gradient itself (true for SGD with momentum, false for Adam)."""

    @abstractmethod
    def init(self, params: Tensors) -> Tensors:
        """The optimiser's state before the first step, by names of its own; empty where it has none."""

    @abstractmethod
    def update(self, state: State, grads: Tensors, h: Tensors) -> State:
        """The state after one step, differentiable in all three arguments; its buffers are left empty.

        Args:
            state: parameters and the optimiser's state.
            grads: gradients of the loss in the parameters, by their names.
            h: scalars by the names in ``hyperparameters``.
        """


@final
class GradientDescent(InnerOptimizer):
    """θ ← θ − η g, with a learning rate of its own for each step (Wang et al. 2018, eq. 4)."""

    hyperparameters = ("lr",)
    affine = True

    def init(self, params: Tensors) -> Tensors:
        return {}

    def update(self, state: State, grads: Tensors, h: Tensors) -> State:
        return State({name: value - h["lr"] * grads[name] for name, value in state.params.items()}, state.opt)


@final
class Momentum(InnerOptimizer):
    """Stochastic gradient descent with momentum and weight decay: d = g + λθ, v ← μv + d, θ ← θ − ηv.

    With ``nesterov`` the step is θ ← θ − η(d + μv). h: ``lr`` η > 0, ``momentum`` 0 ≤ μ < 1, ``weight_decay`` λ ≥ 0.
    """

    hyperparameters = ("lr", "momentum", "weight_decay")
    affine = True

    def __init__(self, *, nesterov: bool = False) -> None:
        self.nesterov = nesterov

    def init(self, params: Tensors) -> Tensors:
        return {name: torch.zeros_like(value) for name, value in params.items()}

    def update(self, state: State, grads: Tensors, h: Tensors) -> State:
        params, velocities = {}, {}
        for name, value in state.params.items():
            decayed = grads[name] + h["weight_decay"] * value
            velocity = velocities[name] = h["momentum"] * state.opt[name] + decayed
            direction = decayed + h["momentum"] * velocity if self.nesterov else velocity
            params[name] = value - h["lr"] * direction
        return State(params, velocities)


@final
class Adam(InnerOptimizer):
    """Adam (Kingma and Ba 2015, algorithm 1), with epsilon inside the root: θ ← θ − η m̂ / √(v̂ + ε).

    Outside the root, as it is usual, its derivative at v = 0 is infinite and the meta-gradient NaN, for every
    parameter whose gradient is zero (behind a dead rectifier, say). ε is in units of squared gradients, so the usual
    1e-8 becomes 1e-16; larger values also tame the meta-gradient. Weight decay is added to the gradient.

    h: ``lr`` η > 0, ``beta1`` and ``beta2`` in [0, 1), ``weight_decay`` λ ≥ 0. Bias correction divides by
    1 − Πβ over the steps so far, which is Kingma and Ba's 1 − βᵗ for a constant β.
    """

    hyperparameters = ("lr", "beta1", "beta2", "weight_decay")
    affine = False

    def __init__(self, *, epsilon: float = 1e-8) -> None:
        self.epsilon = epsilon

    def init(self, params: Tensors) -> Tensors:
        one = next(iter(params.values())).new_ones(())
        moments = {f"{kind}.{name}": torch.zeros_like(v) for name, v in params.items() for kind in ("first", "second")}
        return {"rest1": one, "rest2": one.clone(), **moments}

    def update(self, state: State, grads: Tensors, h: Tensors) -> State:
        rest1, rest2 = h["beta1"] * state.opt["rest1"], h["beta2"] * state.opt["rest2"]
        opt: dict[str, Tensor] = {"rest1": rest1, "rest2": rest2}
        params = {}
        for name, value in state.params.items():
            decayed = grads[name] + h["weight_decay"] * value
            first = h["beta1"] * state.opt[f"first.{name}"] + (1 - h["beta1"]) * decayed
            second = h["beta2"] * state.opt[f"second.{name}"] + (1 - h["beta2"]) * decayed * decayed
            root = (second / (1 - rest2) + self.epsilon).sqrt()
            params[name] = value - h["lr"] * first / (1 - rest1) / root
            opt[f"first.{name}"], opt[f"second.{name}"] = first, second
        return State(params, opt)
