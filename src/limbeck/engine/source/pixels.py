"""Learned images, labels and step sizes (Wang et al. 2018; soft labels: Sucholutsky and Schonlau, arXiv 1910.02551).

S batches of M = ipc·K images are cycled E times, T = S·E inner steps in all; every one of the T steps may have its own
learning rate (see ``engine.schedule``). Shapes: S batches, M images a batch, K classes, T steps, B inits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vjp, vmap

from limbeck.engine.schedule import InnerConfig, Schedule
from limbeck.engine.source.base import Materialised, Pullback, Source
from limbeck.engine.source.labels import label_logits
from limbeck.engine.state import Batch, Tensors
from limbeck.errors import LimbeckError, unknown


@final
@dataclass(frozen=True, kw_only=True)
class PixelConfig:
    """How many images are learned and how they are used.

    Args:
        steps: S, batches of synthetic images, one gradient step each.
        epochs: E, how often the S batches are gone through.
        ipc: images per class in each batch.
        labels: ``hard`` keeps one class per image, ``soft`` learns a distribution over classes.
        label_confidence: probability of the own class that learned labels start from, in (1/K, 1).
        start: images start from Gaussian ``noise`` or from randomly chosen ``real`` training images.
    """

    steps: int = 10
    epochs: int = 3
    ipc: int = 1
    labels: Literal["hard", "soft"] = "hard"
    label_confidence: float = 0.9
    start: Literal["noise", "real"] = "noise"

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "ipc"):
            value = getattr(self, name)
            if value < 1:
                raise LimbeckError(f"{name} is {value}; it must be at least 1.")
        for name, known in (("labels", ("hard", "soft")), ("start", ("noise", "real"))):
            if getattr(self, name) not in known:
                raise unknown(f"kind of {name}", getattr(self, name), known)
        if not 0 < self.label_confidence < 1:
            raise LimbeckError(f"label_confidence is {self.label_confidence}; it must lie between 0 and 1.")


@final
class Pixels(Source):
    """Images as free tensors in normalised space, indexed by step.

    Learned, unconstrained: ``images`` (S, M, C, H, W), for soft labels ``labels`` (S, M, K), and what is learned of the
    schedule of hyper-parameters. Soft labels are a softmax, which keeps them normalised: left free they grow, which is
    a hidden step size.
    """

    def __init__(
        self, config: PixelConfig, classes: int, images_SMCHW: Tensor, inner: InnerConfig | None = None
    ) -> None:
        self.config = config
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
        self._params = {"images": images_SMCHW.clone(), **self.schedule.parameters()}
        if config.labels == "soft":
            logits_MK = label_logits(self.y_MK, config.label_confidence, "label_confidence")
            self._params["labels"] = logits_MK.expand(config.steps, -1, -1).clone()

    def parameters(self) -> Tensors:
        return self._params

    def batch(self, params: Tensors, step: int) -> Batch:
        index = step % self.config.steps
        y_MK = torch.softmax(params["labels"][index], dim=-1) if "labels" in params else self.y_MK
        return Batch(params["images"][index], y_MK, self.schedule.at(params, step))

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return _PixelPullback(self, params, inits)

    def decode(self, params: Tensors) -> tuple[Tensor, Tensor, Tensors]:
        """Images (S, M, C, H, W), label distributions (S, M, K), hyper-parameters (T,), as the learner sees them."""
        images = params["images"]
        if "labels" in params:
            labels = torch.softmax(params["labels"], dim=-1)
        else:
            labels = self.y_MK.expand(self.config.steps, -1, -1)
        return images, labels, self.schedule.decode(params)

    def materialised(self, params: Tensors) -> Materialised:
        return Materialised(*self.decode(params), torch.arange(self.steps) % self.config.steps)


@final
class _PixelPullback(Pullback):
    """Adds up the cotangents of the decoded tensors, then pulls them through ``decode`` once."""

    def __init__(self, source: Pixels, params: Tensors, inits: int) -> None:
        self._source, self._params = source, params
        (x, y, h), self._pull = vjp(source.decode, params)[:2]
        self._x = x.new_zeros(inits, *x.shape)
        self._y = y.new_zeros(inits, *y.shape)
        self._h = {name: value.new_zeros(inits, *value.shape) for name, value in h.items()}

    def batch(self, step: int) -> Batch:
        return self._source.batch(self._params, step)

    def add(self, step: int, cotangent: Batch) -> None:
        index = step % self._source.config.steps
        self._x[:, index] += cotangent.x_MCHW
        self._y[:, index] += cotangent.y_MK
        for name, value in cotangent.h.items():
            self._h[name][:, step] += value

    def result(self) -> Tensors:
        (grads,) = vmap(self._pull)((self._x, self._y, self._h))
        result: Tensors = grads
        return result
