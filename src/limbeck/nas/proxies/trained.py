"""Proxies that train the network itself: on a learned set, or on real data for a while or to the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import final

from limbeck.artefact.distilled import Distilled
from limbeck.common.seeds import generator
from limbeck.engine import Learner
from limbeck.errors import LimbeckError
from limbeck.evaluation.train_and_score import train
from limbeck.models import RandomInit
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.common import require_positive
from limbeck.nas.proxies.scale import Scale, scale_of
from limbeck.nas.spaces.base import Arch
from limbeck.nas.training import Measure, Schedule, plan_kernels, train_real, validate


@final
@dataclass(frozen=True, kw_only=True)
class SyntheticData(Proxy):
    """Train on a learned set, from a generator or of images, and score on validation data (Such et al. 2019).

    Args:
        run: run directory of the learned set.
        steps: of the learned ones, how many are taken; all by default.
        inits: initial weights that a score averages over.
        images: validation images; all by default.
        measure: of the trained networks on validation images.
        compiled: as in ``Schedule``.
        label: the proxy's name; ``synthetic`` by default.
    """

    run: Path
    steps: int | None = None
    inits: int = 4
    images: int | None = 2000
    measure: Measure = "probability"
    compiled: bool = False
    label: str = "synthetic"

    def __post_init__(self) -> None:
        require_positive(self, "steps", "inits", "images")

    @property
    def name(self) -> str:
        return self.label

    def at(self, fraction: float) -> Proxy:
        steps = self.steps or Distilled.load(self.run).steps
        return replace(self, steps=max(1, round(fraction * steps)))

    @property
    def scale(self) -> Scale:
        return scale_of(self.measure)

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        run = Distilled.load(self.run)
        if run.shape != task.space.shape or run.num_classes != task.space.num_classes:
            raise LimbeckError(
                f"The set in {self.run} has images of {run.shape} and {run.num_classes} classes; the search needs "
                f"{task.space.shape} and {task.space.num_classes}. Learn a set on {task.data.name}."
            )
        if run.info["data"]["sha256"] != task.data.sha256:
            raise LimbeckError(
                f"The set in {self.run} was learned from {run.info['data']['name']}; the search is on "
                f"{task.data.name}. Learn a set on that."
            )
        split, left_out = run.config.split, run.config.val_size
        search_split = task.data.split_seed
        # Without a seed the data came with a split of its own, of which the run's configuration says nothing.
        if search_split is not None and (search_split != split or len(task.data.val_y) > left_out):
            raise LimbeckError(
                f"The set in {self.run} may have been learned from images that the search validates on: "
                f"{task.data.name} was split with seed {split}, and {left_out} images were left out. Search with "
                f"--seed {split} and --val-size {left_out} or less."
            )
        if run.weights:
            raise LimbeckError(
                f"The set in {self.run} was learned for one fixed initialisation, so that other networks learn little "
                "from it; learn one with --init=random."
            )
        if self.steps is not None and not 1 <= self.steps <= run.steps:
            raise LimbeckError(f"steps is {self.steps}; the set in {self.run} has 1 to {run.steps}.")
        return _OnLearnedSet(config=self, source=run)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _OnLearnedSet(Scorer):
    config: SyntheticData
    source: Distilled

    def score(self, task: Task, arch: Arch) -> float:
        module = task.space.build(arch).to(task.device)
        learner = Learner.of(module, self.source.training.make_optimizer())
        images = len(next(self.source.batches(task.device)).x_MCHW)
        kernels = plan_kernels(learner, task.space.shape, self.config.inits, images, compiled=self.config.compiled)
        init_config = self.source.config.init
        init = RandomInit(module=module, distribution=init_config.distribution, gain=init_config.gain)
        stream = f"learned set {task.space.text(arch)}"
        weights = init.sample(self.config.inits, generator(task.seed, stream))
        batches = islice(self.source.batches(task.device), self.config.steps)
        trained = train(kernels, batches, weights)
        return validate(kernels, trained, task.data, self.config.images, self.config.measure)


@final
@dataclass(frozen=True, kw_only=True)
class RealData(Proxy):
    """Train on real data by a schedule and score on validation data: for a few steps or seconds, or to the end.

    Args:
        schedule: for how long and how.
        images: validation images; all by default.
        measure: of the trained networks on validation images.
        label: the proxy's name; ``real`` by default.
    """

    schedule: Schedule
    images: int | None = None
    measure: Measure = "accuracy"
    label: str = "real"

    def __post_init__(self) -> None:
        require_positive(self, "images")

    @property
    def name(self) -> str:
        return self.label

    def at(self, fraction: float) -> Proxy:
        steps, seconds = self.schedule.steps, self.schedule.seconds
        shorter = replace(
            self.schedule,
            steps=None if steps is None else max(1, round(fraction * steps)),
            seconds=None if seconds is None else fraction * seconds,
        )
        return replace(self, schedule=shorter)

    @property
    def scale(self) -> Scale:
        return scale_of(self.measure)

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        return _OnRealData(config=self)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _OnRealData(Scorer):
    config: RealData

    def score(self, task: Task, arch: Arch) -> float:
        module = task.space.build(arch).to(task.device)
        stream = f"real data {task.space.text(arch)}"
        kernels, networks = train_real(module, task.data, self.config.schedule, seed=task.seed, stream=stream)
        return validate(kernels, networks, task.data, self.config.images, self.config.measure)
