"""Train networks of one architecture on real data, from several initial weights.

Networks of equal shape take every step together (vmapped) where that is faster. Shapes: B initial weights, M images a
step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from limbeck.common.seeds import generator
from limbeck.common.typed import check_types
from limbeck.data import TaskData
from limbeck.data.dataset import Split
from limbeck.engine import Batch, Kernels, Learner, RealLoss, Tensors
from limbeck.errors import LimbeckError
from limbeck.evaluation.train_and_score import Scores, chunks, concatenate, score
from limbeck.experiment.planner import Work, plan_work
from limbeck.models import RandomInit, Shape
from limbeck.pools.adam import adam_batch, adam_learner

Measure: TypeAlias = Literal["accuracy", "probability"]
"""What a trained network is judged by: how often the right class is its first choice, or the probability that it gives
to the right class, on average. The latter tells networks apart that were trained for a few steps only and have hardly
learned anything but to doubt less; networks at the end of their training are judged by the former."""

_IMAGES_AT_ONCE = 100  # what they become in a layer should stay in the processor's cache


@final
@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How networks are trained: Adam (Kingma and Ba 2015), its rate rising for ``warmup`` steps, then a cosine to 0.

    Args:
        steps: training steps; None to go on for ``seconds``.
        seconds: of training, where ``steps`` is None; the rate follows the time then.
        batch: M, drawn with replacement, for each network its own.
        lr: Adam's rate at its highest.
        weight_decay: added to the gradient times the weights.
        warmup: steps over which the rate rises.
        inits: B, initial weights that a score averages over.
        distribution: of the initial weights.
        shift: pixels by which images are moved at random, each step anew.
        flip: whether half of the images are mirrored.
        cutout: side of the square that is set to the mean in each image (DeVries and Taylor 2017); 0 for none.
        compiled: whether the B networks' step is compiled. That takes a C++ compiler and 5 to 30 seconds for each
            architecture, and pays where many small networks are trained on few images a step for long.
    """

    steps: int | None = 1000
    seconds: float | None = None
    batch: int = 64
    lr: float = 0.003
    weight_decay: float = 0.0
    warmup: int = 20
    inits: int = 1
    distribution: str = "kaiming"
    shift: int = 0
    flip: bool = False
    cutout: int = 0
    compiled: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if (self.steps is None) == (self.seconds is None):
            raise LimbeckError("A schedule needs either steps or seconds, not both.")
        for name in ("steps", "batch", "inits"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LimbeckError(f"{name} is {value}; it must be at least 1.")
        for name in ("warmup", "shift", "cutout", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must not be below 0.")
        if self.seconds is not None and not self.seconds > 0:
            raise LimbeckError(f"seconds is {self.seconds}; it must be positive.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise LimbeckError(f"lr is {self.lr}; it must be a positive number.")


def train_real(
    module: nn.Module, data: TaskData, schedule: Schedule, *, seed: int, stream: str, initial: Tensors | None = None
) -> tuple[Kernels, Tensors]:
    """Train B networks of an architecture on the training split.

    Args:
        module: the network; its own weights are not used.
        data: on the device of the module.
        schedule: for how long and how.
        seed: of initial weights and batches.
        stream: name of the random streams, so that different architectures get different ones.
        initial: initial weights (B, ...) by name; drawn by default.

    Returns:
        The kernels with which to go on, and the networks (B, ...) by name.
    """
    kernels = kernels_for(module, data.image_shape, schedule)
    if initial is None:
        initial = initial_weights(module, schedule, seed=seed, stream=stream)
    networks = initial
    for networks in train_steps(kernels, initial, data, schedule, seed=seed, stream=stream):  # noqa: B007 (the last)
        pass
    return kernels, networks


@torch.no_grad()
def train_steps(
    kernels: Kernels, initial: Tensors, data: TaskData, schedule: Schedule, *, seed: int, stream: str
) -> Iterator[Tensors]:
    """The networks (B, ...) by name after each step of ``train_real``, from initial weights (B, ...)."""
    size = kernels.execution.chunk
    states = [kernels.init(part) for part in chunks(initial, size)]
    rng = generator(seed, f"{stream} batches")
    for rate in rates(schedule):
        batch = real_batch(data, rate, schedule, rng)
        states = [kernels.step_each(group, _share(batch, i * size, size)) for i, group in enumerate(states)]
        yield states[0].network if len(states) == 1 else concatenate([group.network for group in states])


def _share(batch: Batch, start: int, size: int) -> Batch:
    """The batches (size, M, ...) of some of the B networks."""
    rows = slice(start, start + size)
    return Batch(batch.x_MCHW[rows], batch.y_MK[rows], {name: value[rows] for name, value in batch.h.items()})


def kernels_for(module: nn.Module, shape: Shape, schedule: Schedule) -> Kernels:
    """How networks of this architecture take the steps of a schedule on images of a shape (C, H, W)."""
    return plan_kernels(adam_learner(module), shape, schedule.inits, schedule.batch, compiled=schedule.compiled)


def plan_kernels(learner: Learner, shape: Shape, inits: int, images: int, *, compiled: bool = False) -> Kernels:
    """What trains networks on so many images (C, H, W) a step, all of them at once where that is faster.

    Raises:
        LimbeckError: a compiler is wanted and missing.
    """
    work = Work(learner=learner, image_shape=shape, networks=inits, images=images)
    plan = plan_work(work, compile="on" if compiled else "off", most=inits, option="compiled=true")
    return Kernels(learner, RealLoss(), plan.execution)


def initial_weights(module: nn.Module, schedule: Schedule, *, seed: int, stream: str) -> Tensors:
    """B initial weights by name."""
    init = RandomInit(module=module, distribution=schedule.distribution)
    return init.sample(schedule.inits, generator(seed, f"{stream} weights"))


def validation_accuracy(kernels: Kernels, networks: Tensors, data: TaskData, images: int | None = None) -> float:
    """Mean accuracy in percent of B networks on the first images of the validation split, all by default."""
    return score_on(kernels, networks, data, images).mean


def validate(
    kernels: Kernels, networks: Tensors, data: TaskData, images: int | None = None, measure: Measure = "accuracy"
) -> float:
    """What B networks reach on average on the first images of the validation split, all by default, in percent."""
    if measure == "accuracy":
        return validation_accuracy(kernels, networks, data, images)
    return _right_probability(kernels, networks, _examples(data, images, "val"))


def score_on(
    kernels: Kernels, networks: Tensors, data: TaskData, images: int | None = None, *, split: Split = "val"
) -> Scores:
    """Accuracy of B networks on the first images of a split, all by default."""
    return score(kernels, networks, _examples(data, images, split), data.num_classes)


@torch.no_grad()
def _right_probability(kernels: Kernels, networks: Tensors, examples: Iterator[tuple[Tensor, Tensor]]) -> float:
    """The probability in percent that B networks give to the right class, mean over them and N examples."""
    total, count = 0.0, 0
    for x_NCHW, y_N in examples:
        for part in chunks(networks, kernels.execution.score_chunk or kernels.execution.chunk):
            p_BNK = kernels.predict(part, x_NCHW).softmax(-1)
            total += float(p_BNK[:, torch.arange(len(y_N)), y_N].sum())
            count += len(p_BNK) * len(y_N)
    return 100 * total / count


def _examples(data: TaskData, images: int | None, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    """Labelled batches of a split; the first ``images`` of it, which is in random order."""
    left = math.inf if images is None else images
    for x_NCHW, y_N in data.split_batches(split, _IMAGES_AT_ONCE):
        if left <= 0:
            return
        count = int(min(left, len(y_N)))
        yield x_NCHW[:count], y_N[:count]
        left -= count


def rates(schedule: Schedule) -> Iterator[float]:
    """The rate of each step, until the schedule is over."""
    begun, step = time.monotonic(), 0
    while True:
        if schedule.steps is not None:
            done = step / schedule.steps
        else:
            done = (time.monotonic() - begun) / (schedule.seconds or 1.0)
        if done >= 1:
            return
        warm = min(1.0, (step + 1) / max(1, schedule.warmup))
        yield schedule.lr * warm * 0.5 * (1 + math.cos(math.pi * done))
        step += 1


def real_batch(data: TaskData, rate: float, schedule: Schedule, rng: torch.Generator) -> Batch:
    """Training images, for each of the B networks its own, (B, M, C, H, W), and what Adam needs for a step."""
    chosen_BM = torch.randint(len(data.train_y), (schedule.inits, schedule.batch), generator=rng)
    batch = adam_batch(data, chosen_BM.to(data.train_y.device), rate, schedule.weight_decay)
    if schedule.shift or schedule.flip or schedule.cutout:
        x_BMCHW = augment(batch.x_MCHW.flatten(0, 1), schedule, rng).view_as(batch.x_MCHW)
        batch = batch._replace(x_MCHW=x_BMCHW)
    return batch


def augment(x_NCHW: Tensor, schedule: Schedule, rng: torch.Generator) -> Tensor:
    """Images moved, mirrored and cut out at random as the schedule says; normalised, so that 0 is the mean."""
    count, _, height, width = x_NCHW.shape
    device = x_NCHW.device
    rows = torch.arange(height).expand(count, height)
    columns = torch.arange(width).expand(count, width)
    if schedule.flip:
        flips_N1 = torch.rand(count, 1, generator=rng, dtype=torch.float32) < 0.5
        columns = torch.where(flips_N1, width - 1 - columns, columns)
    if schedule.shift:
        by = torch.randint(-schedule.shift, schedule.shift + 1, (2, count, 1), generator=rng)
        rows, columns = (rows + by[0]).clamp(0, height - 1), (columns + by[1]).clamp(0, width - 1)
    index = torch.arange(count, device=device)[:, None, None]
    shifted_NCHW = x_NCHW[index, :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]].permute(0, 3, 1, 2)
    if not schedule.cutout:
        return shifted_NCHW
    top = torch.randint(height, (count, 1), generator=rng) - schedule.cutout // 2
    left = torch.randint(width, (count, 1), generator=rng) - schedule.cutout // 2
    lines, places = torch.arange(height), torch.arange(width)
    inside_NH = (lines >= top) & (lines < top + schedule.cutout)
    inside_NW = (places >= left) & (places < left + schedule.cutout)
    visible_NHW = ~(inside_NH[:, :, None] & inside_NW[:, None, :])
    return shifted_NCHW * visible_NHW[:, None].to(device)
