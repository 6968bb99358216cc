"""A generator of training data, learned through the learner's training (Such et al. 2019, arXiv 1912.07768).

Shapes: T steps, M images a step, Z latent entries, K classes, P latents in a pool, B inits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.common.idle import refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.engine.compiling import Compiled
from limbeck.engine.forward import call_with
from limbeck.engine.schedule import InnerConfig, Schedule, ScheduleGradients
from limbeck.engine.source.base import Group, Pull, Pullback, Source
from limbeck.engine.source.config import LabelKind, Materials, SourceConfig
from limbeck.engine.source.labels import label_logits
from limbeck.engine.source.warm_start import warm_start
from limbeck.engine.state import Batch, Tensors, with_prefix
from limbeck.errors import LimbeckError, unknown

CURRICULA = ("full", "shuffled-batches", "all-shuffled", "none")
_PREFIX = "generator."
_ENCODER = "encoder."


@final
@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(SourceConfig):
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
        classes: labels are ``balanced`` (before ``all-shuffled`` draws from them), ``random``, or ``learned`` as
            distributions.
        teacher_confidence: probability of the own class that learned labels start from, in (1/K, 1).
        warm_start: iterations in which generator and an encoder first learn to reproduce real images, whose codes the
            learned noise then starts from.
        reconstruction: weight of that reproduction, the mean squared error per pixel, in the meta-loss; it keeps the
            images realistic.
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
    teacher_confidence: float = 0.9
    warm_start: int = 0
    reconstruction: float = 0.0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("inner_steps", "batch", "hidden", "width", "latent"):
            if getattr(self, name) < 1:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must be at least 1.")
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
        if self.warm_start < 0:
            raise LimbeckError(f"warm_start is {self.warm_start}; it must not be negative.")
        if not 0 <= self.reconstruction < math.inf:
            raise LimbeckError(f"reconstruction is {self.reconstruction}; a weight must not be negative.")
        if self.classes != "learned":
            why = f"with {self.classes} classes"
            refuse_idle_fields(self, "teacher_confidence", why=why, fix="choose classes learned")
        if ":" in self.generator:
            why = "with a generator of your own"
            refuse_idle_fields(self, "hidden", "width", "output_scale", why=why, fix="choose generator conv")

    def batch_size(self, classes: int) -> int:
        return self.batch

    @property
    def labels_kind(self) -> LabelKind:
        return self.classes

    @property
    def groups(self) -> frozenset[Group]:
        groups: set[Group] = {"images", "steps"}
        if self.curriculum != "none":
            groups.add("noise")
        if self.classes == "learned":
            groups.add("labels")
        return frozenset(groups)

    @property
    def images_noun(self) -> str:
        return "images from a learned generator"

    @property
    def description(self) -> str:
        return f"{self.batch} images a step from a generator"

    @property
    def code(self) -> tuple[str, ...]:
        return (self.generator,)

    def check_real_batch(self, size: int) -> None:
        if self.reconstruction > 0 and min(self.batch, size) < 2:
            raise LimbeckError("reconstruction needs at least 2 images a batch; raise --batch and --real-batch.")

    def build(self, materials: Materials) -> Generator:
        seed = int(torch.randint(2**31, (1,), generator=materials.rng))
        module = materials.make_generator(self, seed)
        encoder = None
        if self.warm_start or self.reconstruction:
            encoder = materials.make_encoder(self.latent, seed)
        weights = dict(module.named_parameters())
        return Generator(self, module, weights, materials.classes, materials.rng, materials.inner, encoder)

    def prepare(self, source: Source, materials: Materials) -> str | None:
        if not self.warm_start or not isinstance(source, Generator):
            return None
        error = warm_start(source, materials, self.warm_start)
        return (
            f"warm start: {self.warm_start} iterations on real images, reproduced to a mean squared error of "
            f"{error:.3f}"
        )


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
        encoder: maps images (N, C, H, W) to noise (N, Z); needed for ``reconstruction`` only, and learned then.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        module: nn.Module,
        weights: Mapping[str, Tensor],
        classes: int,
        rng: torch.Generator,
        inner: InnerConfig | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        self.config = config
        self.module = module
        self.encoder = encoder
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
                one_hot = F.one_hot(self._y_TM, classes).to(some.dtype)
                self._params["labels"] = label_logits(one_hot, config.teacher_confidence, "teacher_confidence")
        if config.reconstruction > 0 and encoder is not None:
            self._params |= {f"{_ENCODER}{name}": p.detach().clone() for name, p in encoder.named_parameters()}
        self._params |= self.schedule.parameters()
        self.make: Callable[[Tensors, Tensor, Tensor], tuple[Tensor, Tensor]] = self.generate
        self._order_TM: Tensor | None = None
        self._z_TMZ: Tensor | None = None
        self._draw_chance(rng)

    def parameters(self) -> Tensors:
        return self._params

    def redraw(self, rng: torch.Generator) -> Self:
        other = copy.copy(self)
        other._draw_chance(rng)
        return other

    def batch(self, params: Tensors, step: int) -> Batch:
        x_MCHW, y_MK = self.make(self.weights(params), *self.inputs(params, step))
        return Batch(x_MCHW, y_MK, self.schedule.at(params, step))

    def compile(self) -> Self:
        other = copy.copy(self)
        other.make = Compiled(self.generate)
        return other

    def pullback(self, params: Tensors, inits: int) -> Pullback:
        return _GeneratorPullback(self, params, inits)

    def extras(self, params: Tensors) -> Tensors:
        return self.weights(params) | dict(self.module.named_buffers())

    def group_of(self, name: str) -> Group:
        groups: dict[str, Group] = {"z": "noise", "labels": "labels"}
        return groups.get(name) or super().group_of(name)

    def own_loss(self, params: Tensors, x_NCHW: Tensor, y_N: Tensor) -> Tensor | None:
        if self.config.reconstruction == 0:
            return None
        few = slice(0, self.config.batch)  # as many as the generator makes at a time
        x_MCHW, y_MK = x_NCHW[few], F.one_hot(y_N[few], self.classes).to(self._like.dtype)
        encoder = with_prefix(params, _ENCODER)
        error = self.reproduction_error(self.weights(params), encoder, x_MCHW, y_MK)
        return self.config.reconstruction * error

    def reproduction_error(self, weights: Tensors, encoder: Tensors, x_MCHW: Tensor, y_MK: Tensor) -> Tensor:
        """Mean over pixels of (x − G(E(x), y))², a scalar."""
        assert self.encoder is not None
        z_MZ = call_with(self.encoder, encoder, (x_MCHW,))
        images = call_with(self.module, weights, (z_MZ, y_MK))
        return F.mse_loss(images, x_MCHW)

    def start_from(self, x_TMCHW: Tensor, weights: Tensors, encoder: Tensors) -> None:
        """Start learning from these weights and, with a curriculum, from the codes of images of the classes wanted."""
        assert self.encoder is not None
        with torch.no_grad():
            for prefix, values in ((_PREFIX, weights), (_ENCODER, encoder)):
                for name, value in values.items():
                    if prefix + name in self._params:
                        self._params[prefix + name].copy_(value)
            if "z" in self._params:
                for z_MZ, x_MCHW in zip(self._params["z"], x_TMCHW, strict=True):
                    z_MZ.copy_(call_with(self.encoder, encoder, (x_MCHW,)))

    @property
    def images_at_once(self) -> int:
        """M."""
        return self.config.batch

    @property
    def classes_TM(self) -> Tensor:
        """The class of each image (T, M), before labels are learned and before any shuffling."""
        return self._y_TM

    def weights(self, params: Tensors) -> Tensors:
        """The network's weights, by its own names."""
        return with_prefix(params, _PREFIX)

    def generate(self, weights: Tensors, z_MZ: Tensor, y_MK: Tensor) -> tuple[Tensor, Tensor]:
        """Images (M, C, H, W) and label distributions (M, K) from noise and labels, logits where these are learned."""
        if self.config.classes == "learned":
            y_MK = torch.softmax(y_MK, dim=-1)
        images: Tensor = call_with(self.module, weights, (z_MZ, y_MK))
        return images, y_MK

    def rows(self, step: int) -> Tensor:
        """Which M of the T·M learned noise vectors a step uses."""
        if self._order_TM is not None:
            return self._order_TM[step]
        first = step * self.config.batch
        return torch.arange(first, first + self.config.batch, device=self._like.device)

    def inputs(self, params: Tensors, step: int) -> tuple[Tensor, Tensor]:
        """What ``make`` turns into a step's batch: noise (M, Z), and one-hot labels (M, K) or their logits."""
        if self._z_TMZ is not None:
            z_MZ, y_M = self._z_TMZ[step], self._y_TM[step]
        else:
            rows_M = self.rows(step)
            z_MZ, y_M = params["z"].flatten(0, 1)[rows_M], self._y_TM.flatten()[rows_M]
        if "labels" in params:
            return z_MZ, params["labels"].flatten(0, 1)[rows_M]
        return z_MZ, F.one_hot(y_M, self.classes).to(self._like.dtype)

    def _draw_chance(self, rng: torch.Generator) -> None:
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
        return torch.randn(shape, generator=rng, dtype=torch.float32).to(self._like)

    def _draw_labels(self, rng: torch.Generator) -> Tensor:
        shape = (self.config.inner_steps, self.config.batch)
        if self.config.classes == "random":
            return torch.randint(self.classes, shape, generator=rng).to(self._like.device)
        # The cycle goes on from batch to batch: every class has its turn also where a batch is no multiple of them.
        return (torch.arange(shape[0] * shape[1]) % self.classes).view(shape).to(self._like.device)


