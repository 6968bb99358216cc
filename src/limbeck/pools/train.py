"""Train many networks at once and keep them as a pool: initial weights for adaptation, attacks and fine-tuning.

Each network has its own initial weights and its own order of the training images; a group of them takes every step
together. Shapes: n networks, G networks of a group, M images a step.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final

import torch

from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import Execution, Kernels, RealLoss, State, Tensors
from limbeck.evaluation.train_and_score import score
from limbeck.experiment.execution import compiler_missing, default_chunk, use_compile_cache
from limbeck.experiment.progress import interruptible
from limbeck.models import build, draw, save_pool
from limbeck.pools.adam import adam_batch, adam_learner
from limbeck.pools.config import PoolConfig
from limbeck.pools.parts import Parts
from limbeck.pools.pool import Pool, open_pool

GROUPS = range(25, 9, -1)
"""Sizes of a group of small networks, the liked ones first; beyond 25 nothing is gained per network."""

COMPILE_PAYS_AFTER = 20_000
"""Training steps, over all networks, from which compiling is won back."""

WARMUP = 50
"""Steps over which the rate rises before it falls as a cosine."""


@final
@dataclass(frozen=True, kw_only=True)
class PoolProgress:
    """Where a pool of ``total`` is: ``networks`` are finished, ``step`` of ``steps`` taken in a group of ``group``."""

    total: int
    networks: int
    group: int
    step: int
    steps: int

    @property
    def done(self) -> float:
        """Networks' worth of work."""
        return self.networks + self.group * self.step / self.steps


Watch: TypeAlias = Callable[[PoolProgress], None]


def make_pool(
    config: PoolConfig,
    data: TaskData,
    out: str | Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    watch: Watch = lambda progress: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Pool | None:
    """Train ``config.n`` networks on ``data`` and write them to ``out``, a ``.safetensors`` file.

    What is finished lies in ``out.parts`` until then, so that a stopped pool goes on where it was, ``resume``; one that
    is finished is opened. A pool that is replaced stays until the new one is there.

    Returns:
        The pool; None if someone stopped it (Ctrl-C or SIGTERM): go on with ``resume``.

    Raises:
        LimbeckError: a pool is there already and neither ``resume`` nor ``overwrite`` is set; nothing to resume, or
            parts of another pool; a learner that does not fit the data.
    """
    out = Path(out)
    config = dataclasses.replace(config, val_size=len(data.val_y))
    parts = Parts(out, config, data)
    if resume and parts.saved():
        pool = open_pool(out)
        parts.check(pool.card, str(out))
        parts.remove()
        return pool
    parts.check_place(resume=resume, overwrite=overwrite)
    training = _Training(config, data.to(device), device, tell)
    parts.prepare(training.compiled, resume=resume, tell=tell)
    finished = 0
    with interruptible() as stop:
        for index, size in enumerate(training.sizes):
            if not parts.has(index):
                begun, before = time.monotonic(), parts.seconds()
                unfinished = parts.unfinished(index)
                for state, step in training.steps(index, size, unfinished):
                    watch(PoolProgress(total=config.n, networks=finished, group=size, step=step, steps=config.steps))
                    if stop.requested and step < config.steps:
                        parts.interrupt(index, state, step, before + time.monotonic() - begun)
                        return None
                accuracy = training.scored("val", state.network)
                parts.finish(index, state.network, accuracy, before + time.monotonic() - begun)
            finished += size
            if stop.requested and index + 1 < len(training.sizes):
                return None
    begun = time.monotonic()
    networks, accuracy = parts.gathered(len(training.sizes))
    card = {
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "source": data.source or data.name,
            "split_seed": parts.split_seed,
        },
        "shape": list(data.image_shape),
        "classes": list(data.class_names),
        "config": dataclasses.asdict(config),
        "validation_accuracy": accuracy,
        "test_accuracy": training.scored("test", networks),
        "seconds": round(parts.seconds() + time.monotonic() - begun, 1),
        "versions": versions(device),
    }
    save_pool(out, networks, card)
    parts.remove()
    for index, value in enumerate(accuracy):
        if not value > 200 / data.num_classes:
            tell(f"network {index} did not learn ({value:.1f} % on validation data): try a lower --lr")
    return Pool(states=networks, card=card)


@final
class _Training:
    """The groups of a pool and how one of them is trained."""

    def __init__(self, config: PoolConfig, data: TaskData, device: str, tell: Callable[[str], None]) -> None:
        self.config, self.data = config, data
        module = build(config.learner, shape=data.image_shape, num_classes=data.num_classes).to(device)
        learner = adam_learner(module)
        self.module = module
        small = default_chunk(learner, data, config.batch) > 1
        self.sizes = group_sizes(config.n, config.group or (None if small else 1))
        self.compiled = compiled = config.compile == "on" or (
            config.compile == "auto" and config.n * config.steps >= COMPILE_PAYS_AFTER and not compiler_missing(device)
        )
        if compiled:
            tell("compiling the training step (20-60 s, from the cache 5-10 s)")
            use_compile_cache()
        chunk = max(self.sizes)
        self.kernels = Kernels(learner, RealLoss(), Execution(chunk=chunk, compiled=compiled))
        self.judge = Kernels(learner, RealLoss(), Execution(chunk=min(10, chunk), compiled=compiled and small))

    @torch.no_grad()
    def steps(self, index: int, size: int, unfinished: tuple[State, int] | None) -> Iterator[tuple[State, int]]:
        """The states of a group after each of its steps, from where it was left."""
        config, data = self.config, self.data
        rng = generator(config.seed, f"pool group {index}")
        states = self.kernels.init(draw(self.module, config.distribution, size, rng))
        done = 0
        if unfinished is not None:
            states, done = unfinished[0].each(lambda value: value.to(data.train_x.device)), unfinished[1]
        for step in range(config.steps):
            chosen_GM = torch.randint(len(data.train_y), (size, config.batch), generator=rng)
            if step < done:  # the stream of batches goes on from there
                continue
            batch = adam_batch(data, chosen_GM.to(data.train_y.device), self._rate(step), config.weight_decay)
            states = self.kernels.step_each(states, batch)
            yield states, step + 1

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / WARMUP)
        return self.config.lr * warm * 0.5 * (1 + math.cos(math.pi * step / self.config.steps))

    def scored(self, split: Literal["val", "test"], networks: Tensors) -> list[float]:
        """Accuracy of each network on a split."""
        networks = {name: value.to(self.data.train_x.device) for name, value in networks.items()}
        batches = self.data.split_batches(split, 1000)
        accuracy: list[float] = score(self.judge, networks, batches, self.data.num_classes).accuracy_B.tolist()
        return accuracy


def group_sizes(n: int, group: int | None) -> list[int]:
    """Networks of each group: of the size that is asked for, or one that leaves no group of another size."""
    size = group or next((size for size in GROUPS if n % size == 0), min(n, 20))
    full, rest = divmod(n, size)
    return [size] * full + [rest] * (rest > 0)
