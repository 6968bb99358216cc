"""Learned performance predictors: a regression from what is known early of an architecture to its final accuracy.

They need the extra ``nas`` (scikit-learn), imported when one is fitted. Shapes: n examples, D features, P points of a
learning curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from limbeck.errors import LimbeckError, unknown
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.common import distinct, numpy_generator, require_positive
from limbeck.nas.proxies.scale import PREDICTED, Scale
from limbeck.nas.proxies.trained import RealData
from limbeck.nas.spaces.base import Arch, Space
from limbeck.nas.training import Schedule, initial_weights, kernels_for, train_steps, validation_accuracy

Regressor: TypeAlias = Literal["forest", "svr"]
Floats: TypeAlias = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class EncodingPredictor(Proxy):
    """Predict the accuracy from the architecture alone: its one-hot encoding, parameters and operations.

    Args:
        examples: different architectures, at least 2, drawn at random and trained by ``schedule`` to learn from.
        pairs: (architecture, accuracy) to learn from in their place.
        schedule: how the examples are trained.
        images: validation images that score them; all by default.
        regressor: "forest" (Breiman 2001) or "svr" (ν-support vector regression, Schölkopf et al. 2000).
        label: the proxy's name; ``encoding`` by default.
    """

    examples: int = 20
    pairs: tuple[tuple[Arch, float], ...] = ()
    schedule: Schedule = field(default_factory=Schedule)
    images: int | None = None
    regressor: Regressor = "forest"
    label: str = "encoding"

    def __post_init__(self) -> None:
        _check(self.examples, self.regressor)
        require_positive(self, "images")
        if len(self.pairs) == 1 or not all(math.isfinite(accuracy) for _, accuracy in self.pairs):
            raise LimbeckError("A predictor learns from at least 2 pairs of an architecture and a finite accuracy.")

    @property
    def name(self) -> str:
        return self.label

    @property
    def scale(self) -> Scale:
        return PREDICTED

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        regressor = _regressor(self.regressor, task.seed)
        pairs = self.pairs or self._train_examples(task, tell)
        regressor.fit(
            np.stack([features(task.space, arch) for arch, _ in pairs]), np.array([accuracy for _, accuracy in pairs])
        )
        tell(f"encoding: fitted on {len(pairs)} architectures")
        return _ByEncoding(regressor=regressor)

    def _train_examples(self, task: Task, tell: Tell) -> tuple[tuple[Arch, float], ...]:
        full = RealData(schedule=self.schedule, images=self.images).prepare(task)
        pairs = []
        for arch in _examples(task, self.examples):
            pairs.append((arch, full.score(task, arch)))
            tell(f"encoding: {len(pairs)} of {self.examples}, {task.space.text(arch)} {pairs[-1][1]:.2f} %")
        return tuple(pairs)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _ByEncoding(Scorer):
    regressor: Any

    def score(self, task: Task, arch: Arch) -> float:
        return float(self.regressor.predict(features(task.space, arch)[None])[0])


@final
@dataclass(frozen=True, kw_only=True)
class CurvePredictor(Proxy):
    """Predict the final accuracy from the beginning of the learning curve (Baker et al. 2018, arXiv 1705.10823).

    A candidate takes the first steps of the schedule; validation accuracies on the way, their first and second
    differences and the features of ``EncodingPredictor`` are regressed on final accuracies.

    Args:
        examples: different architectures, at least 2, drawn at random and trained to the end to learn from.
        fraction: of the steps that a candidate is trained for, in (0, 1).
        points: P, accuracies on the way, equally far apart; at least 1.
        schedule: how the examples are trained, and candidates begun; in steps.
        images: validation images; all by default.
        regressor: as for ``EncodingPredictor``; the paper finds "svr" best.
        label: the proxy's name; ``curve`` by default.
    """

    examples: int = 20
    fraction: float = 0.25
    points: int = 4
    schedule: Schedule = field(default_factory=Schedule)
    images: int | None = None
    regressor: Regressor = "svr"
    label: str = "curve"

    def __post_init__(self) -> None:
        _check(self.examples, self.regressor)
        require_positive(self, "points", "images")
        if not 0 < self.fraction < 1:
            raise LimbeckError(f"fraction is {self.fraction}; it must be above 0 and below 1.")
        if self.schedule.steps is None:
            raise LimbeckError("A learning curve is read at fixed steps; give the schedule steps in place of seconds.")
        if self.fraction * self.schedule.steps < self.points:
            raise LimbeckError(
                f"A fraction {self.fraction} of {self.schedule.steps} steps is fewer than {self.points} points; raise "
                "fraction or steps, or lower points."
            )

    @property
    def name(self) -> str:
        return self.label

    @property
    def steps(self) -> tuple[int, ...]:
        """After which steps a candidate's accuracy is measured, P of them; it is trained no further."""
        last = int(self.fraction * (self.schedule.steps or 0))
        return tuple(last * (point + 1) // self.points for point in range(self.points))

    @property
    def scale(self) -> Scale:
        return PREDICTED

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        regressor = _regressor(self.regressor, task.seed)
        rows, finals = [], []
        for arch in _examples(task, self.examples):
            *curve, final = learning_curve(
                task, arch, self.schedule, (*self.steps, self.schedule.steps or 0), self.images
            )
            rows.append(append_curve(features(task.space, arch), curve))
            finals.append(final)
            tell(f"curve: {len(rows)} of {self.examples}, {task.space.text(arch)} {final:.2f} %")
        regressor.fit(np.stack(rows), np.array(finals))
        return _ByCurve(config=self, regressor=regressor)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _ByCurve(Scorer):
    config: CurvePredictor
    regressor: Any

    def score(self, task: Task, arch: Arch) -> float:
        curve = learning_curve(task, arch, self.config.schedule, self.config.steps, self.config.images)
        return float(self.regressor.predict(append_curve(features(task.space, arch), curve)[None])[0])


def features(space: Space, arch: Arch) -> Floats:
    """(D,): the encoding, and the logarithms of parameters and of floating-point operations."""
    return np.array([*space.encode(arch), math.log1p(space.parameters(arch)), math.log1p(space.flops(arch))])


def learning_curve(
    task: Task, arch: Arch, schedule: Schedule, steps: Sequence[int], images: int | None = None
) -> list[float]:
    """Validation accuracies in percent after the given steps, ascending; training ends with the last one.

    The network is the one that ``RealData`` with this schedule trains.
    """
    module = task.space.build(arch).to(task.device)
    stream = f"real data {task.space.text(arch)}"
    kernels = kernels_for(module, task.space.shape, schedule)
    initial = initial_weights(module, schedule, seed=task.seed, stream=stream)
    curve: list[float] = []
    training = train_steps(kernels, initial, task.data, schedule, seed=task.seed, stream=stream)
    for step, networks in enumerate(training, start=1):
        if step == steps[len(curve)]:
            curve.append(validation_accuracy(kernels, networks, task.data, images))
        if len(curve) == len(steps):
            break
    return curve


def append_curve(features_D: Floats, curve: Sequence[float]) -> Floats:
    """(D + 3P − 3,): features, a curve's P points, their P − 1 differences and the P − 2 differences of those."""
    return np.concatenate([features_D, curve, np.diff(curve), np.diff(curve, n=2)])


def _examples(task: Task, count: int) -> tuple[Arch, ...]:
    return distinct(task.space, count, numpy_generator(task.seed, "examples of a predictor"))


def _check(examples: int, regressor: str) -> None:
    if examples < 2:
        raise LimbeckError(f"examples is {examples}; a predictor learns from at least 2.")
    if regressor not in ("forest", "svr"):
        raise unknown("regressor", str(regressor), ("forest", "svr"))


def _regressor(kind: Regressor, seed: int) -> Any:
    try:
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import NuSVR
    except ImportError as error:
        raise LimbeckError(f"Predictors need scikit-learn ({error}): pip install 'limbeck[nas]'.") from None
    if kind == "forest":
        return RandomForestRegressor(n_estimators=200, random_state=seed % 2**32)
    # A support vector machine's defaults are for numbers around 1.
    return TransformedTargetRegressor(make_pipeline(StandardScaler(), NuSVR()), transformer=StandardScaler())
