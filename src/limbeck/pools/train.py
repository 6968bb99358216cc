"""Train many networks at once and keep them as a pool: initial weights for adaptation, attacks and fine-tuning.

Each network has its own initial weights and its own order of the training images; the networks of a group take every
step together. Shapes: n networks, G networks of a group, M images a step.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import torch

from limbeck.common.devices import Device, usable_device
from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.data import TaskData, load
from limbeck.data.sources import Source
from limbeck.engine import Kernels, RealLoss, State, Tensors
from limbeck.evaluation.train_and_score import score
from limbeck.experiment.console import reporter_for
from limbeck.experiment.planner import Work, plan_work
from limbeck.experiment.progress import Stop, interruptible
from limbeck.models import LearnerLike, build_learner, draw, name_learner, save_pool
from limbeck.pools.adam import adam_batch, adam_learner
from limbeck.pools.config import PoolConfig
from limbeck.pools.parts import Parts
from limbeck.pools.pool import Pool, open_pool

GROUPS = range(25, 9, -1)
"""Sizes of a group of small networks, the preferred ones first; beyond 25 nothing is gained per network."""

WARMUP = 50
"""Steps over which the rate rises before it falls as a cosine."""


@final
@dataclass(frozen=True, kw_only=True)
class PoolProgress:
    """Where a pool of ``total`` is: ``networks`` are trained, ``group`` more have taken ``step`` of ``steps``."""

    total: int
    networks: int
    group: int
    step: int
    steps: int

    @property
    def done(self) -> float:
        """The work that is done, counted in networks."""
        return self.networks + self.group * self.step / self.steps


Watch: TypeAlias = Callable[[PoolProgress], None]
Tell: TypeAlias = Callable[[str], None]


def make_pool(
    config: PoolConfig,
    data: TaskData | Source,
    out: str | Path,
    *,
    learner: LearnerLike | None = None,
    device: Device = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    watch: Watch = lambda progress: None,
    tell: Tell | None = None,
    progress: bool | None = None,
) -> Pool | None:
    """Train ``config.n`` networks on ``data`` and write them to ``out``, a ``.safetensors`` file.

    Until all are trained, those that are lie in ``OUT.parts``, and a pool that is replaced stays where it is.

    Args:
        config: how many networks, and how they are trained; ``data`` says what is set aside.
        data: what they are trained on: what ``load_data`` gives, or takes.
        out: the file.
        learner: the networks in place of what ``config`` names: a class, a function, a network or a name; see
            ``limbeck.distill``.
        device: where they are trained.
        resume: go on with a pool that was stopped; one that is finished is opened.
        overwrite: replace a pool, or the parts of one.
        watch: called after every step of a group.
        tell: called with what people should know.
        progress: without ``tell``, whether to show that and each group that is trained; by default in a notebook, and
            where stderr is a terminal.

    Returns:
        The pool; None if someone stopped it (Ctrl-C or SIGTERM): go on with ``resume``.

    Raises:
        LimbeckError: a pool is there already and neither ``resume`` nor ``overwrite`` is set; nothing to resume, or
            parts of another pool; a learner that does not fit the data.
    """
    device = usable_device(device)
    if not isinstance(data, TaskData):
        data = load(data, val_size=config.val_size, seed=config.seed)
    if learner is not None:
        config = dataclasses.replace(config, learner=name_learner(learner))
    if tell is None:
        tell = reporter_for(progress).message
        watch = _tell_groups(watch, tell)
    config = dataclasses.replace(config, val_size=len(data.val_y))
    parts = Parts(Path(out), config, data)
    if resume and parts.is_finished():
        return _open_finished(parts)
    parts.check_place(resume=resume, overwrite=overwrite)
    training = _Training(config, data.to(device), device, tell, config.learner if learner is None else learner)
    parts.prepare(training.compiled, resume=resume, tell=tell)
    with interruptible() as stop:
        if not _train_groups(training, parts, watch, stop):
            return None
    pool = _gather(training, parts)
    save_pool(parts.out, pool.states, pool.card)
    parts.remove()
    _report_failures(pool.card, tell)
    return pool


def _tell_groups(watch: Watch, tell: Tell) -> Watch:
    """``watch``, and a sentence at the end of each group."""

    def told(progress: PoolProgress) -> None:
        watch(progress)
        if progress.step == progress.steps:
            tell(f"{progress.networks + progress.group} of {progress.total} networks are trained")

    return told


def _open_finished(parts: Parts) -> Pool:
    """The pool that is there, without parts that a kill has left; raises LimbeckError if it was made otherwise."""
    pool = open_pool(parts.out)
    parts.check_card(pool.card)
    parts.remove()
    return pool


def _train_groups(training: _Training, parts: Parts, watch: Watch, stop: Stop) -> bool:
    """Train the groups that are missing; False if someone stopped it before the last was trained."""
    networks = 0
    for index, size in enumerate(training.sizes):
        if not parts.has_group(index) and not _train_group(training, parts, index, networks, watch, stop):
            return False
        networks += size
        if stop.requested and index + 1 < len(training.sizes):
            return False
    return True


def _train_group(training: _Training, parts: Parts, index: int, networks: int, watch: Watch, stop: Stop) -> bool:
    """Train one group from where it was left, after ``networks`` others; False if someone stopped it on the way."""
    start, before = time.monotonic(), parts.read_seconds()
    config, size = training.config, training.sizes[index]
    for state, step in training.take_steps(index, parts.read_state(index)):
        watch(PoolProgress(total=config.n, networks=networks, group=size, step=step, steps=config.steps))
        if stop.requested and step < config.steps:
            parts.write_state(index, state, step, before + time.monotonic() - start)
            return False
    accuracy = training.measure_accuracy("val", state.network)
    parts.write_group(index, state.network, accuracy, before + time.monotonic() - start)
    return True


def _gather(training: _Training, parts: Parts) -> Pool:
    """The pool of all groups, whose networks are now judged on the test data."""
    start = time.monotonic()
    config, data = training.config, training.data
    networks, accuracy = parts.read_groups(len(training.sizes))
    card: dict[str, Any] = {
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "base_sha256": data.base_sha256 or data.sha256,
            "source": data.source or data.name,
            "split_seed": parts.split_seed,
        },
        "shape": list(data.image_shape),
        "classes": list(data.class_names),
        "config": dataclasses.asdict(config),
        "validation_accuracy": accuracy,
        "test_accuracy": training.measure_accuracy("test", networks),
        "seconds": round(parts.read_seconds() + time.monotonic() - start, 1),
        "versions": versions(training.device),
    }
    return Pool(states=networks, card=card)


def _report_failures(card: dict[str, Any], tell: Tell) -> None:
    """Tell which networks are hardly better than guessing."""
    for index, value in enumerate(card["validation_accuracy"]):
        if not value > 200 / len(card["classes"]):
            tell(f"network {index} did not learn ({value:.1f} % on validation data): try a lower --lr")


@final
class _Training:
    """How the groups of a pool are trained and judged: ``sizes`` are their networks, ``compiled`` says in which way."""

    def __init__(self, config: PoolConfig, data: TaskData, device: str, tell: Tell, network: LearnerLike) -> None:
        self.config, self.data, self.device = config, data, device
        self.module = build_learner(network, shape=data.image_shape, num_classes=data.num_classes).to(device)
        learner = adam_learner(self.module)
        work = Work(
            learner=learner,
            image_shape=data.image_shape,
            networks=config.n,
            images=config.batch,
            steps=config.n * config.steps,
        )
        self.sizes = group_sizes(config.n, config.group or (None if work.small else 1))
        plan = plan_work(work, compile=config.compile, at_once=max(self.sizes))
        self.compiled = plan.execution.compiled
        if self.compiled:
            tell("compiling the training step (20-60 s, from the cache 5-10 s)")
        self.kernels = Kernels(learner, RealLoss(), plan.execution)

    @torch.no_grad()
    def take_steps(self, index: int, start: tuple[State, int] | None) -> Iterator[tuple[State, int]]:
        """The states of a group after each step and its number from 1, after the state and number of ``start``."""
        config, data, size = self.config, self.data, self.sizes[index]
        rng = generator(config.seed, f"pool group {index}")
        states = self.kernels.init(draw(self.module, config.distribution, size, rng))
        done = 0
        if start is not None:
            states, done = start[0].each(lambda value: value.to(data.train_x.device)), start[1]
        for step in range(config.steps):
            index_GM = torch.randint(len(data.train_y), (size, config.batch), generator=rng)
            if step < done:  # its images were drawn, so that the later ones are those of a pool that nobody stopped
                continue
            batch = adam_batch(data, index_GM.to(data.train_y.device), learning_rate(config, step), config.weight_decay)
            states = self.kernels.step_each(states, batch)
            yield states, step + 1

    def measure_accuracy(self, split: Literal["val", "test"], networks: Tensors) -> list[float]:
        """The accuracy of each network on a split, in percent."""
        networks = {name: value.to(self.data.train_x.device) for name, value in networks.items()}
        batches = self.data.split_batches(split, 1000)
        accuracy: list[float] = score(self.kernels, networks, batches, self.data.num_classes).accuracy_B.tolist()
        return accuracy


def learning_rate(config: PoolConfig, step: int) -> float:
    """Adam's rate in a step counted from 0: it rises over ``WARMUP`` steps and falls to zero as a cosine."""
    warm = min(1.0, (step + 1) / WARMUP)
    return config.lr * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def group_sizes(n: int, group: int | None) -> list[int]:
    """Networks of each group: ``group``, if that is given, or a size that leaves no group of another size."""
    size = group or next((size for size in GROUPS if n % size == 0), min(n, 20))
    full, rest = divmod(n, size)
    return [size] * full + [rest] * (rest > 0)
