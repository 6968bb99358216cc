"""Real data in the place of learned data, with learned hyper-parameters only: what every source is compared with.

Shapes: T steps, M images a step, K classes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.common.typed import check_types
from limbeck.engine.schedule import InnerConfig, Schedule, ScheduleGradients
from limbeck.engine.source.base import Group, Pull, Pullback, Source
from limbeck.engine.source.config import LabelKind, Materials, Sampler, SourceConfig
from limbeck.engine.state import Batch, Tensors
from limbeck.errors import LimbeckError


@final
@dataclass(frozen=True, kw_only=True)
class RealConfig(SourceConfig):
    """Real images in the place of learned ones; only hyper-parameters are learned.

    Args:
        inner_steps: T, the batches that a learner is trained on, one step each.
        batch: M, images in a batch.
    """

    inner_steps: int = 32
    batch: int = 128

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("inner_steps", "batch"):
            if getattr(self, name) < 1:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def batch_size(self, classes: int) -> int:
        return self.batch

    @property
    def labels_kind(self) -> LabelKind:
        return "real"

    @property
    def groups(self) -> frozenset[Group]:
        return frozenset({"steps"})

    @property
    def images_noun(self) -> str:
        return "real images, for comparison,"

    @property
    def description(self) -> str:
        return f"{self.batch} images a step of real data"

    def build(self, materials: Materials) -> RealBatches:
        return RealBatches(
            materials.sample, self.inner_steps, self.batch, materials.classes, materials.rng, materials.inner
        )


@final
class RealBatches(Source):
    """Batches of real examples, fresh ones for every outer iteration. Learned: what is learned of the schedule.

    Args:
        sample: where the examples come from.
        steps: T.
        batch: M.
        classes: K.
        rng: draws the batches that it starts with.
        inner: hyper-parameters; at least one must be learned.
    """

    def __init__(
        self, sample: Sampler, steps: int, batch: int, classes: int, rng: torch.Generator, inner: InnerConfig
    ) -> None:
        self.steps = steps
        self._sample, self._batch, self._classes = sample, batch, classes
        self._x_TMCHW, self._y_TM = self._draw(rng)
        self.schedule = Schedule(inner, steps, dtype=self._x_TMCHW.dtype, device=self._x_TMCHW.device)
        if not self.schedule.parameters():
            raise LimbeckError("Real batches have nothing to learn but hyper-parameters, and all of these are fixed.")

    def parameters(self) -> Tensors:
        return self.schedule.parameters()

    def batch(self, params: Tensors, step: int) -> Batch:
        y_MK = F.one_hot(self._y_TM[step], self._classes).to(self._x_TMCHW.dtype)
        return Batch(self._x_TMCHW[step], y_MK, self.schedule.at(params, step))

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return _HyperparameterPullback(self, params, inits)

    def redraw(self, rng: torch.Generator) -> Self:
        other = copy.copy(self)
        other._x_TMCHW, other._y_TM = self._draw(rng)
        return other

    def _draw(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        x_NCHW, y_N = self._sample(rng, self.steps * self._batch)
        sizes = (self.steps, self._batch)
        return x_NCHW.reshape(*sizes, *x_NCHW.shape[1:]), y_N.reshape(sizes)


@final
class _HyperparameterPullback(Pullback):
    """Gathers the cotangents of the decoded hyper-parameters; those of the images are nobody's."""

    def __init__(self, source: RealBatches, params: Tensors, inits: int) -> None:
        self._source, self._params = source, params
        self._gradients = ScheduleGradients(source.schedule, params, inits)

    def batch(self, step: int) -> tuple[Batch, Pull]:
        return self._source.batch(self._params, step), lambda cotangent: self._gradients.add(step, cotangent.h)

    def result(self) -> Tensors:
        return self._gradients.result()
