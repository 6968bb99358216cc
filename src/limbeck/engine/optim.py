"""Inner optimisers: how the learner turns a gradient into its next state, as two pure functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

from limbeck.engine.state import State, Tensors


class InnerOptimizer(ABC):
    """A pure pair ``init``, ``update``; everything that changes during training is in the state they pass on."""

    hyperparameters: ClassVar[tuple[str, ...]]
    """Names of the scalars that ``update`` reads in ``h``."""

    affine: ClassVar[bool]
    """Whether the update is affine in the gradient. The reverse pass is cheaper then: the cotangent that reaches the
    gradient does not depend on the gradient itself (true for SGD with momentum, false for Adam)."""

    @abstractmethod
    def init(self, params: Tensors) -> Tensors:
        """The optimiser's state before the first step."""

    @abstractmethod
    def update(self, state: State, grads: Tensors, h: Tensors) -> State:
        """One step, differentiable in all three arguments."""


@final
class GradientDescent(InnerOptimizer):
    """θ_{t+1} = θ_t − η_t ∇ℓ(θ_t), with a learning rate of its own for each step (Wang et al. 2018, eq. 4)."""

    hyperparameters = ("lr",)
    affine = True

    def init(self, params: Tensors) -> Tensors:
        return {}

    def update(self, state: State, grads: Tensors, h: Tensors) -> State:
        return State({name: value - h["lr"] * grads[name] for name, value in state.params.items()}, state.opt)
