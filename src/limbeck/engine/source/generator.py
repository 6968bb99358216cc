"""A generator of training data, learned through the learner's training (Such et al. 2019, arXiv 1912.07768).

Shapes: T steps, M images a step, Z latent entries, K classes, P latents in a pool, B inits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from limbeck.engine.schedule import InnerConfig, Schedule
from limbeck.engine.source.base import Pullback, Source
from limbeck.engine.state import Batch, Tensors
from limbeck.errors import LimbeckError, unknown

CURRICULA = ("full", "shuffled-batches", "all-shuffled", "none")
_PREFIX = "generator."


@final
@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A generator, what it is fed, and in which order its batches are used.

    Args:
        inner_steps: T, the batches that a learner is trained on, one step each.
        batch: M, images in a batch.
        generator: ``conv``, the network of Such et al., or ``package.module:function``; see ``limbeck.models``.
        hidden: units of the first layer of ``conv``.
        width: channels of the first feature map of ``conv``.
        generator_weight_norm: write the generator's weights as length times direction.
        latent: Z, entries of the noise.
        output_scale: largest absolute pixel value of ``conv``, in units of the normalised pixels.
        curriculum: ``full`` learns the noise of every batch and their order; ``shuffled-batches`` uses such batches in
            random order; ``all-shuffled`` draws each batch from all learned noise; ``none`` draws fresh noise.
        classes: labels are ``balanced`` in every batch, ``random``, or ``learned`` as distributions.
        steps_start: learn with so many steps at first, growing to T over the first half of the budget; T by default.
        teacher_confidence: probability of the own class that learned labels start from, in (1/K, 1).
    """

    inner_steps: int = 32
    batch: int = 128
    generator: str = "conv"
    hidden: int = 1024
    width: int = 128
    generator_weight_norm: bool = True
    latent: int = 128
    output_scale: float = 2.0
    curriculum: Literal["full", "shuffled-batches", "all-shuffled", "none"] = "full"
    classes: Literal["balanced", "random", "learned"] = "balanced"
    steps_start: int | None = None
    teacher_confidence: float = 0.9

    def __post_init__(self) -> None:
        for name in ("inner_steps", "batch", "hidden", "width", "latent"):
            if getattr(self, name) < 1:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.steps_start is not None and not 1 <= self.steps_start <= self.inner_steps:
            raise LimbeckError(f"steps_start is {self.steps_start}; it must lie between 1 and {self.inner_steps}.")
        if not 0 < self.output_scale < math.inf:
            raise LimbeckError(f"output_scale is {self.output_scale}; it must be a positive number.")
        if self.curriculum not in CURRICULA:
            raise unknown("curriculum", self.curriculum, CURRICULA)
        if self.classes not in ("balanced", "random", "learned"):
            raise unknown("choice of classes", self.classes, ("balanced", "random", "learned"))
        if self.classes == "learned" and self.curriculum == "none":
            raise LimbeckError("Learned labels belong to learned noise; without a curriculum there is none.")
        if not 0 < self.teacher_confidence < 1:
            raise LimbeckError(f"teacher_confidence is {self.teacher_confidence}; it must lie between 0 and 1.")


