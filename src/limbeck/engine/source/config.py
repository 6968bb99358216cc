"""What a source is built from, and the config of each kind of source: sizes, labels, learning rates, words.

Shapes: S batches, M images a batch, T steps, K classes; C, H, W of an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from limbeck.engine.schedule import InnerConfig
from limbeck.engine.source.base import Group, Source
from limbeck.engine.source.limits import Limits

Sampler: TypeAlias = Callable[[torch.Generator, int], tuple[Tensor, Tensor]]
"""A generator and a number n to n real examples: normalised images (n, C, H, W) and class indices (n,)."""

LabelKind: TypeAlias = Literal["hard", "soft", "balanced", "random", "learned", "real"]
"""Hard or learned soft labels of images, those of a generator's classes, or those of real images."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Materials:
    """What a source is built from: the task, as far as it may see it, and the networks that it may need.

    Args:
        classes: K.
        image_shape: (C, H, W).
        device: where what is learned lies.
        inner: hyper-parameters of the inner loop.
        rng: draws what learning starts from.
        sample: draws real training examples.
        per_class: a generator and n to n normalised training images of each class, (K, n, C, H, W).
        kmeans: the same, to centres of k-means within each class.
        valid_pixels: makes the set of images that are valid, in normalised space.
        make_generator: the config of a generator and a seed to a network from noise and labels to images.
        make_encoder: Z and a seed to a network from images (M, C, H, W) to noise (M, Z).
    """

    classes: int
    image_shape: tuple[int, int, int]
    device: torch.device
    inner: InnerConfig
    rng: torch.Generator
    sample: Sampler
    per_class: Callable[[torch.Generator, int], Tensor]
    kmeans: Callable[[torch.Generator, int], Tensor]
    valid_pixels: Callable[[], Limits]
    make_generator: Callable[[SourceConfig, int], nn.Module]
    make_encoder: Callable[[int, int], nn.Module]


class SourceConfig(ABC):
    """What is learned, and how it is used; derive a frozen, keyword-only dataclass for a source of your own."""

    @property
    @abstractmethod
    def inner_steps(self) -> int:
        """T, the steps that a learner is trained for."""

    @abstractmethod
    def batch_size(self, classes: int) -> int:
        """M, the images of a step, for K = ``classes``."""

    @property
    def labels_kind(self) -> LabelKind:
        """Where the labels come from; hard labels by default."""
        return "hard"

    @property
    def groups(self) -> frozenset[Group]:
        """The learning rates of the outer optimiser that it uses; those of images and of step sizes by default."""
        return frozenset({"images", "steps"})

    def groups_with(self, inner: InnerConfig) -> frozenset[Group]:
        """Those of ``groups`` that are used where ``inner`` says which hyper-parameters are learned.

        Without any, nothing has the rate of step sizes; a source whose own parameters have it overrides this.
        """
        return self.groups if inner.learned else self.groups - {"steps"}

    @property
    def images_noun(self) -> str:
        """What its images are called, such as "learned images"."""
        return "learned images"

    @property
    def description(self) -> str:
        """What a learner is trained on, in a few words, such as "10 batches of 1 image per class"."""
        return f"{self.inner_steps} steps of {self.images_noun}"

    @abstractmethod
    def build(self, materials: Materials) -> Source:
        """The source, where learning starts.

        Raises:
            LimbeckError: the config does not fit the task.
        """

    @property
    def code(self) -> tuple[str, ...]:
        """Names of code, ``package.module:function``, that ``build`` imports."""
        return ()

    def check_real_batch(self, size: int) -> None:  # noqa: B027 (most ask nothing of it)
        """Raise LimbeckError for a batch of real data that is too small for what the source asks of it."""

    def prepare(self, source: Source, materials: Materials) -> str | None:
        """Train the source on its own before the outer loop, in place, where it asks for that.

        Args:
            source: what ``build`` returned.
            materials: the same that it was built from.

        Returns:
            A sentence for the user that says what was done, or None where there was nothing to do.
        """
        return None
