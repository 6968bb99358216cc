"""What a method is: a way to get a gradient on what a source learns.

Shapes: B inits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from limbeck.engine import Execution, Kernels, Learner, MetaGradient, Objective, RealBatch, RealLoss, Source, Tensors
from limbeck.errors import LimbeckError


class Method(ABC):
    """A way to get a gradient in the parameters of a source, for each of B initial weights."""

    def kernels(self, learner: Learner, execution: Execution) -> Kernels:
        """The learner as this method runs it; validation trains and scores networks with the same."""
        return Kernels(learner, RealLoss(), execution)

    @abstractmethod
    def gradient(
        self, kernels: Kernels, source: Source, weights: Tensors, real: RealBatch, rng: torch.Generator
    ) -> MetaGradient:
        """The loss of each of B inits and its gradient in ``source.parameters()``, one for each init.

        Args:
            kernels: what ``kernels`` gave for the learner.
            source: what is learned.
            weights: initial weights (B, ...) by name.
            real: normalised real images (N, C, H, W) and their classes (N,).
            rng: draws what the method leaves to chance.
        """


class MethodConfig(ABC):
    """Which method, with its settings; derive a frozen, keyword-only dataclass for a method of your own."""

    @property
    def compilable(self) -> bool:
        """Whether it runs the kernels often enough for compiling them to pay."""
        return True

    @property
    def idle_with_goal(self) -> tuple[str, ...]:
        """Options that do nothing where something else is minimised than the loss on real data; none by default."""
        return ()

    @property
    def learns_steps(self) -> bool:
        """Whether step sizes are learned with the images; a set without them is for ordinary training."""
        return True

    @property
    def suits(self) -> Mapping[str, Any]:
        """Settings that suit it where nobody names them, by their names in a run's configuration; none by default."""
        return {}

    def refuse_goal(self, goal: Objective | None) -> None:
        """Raise LimbeckError for a goal that a method cannot have, as one that compares with real images."""
        if goal is not None:
            raise LimbeckError(f"{type(self).__name__} cannot learn an attack; use UnrolledConfig.")

    def stored_states(self, steps: int) -> int:
        """States of each network that are held at once for T inner ``steps``; by default one, as nothing is trained."""
        return 1

    @abstractmethod
    def build(self, goal: Objective | None = None) -> Method:
        """The method with these settings.

        Args:
            goal: what is minimised in the place of the loss on real data, as an attack asks for.
        """