@final
class _GeneratorPullback(Pullback):
    """Makes each batch with its graph and pulls the cotangents of the inits back through it, a step at a time.

    Holds one gradient of everything that is learned for each init, and one batch's graph.
    """

    def __init__(self, source: Generator, params: Tensors, inits: int) -> None:
        self._source = source
        self._params = params
        self._schedule = ScheduleGradients(source.schedule, params, inits)
        own = [name for name in params if name not in source.schedule.parameters()]
        self._total = {name: params[name].new_zeros(inits, *params[name].shape) for name in own}

    def batch(self, step: int) -> tuple[Batch, Pull]:
        source = self._source
        weights = {name: value.detach().requires_grad_() for name, value in source.weights(self._params).items()}
        z_MZ, y_MK = (value.detach() for value in source.inputs(self._params, step))
        leaves = {f"{_PREFIX}{name}": value for name, value in weights.items()}
        for name, value in (("z", z_MZ), ("labels", y_MK)):
            if name in self._total:
                leaves[name] = value.requires_grad_()
        with torch.enable_grad(), _graph_is_used_again():
            outputs = source.make(weights, z_MZ, y_MK)
        x_MCHW, labels_MK = (value.detach() for value in outputs)
        graph = tuple(value for value in outputs if value.requires_grad)
        batch = Batch(x_MCHW, labels_MK, source.schedule.at(self._params, step))
        return batch, partial(self._add, step, graph, leaves)

    def _add(self, step: int, graph: tuple[Tensor, ...], leaves: Tensors, cotangent: Batch) -> None:
        """Pull one step's cotangent through the graph of its batch, an init at a time."""
        cotangents = (cotangent.x_MCHW, cotangent.y_MK)[: len(graph)]
        inits = cotangent.x_MCHW.shape[0]
        for b in range(inits):
            outer = [value[b] for value in cotangents]
            with _graph_is_used_again():
                grads = torch.autograd.grad(
                    graph, list(leaves.values()), outer, retain_graph=b + 1 < inits, materialize_grads=True
                )
            for name, grad in zip(leaves, grads, strict=True):
                if name not in ("z", "labels"):
                    self._total[name][b] += grad
                else:  # rows of a pool
                    self._total[name][b].flatten(0, 1).index_add_(0, self._source.rows(step), grad)
        self._schedule.add(step, cotangent.h)

    def result(self) -> Tensors:
        grads = self._total | self._schedule.result()
        return {name: grads[name] for name in self._params}


def _graph_is_used_again() -> AbstractContextManager[None]:
    """Compiled, a graph gives its buffers away to the first backward pass unless it is told not to."""
    context: AbstractContextManager[None] = torch._functorch.config.patch(donated_buffer=False)
    return context
