"""Learned images, labels and step sizes (Wang et al. 2018; soft labels: Sucholutsky and Schonlau, arXiv 1910.02551).

S batches of M = ipc·K images are cycled E times, T = S·E inner steps in all; every one of the T steps may have its own
learning rate (see ``engine.schedule``). Shapes: S batches, M images a batch, K classes, T steps, B inits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.common.idle import IdleOptionError, refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.engine.schedule import InnerConfig, Schedule
from limbeck.engine.source.base import Group, Materialised, Pullback, Source
from limbeck.engine.source.config import LabelKind, Materials, SourceConfig
from limbeck.engine.source.cyclic import CyclicPullback
from limbeck.engine.source.labels import label_logits
from limbeck.engine.source.limits import Limits, Norm
from limbeck.engine.state import Batch, Tensors
from limbeck.errors import LimbeckError, unknown


@final
@dataclass(frozen=True, kw_only=True)
class PixelConfig(SourceConfig):
    """How many images are learned and how they are used.

    Args:
        steps: S, batches of synthetic images, one gradient step each.
        epochs: E, how often the S batches are gone through.
        ipc: images per class in each batch.
        labels: ``hard`` keeps one class per image, ``soft`` learns a distribution over classes.
        label_confidence: probability of the own class that learned labels start from, in (1/K, 1).
        start: images start from Gaussian ``noise``, from randomly chosen ``real`` training images, or from the centres
            that ``kmeans`` finds in each class; where a run may choose, from centres if nothing is unrolled, from real
            ones if it is short, and from noise otherwise.
        max_change: bound on how far they may go from those real images, in units of pixels whose range is 1, such as
            8/255 = 0.0314; unbounded by default.
        norm: of that change: of each pixel (``linf``), or Euclidean of the whole image (``l2``).
        valid_pixels: keep every pixel within the range that real ones have; with ``max_change`` it is kept anyway.
    """

    steps: int = 10
    epochs: int = 3
    ipc: int = 1
    labels: Literal["hard", "soft"] = "hard"
    label_confidence: float = 0.9
    start: Literal["noise", "real", "kmeans"] | None = None
    max_change: float | None = None
    norm: Norm = "linf"
    valid_pixels: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "epochs", "ipc"):
            value = getattr(self, name)
            if value < 1:
                raise LimbeckError(f"{name} is {value}; it must be at least 1.")
        for name, known in (
            ("labels", ("hard", "soft")),
            ("start", (None, "noise", "real", "kmeans")),
            ("norm", ("linf", "l2")),
        ):
            if getattr(self, name) not in known:
                raise unknown(f"kind of {name}", str(getattr(self, name)), [k for k in known if k is not None])
        if not 0 < self.label_confidence < 1:
            raise LimbeckError(f"label_confidence is {self.label_confidence}; it must lie between 0 and 1.")
        if self.max_change is not None:
            if not (math.isfinite(self.max_change) and self.max_change > 0):
                raise LimbeckError(
                    f"max_change is {self.max_change}; it must be a positive number, as 0.0314 for 8/255."
                )
            if self.start != "real":
                raise LimbeckError(
                    "max_change bounds how far images go from real ones; it needs start real, not noise."
                )
        elif self.norm != "linf":
            raise IdleOptionError("norm", self.norm, "where nothing is bounded", "give max_change, too")
        if self.labels == "hard":
            refuse_idle_fields(self, "label_confidence", why="with hard labels", fix="choose labels soft")

    @property
    def inner_steps(self) -> int:
        return self.steps * self.epochs

    def batch_size(self, classes: int) -> int:
        return self.ipc * classes

    @property
    def labels_kind(self) -> LabelKind:
        return self.labels

    @property
    def groups(self) -> frozenset[Group]:
        return frozenset({"images", "steps", "labels"} if self.labels == "soft" else {"images", "steps"})

    @property
    def images_noun(self) -> str:
        return "learned images"

    @property
    def description(self) -> str:
        each = f"{self.ipc} image{'s' if self.ipc > 1 else ''} per class"
        return each if self.steps == 1 else f"{self.steps} batches of {each}"

    def build(self, materials: Materials) -> Pixels:
        if self.start not in ("real", "kmeans"):
            shape = (self.steps, self.batch_size(materials.classes), *materials.image_shape)
            start = torch.randn(shape, generator=materials.rng, dtype=torch.float32).to(materials.device)
        else:
            draw = materials.kmeans if self.start == "kmeans" else materials.per_class
            start = self.arrange(draw(materials.rng, self.steps * self.ipc))
        limits = None
        if self.max_change is not None or self.valid_pixels:
            limits = materials.valid_pixels()
        if self.max_change is not None and limits is not None:
            limits = replace(limits, centre_SMCHW=start.clone(), epsilon=self.max_change, norm=self.norm)
        return Pixels(self, materials.classes, start, materials.inner, limits)

    def arrange(self, x_KnCHW: Tensor) -> Tensor:
        """n = S·ipc images of each class as S batches with as many of each class, (S, M, C, H, W)."""
        classes, _, *shape = x_KnCHW.shape
        split = x_KnCHW.reshape(classes, self.steps, self.ipc, *shape)
        return split.transpose(0, 1).flatten(1, 2)


@final
class Pixels(Source):
    """Images as free tensors in normalised space, indexed by step.

    Learned, unconstrained: ``images`` (S, M, C, H, W), for soft labels ``labels`` (S, M, K), and what is learned of the
    schedule of hyper-parameters. Soft labels are a softmax, which keeps them normalised: left free they grow, which is
    a hidden step size.
    """

    def __init__(
        self,
        config: PixelConfig,
        classes: int,
        images_SMCHW: Tensor,
        inner: InnerConfig | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.config = config
        self.limits = limits
        self.steps = config.steps * config.epochs
        self.classes = classes
        batch = config.ipc * classes
        if images_SMCHW.shape[:2] != (config.steps, batch):
            raise LimbeckError(
                f"images have shape {tuple(images_SMCHW.shape)}; expected ({config.steps}, {batch}, C, H, W)."
            )
        self.y_M = torch.arange(classes, device=images_SMCHW.device).repeat_interleave(config.ipc)
        self.y_MK = F.one_hot(self.y_M, classes).to(images_SMCHW.dtype)
        self.schedule = Schedule(
            inner or InnerConfig(), self.steps, dtype=images_SMCHW.dtype, device=images_SMCHW.device
        )
        allowed = images_SMCHW if limits is None else limits.nearest(images_SMCHW)
        self._params = {"images": allowed.clone(), **self.schedule.parameters()}
        if config.labels == "soft":
            logits_MK = label_logits(self.y_MK, config.label_confidence, "label_confidence")
            self._params["labels"] = logits_MK.expand(config.steps, -1, -1).clone()

    def parameters(self) -> Tensors:
        return self._params

    def batch(self, params: Tensors, step: int) -> Batch:
        index = step % self.config.steps
        y_MK = torch.softmax(params["labels"][index], dim=-1) if "labels" in params else self.y_MK
        return Batch(params["images"][index], y_MK, self.schedule.at(params, step))

    def group_of(self, name: str) -> Group:
        return "labels" if name == "labels" else super().group_of(name)

    def project(self, params: Tensors) -> Tensors:
        if self.limits is None:
            return params
        return {**params, "images": self.limits.nearest(params["images"])}

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return CyclicPullback(self.decode, params, inits, self.config.steps, self.batch)

    def decode(self, params: Tensors) -> tuple[Tensor, Tensor, Tensors]:
        """Images (S, M, C, H, W), label distributions (S, M, K), hyper-parameters (T,), as the learner sees them."""
        images = params["images"]
        if "labels" in params:
            labels = torch.softmax(params["labels"], dim=-1)
        else:
            labels = self.y_MK.expand(self.config.steps, -1, -1)
        return images, labels, self.schedule.decode(params)

    def materialise(self, params: Tensors) -> Materialised:
        return Materialised(*self.decode(params), torch.arange(self.steps) % self.config.steps)


def images_per_class(images: int, steps: int, classes: int) -> int:
    """Images of each class in each step, of ``images`` in all; raises LimbeckError if they cannot be shared equally."""
    if steps < 1 or images < 1 or images % (steps * classes):
        raise LimbeckError(
            f"images is {images}; each of the {steps} step(s) has as many of each of the {classes} classes, so it must "
            f"be a multiple of {max(1, steps) * classes}."
        )
    return images // (steps * classes)
