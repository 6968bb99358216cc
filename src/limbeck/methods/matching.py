"""What matching methods share: images that teach what real ones do, compared class by class and augmented alike.

Nothing is unrolled. What is learned is a set of images for ordinary training, without steps. Shapes: B inits, N images,
K classes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.common.augmentation import Augmentation, Moves
from limbeck.common.typed import check_types
from limbeck.engine import Kernels, MetaGradient, RealBatch, Source, Tensors, differentiable
from limbeck.errors import LimbeckError
from limbeck.methods.base import Method, MethodConfig


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(MethodConfig):
    """Settings of matching methods: how images are augmented while they are compared.

    Real and learned images of a class are moved by the same draw ("Siamese", Zhao and Bilen 2021, arXiv 2102.08259,
    eq. 5), drawn anew in every iteration.

    Args:
        shift: up to so many pixels along each axis; by default as ``siamese`` says, if a run may choose, and none else.
        turn: up to so many degrees, either way; by default likewise.
        zoom: a factor of up to 1 ± so much, < 1; by default likewise.
        flip: mirror with probability 1/2; by default likewise.
    """

    siamese: ClassVar[bool] = True
    """Whether images are augmented where nobody says otherwise, as suits their size."""

    shift: float | None = None
    turn: float | None = None
    zoom: float | None = None
    flip: bool | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for name, most in (("shift", math.inf), ("turn", 180.0), ("zoom", 1.0)):
            value = getattr(self, name)
            if value is not None and not 0 <= value < most:
                raise LimbeckError(f"{name} is {value}; it must be at least 0 and below {most:g}.")

    @property
    def learns_steps(self) -> bool:
        return False

    @property
    def compilable(self) -> bool:
        return False

    @property
    def augmentation(self) -> Augmentation:
        """The bounds of the moves."""
        return Augmentation(shift=self.shift or 0.0, turn=self.turn or 0.0, zoom=self.zoom or 0.0, flip=bool(self.flip))

    def fitting(self, shape: tuple[int, int, int], *, moved: bool) -> Self:
        """The same with what is left open decided for images (C, H, W); nothing is ``moved`` that is no image."""
        suiting = Augmentation.suiting(shape) if self.siamese and moved else Augmentation()
        open_ = [name for name in ("shift", "turn", "zoom", "flip") if getattr(self, name) is None]
        return replace(self, **{name: getattr(suiting, name) for name in open_})


class Lesson(NamedTuple):
    """Labelled images: (N, C, H, W), distributions over the classes (N, K)."""

    x_NCHW: Tensor
    y_NK: Tensor

    def moved(self, moves_K: Moves | None) -> Lesson:
        """The same with the images of each class moved by its own move."""
        return self if moves_K is None else Lesson(moves_K.at(self.y_NK.argmax(-1)).apply(self.x_NCHW), self.y_NK)


class Matching(Method):
    """A gradient on images from comparing them with real ones, one network after another."""

    augmentation: Augmentation

    def gradient(
        self, kernels: Kernels, source: Source, weights: Tensors, real: RealBatch, rng: torch.Generator
    ) -> MetaGradient:
        """The distance to real images and its gradient for each init, as in ``Method``."""
        params = {name: value.detach().requires_grad_() for name, value in source.parameters().items()}
        classes = source.batch(source.parameters(), 0).y_MK.shape[1]
        moves_K, age = self.augmentation.draw(classes, rng), self.draw_age(rng)  # the same for all inits
        moved = None if self.augmentation.idle else moves_K
        losses, grads = [], []
        with torch.enable_grad(), differentiable(kernels.learner.training_module):
            for b in range(len(next(iter(weights.values())))):
                learned = all_images(source, params)
                targets = Lesson(real.x_NCHW, F.one_hot(real.y_N, classes).to(learned.y_NK.dtype))
                network = {name: value[b] for name, value in weights.items()}
                loss = self.distance(kernels, network, targets.moved(moved), learned.moved(moved), age)
                parts = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
                losses.append(loss.detach())
                grads.append(dict(zip(params, parts, strict=True)))
        return MetaGradient(torch.stack(losses), {name: torch.stack([g[name] for g in grads]) for name in params})

    def draw_age(self, rng: torch.Generator) -> int:
        """Steps of training that networks have had; none by default."""
        return 0

    @abstractmethod
    def distance(self, kernels: Kernels, network: Tensors, real: Lesson, learned: Lesson, age: int) -> Tensor:
        """How far what a network makes of learned images is from what it makes of real ones: a scalar.

        Args:
            kernels: of the learner.
            network: one init's parameters and buffers by name.
            real: augmented real images.
            learned: learned ones, augmented alike; the result is differentiable in them.
            age: what ``draw_age`` gave.
        """


def all_images(source: Source, params: Tensors) -> Lesson:
    """All batches of a source in one, differentiable in its parameters."""
    batches = [source.batch(params, step) for step in range(source.steps)]
    return Lesson(torch.cat([batch.x_MCHW for batch in batches]), torch.cat([batch.y_MK for batch in batches]))


def class_weights(y_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N, K) that sum to 1 over the images of each class, and which classes there are, (K,)."""
    total_K = y_NK.sum(0)
    return y_NK / total_K.clamp_min(1e-12), total_K > 0