@final
class Generator(Source):
    """A network from noise and labels to images, with what its curriculum learns.

    Learned: the network's weights, ``generator.NAME``; with a curriculum the noise ``z`` (T, M, Z) and, if they are
    learned, the logits of its labels ``labels`` (T, M, K); and what is learned of the schedule. The pull-back runs the
    network once a step, forward and back, so memory does not grow with T.

    Args:
        config: see there.
        module: maps (z (M, Z), y (M, K)) to images (M, C, H, W); it must be a pure function of them.
        weights: its initial weights by name.
        classes: K.
        rng: draws the noise and labels that learning starts from.
        inner: hyper-parameters of the inner loop.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        module: nn.Module,
        weights: Mapping[str, Tensor],
        classes: int,
        rng: torch.Generator,
        inner: InnerConfig | None = None,
    ) -> None:
        self.config = config
        self.module = module
        self.classes = classes
        self.steps = config.inner_steps
        some = next(iter(weights.values()))
        self.schedule = Schedule(inner or InnerConfig(), self.steps, dtype=some.dtype, device=some.device)
        self._params = {f"{_PREFIX}{name}": value.detach().clone() for name, value in weights.items()}
        self._like = some
        self._y_TM = self._draw_labels(rng)
        if config.curriculum != "none":
            self._params["z"] = self._draw_noise(rng)
            if config.classes == "learned":
                self._params["labels"] = self._start_labels()
        self._params |= self.schedule.parameters()
        self._order_TM: Tensor | None = None
        self._z_TMZ: Tensor | None = None
        self._redraw(rng)

    def parameters(self) -> Tensors:
        return self._params

    def drawn(self, rng: torch.Generator, spent: float) -> Self:
        other = copy.copy(self)
        other._redraw(rng)
        start = self.config.steps_start or self.config.inner_steps
        other.steps = round(start + (self.config.inner_steps - start) * min(1.0, 2 * spent))
        return other

    def batch(self, params: Tensors, step: int) -> Batch:
        z_MZ, y_MK = self._inputs(params, step)
        return Batch(self._images(params, z_MZ, y_MK), y_MK, self.schedule.at(params, step))

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return _GeneratorPullback(self, params, inits)

    def weights(self, params: Tensors) -> Tensors:
        """The network's weights, by its own names."""
        return {name.removeprefix(_PREFIX): v for name, v in params.items() if name.startswith(_PREFIX)}

    def _images(self, params: Tensors, z_MZ: Tensor, y_MK: Tensor) -> Tensor:
        images: Tensor = functional_call(self.module, self.weights(params), (z_MZ, y_MK))
        return images

    def _inputs(self, params: Tensors, step: int) -> tuple[Tensor, Tensor]:
        """Noise (M, Z) and label distributions (M, K) of a step."""
        if self._order_TM is None:
            z_MZ = params["z"][step] if self._z_TMZ is None else self._z_TMZ[step]
            chosen: Tensor | int = step
        else:
            chosen = self._order_TM[step]
            z_MZ = params["z"].flatten(0, 1)[chosen]
        if "labels" in params:
            logits = params["labels"]
            return z_MZ, torch.softmax(logits[step] if self._order_TM is None else logits.flatten(0, 1)[chosen], dim=-1)
        y_M = self._y_TM[step] if self._order_TM is None else self._y_TM.flatten()[chosen]
        return z_MZ, F.one_hot(y_M, self.classes).to(self._like.dtype)

    def _redraw(self, rng: torch.Generator) -> None:
        steps, images = self.config.inner_steps, self.config.batch
        if self.config.curriculum == "none":
            self._z_TMZ = self._draw_noise(rng)
            self._y_TM = self._draw_labels(rng)
        elif self.config.curriculum == "shuffled-batches":
            rows_T1 = torch.randperm(steps, generator=rng)[:, None] * images
            self._order_TM = (rows_T1 + torch.arange(images)).to(self._like.device)
        elif self.config.curriculum == "all-shuffled":
            self._order_TM = torch.randint(steps * images, (steps, images), generator=rng).to(self._like.device)

    def _draw_noise(self, rng: torch.Generator) -> Tensor:
        shape = (self.config.inner_steps, self.config.batch, self.config.latent)
        return torch.randn(shape, generator=rng).to(self._like)

    def _draw_labels(self, rng: torch.Generator) -> Tensor:
        shape = (self.config.inner_steps, self.config.batch)
        if self.config.classes == "random":
            return torch.randint(self.classes, shape, generator=rng).to(self._like.device)
        return (torch.arange(self.config.batch) % self.classes).expand(shape).to(self._like.device)

    def _start_labels(self) -> Tensor:
        if self.config.teacher_confidence * self.classes <= 1:
            raise LimbeckError(
                f"teacher_confidence is {self.config.teacher_confidence}; with {self.classes} classes it must lie "
                f"above 1/{self.classes}."
            )
        off = (1 - self.config.teacher_confidence) / (self.classes - 1)
        gap = math.log(self.config.teacher_confidence / off)
        return (gap * F.one_hot(self._y_TM, self.classes)).to(self._like.dtype)


@final
class _GeneratorPullback(Pullback):
    """Makes each batch under vjp and pulls the cotangents of all inits back at once, a step at a time."""

    def __init__(self, source: Generator, params: Tensors, inits: int) -> None:
        self._source = source
        self._params = params
        self._pull: Callable[[Batch], tuple[Tensors]] | None = None
        self._total = {name: value.new_zeros(inits, *value.shape) for name, value in params.items()}

    def batch(self, step: int) -> Batch:
        batch, self._pull = vjp(lambda params: self._source.batch(params, step), self._params)[:2]
        result: Batch = batch
        return result

    def add(self, step: int, cotangent: Batch) -> None:
        assert self._pull is not None
        (grads,) = vmap(self._pull)(cotangent)
        self._pull = None
        for name, grad in grads.items():
            self._total[name] += grad

    def result(self) -> Tensors:
        return self._total
