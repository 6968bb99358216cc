"""What a run was worth: its set beside as many random real images and k-means, on validation data.

The baselines are trained in as many steps of the same optimiser, with the learned step sizes or with one that is tuned
for them. The test set is not read. Shapes: B inits, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self, final

import torch
from torch import Tensor

from limbeck.common.seeds import generator
from limbeck.common.typed import check_types
from limbeck.data import TaskData
from limbeck.engine import Batch, Kernels, Tensors
from limbeck.errors import in_python
from limbeck.evaluation.baselines import STEP_SIZES, Layout, make_baseline
from limbeck.evaluation.learned_set import LearnedSet
from limbeck.evaluation.train_and_score import Scores, score, train, train_each

Word = Literal["above", "level", "below", "failed"]

FEW, MANY = 8, 16
"""Networks that a score is over, at least and at most."""

SETS: Final = 5
"""Random sets."""

TUNING: Final = 4
"""Networks on which a step size is tuned, at most."""

EXAMPLES: Final = 1000
"""Validation examples, at most."""

COARSE: Final = STEP_SIZES[1::2]
"""The step sizes that are tried first; the neighbours of the best follow."""

NEARLY_CHANCE: Final = 0.05
"""The part of the way from guessing to 100 % up to which nothing was learned."""


@final
@dataclass(frozen=True, kw_only=True)
class Standing:
    """How networks do that were trained on a set.

    Attributes:
        mean: accuracy in percent.
        error: standard error of it, over random sets where there are several, else over initial weights.
        balanced: the mean of the accuracies of the classes.
        step_size: the one that was tuned; None for learned ones.
    """

    mean: float
    error: float
    balanced: float
    step_size: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.error:.1f} %" if self.error else f"{self.mean:.1f} %"


@final
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The learned set beside real images, on validation data.

    Attributes:
        word: ``above``, ``level`` or ``below`` random real images, by more than two standard errors; ``failed`` where
            nothing was learned that guessing does not reach.
        learned, random, kmeans: how networks do that were trained on each.
        n: initial weights of each score.
        reason: why it is no better.
        advice: what to try.
    """

    word: Word
    learned: Standing
    random: Standing
    kmeans: Standing
    n: int
    reason: str = ""
    advice: str = ""

    def __str__(self) -> str:
        """``sentence`` with keyword arguments in the place of flags."""
        return in_python(self.sentence)

    @property
    def sentence(self) -> str:
        """All of it in a line or two, as the command line has it."""
        figures = (
            f"{self.learned} of validation data, against {self.random} with as many random real images and "
            f"{self.kmeans} with k-means ({self.n} initial weight{'s' if self.n > 1 else ''})"
        )
        if self.word == "above":
            return f"verdict: above random real images: {figures}"
        said = {
            "failed": "FAILED: networks that train on this set do no better than guessing",
            "below": "verdict: BELOW random real images",
            "level": "verdict: only level with random real images",
        }[self.word]
        why = f". Why: {self.reason}" if self.reason else ""
        advice = f". Try {self.advice}" if self.advice else ""
        return f"{said}: {figures}{why}{advice}."

    def explained(self, reason: str, advice: str) -> Self:
        """The same with a reason, and what to try."""
        return replace(self, reason=reason, advice=advice)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``; raises LimbeckError or TypeError for what is none."""
        names = ("learned", "random", "kmeans")
        verdict = cls(**{**values, **{name: Standing(**values[name]) for name in names}})
        check_types(verdict)
        return verdict


def compare(
    run: LearnedSet,
    data: TaskData,
    kernels: Kernels,
    *,
    seconds: float,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Hold a set of learned images against random real ones and k-means.

    Args:
        run: the set; of images, in whole numbers for each class.
        data: what it was learned from, on the device of ``kernels``.
        kernels: of its learner.
        seconds: that it may take, roughly; more networks are trained where there is time.
        seed: of initial weights and of the sets that are drawn.
        tell: told what is going on.
    """
    contest = _Contest(run, data, kernels, seed)
    few = 1 if run.weights else min(FEW, contest.most)
    start = time.monotonic()
    contest.score_learned(few)
    each = (time.monotonic() - start) / few
    n = 1 if run.weights else min(contest.most, max(FEW, min(MANY, int(seconds / max(each, 1e-6) / 8))))
    contest.frugal = each * (3 * n + 11 * min(TUNING, n)) > seconds
    trainings = 3 * n + (7 if contest.frugal else 11) * contest.tuned_on(n)
    tell(f"comparing with random real images and k-means on validation data, some {each * trainings:.0f} s")
    return contest.decide(n)


@final
class _Contest:
    """Trains networks on sets that are laid out like a learned one, and scores them on validation data."""

    def __init__(self, run: LearnedSet, data: TaskData, kernels: Kernels, seed: int) -> None:
        self.run, self.data, self.kernels, self.seed = run, data, kernels, seed
        batches, images = run.images.shape[:2]
        self.layout = Layout(batches=batches, ipc=max(1, images // data.num_classes))
        self.frugal = False
        self.most = run.config.outer.validate_inits if run.config.init.pooled else MANY
        self.rows = torch.randperm(len(data.val_y), generator=generator(seed, "verdict images"))[:EXAMPLES]

    def score_learned(self, n: int) -> Scores:
        """The learned set's scores."""
        return self.score([self.learned()], n)

    def learned(self) -> Iterator[Batch]:
        """The batches of the learned set."""
        return self.run.training.batches(self.run.images, self.run.labels, device=self.device, seed=self.seed)

    def decide(self, n: int) -> Verdict:
        """The verdict over n initial weights."""
        learned = _standing([self.score_learned(n)], None)
        draws = generator(self.seed, "verdict random")
        drawn = [make_baseline("random")(self.data, self.layout.per_class, draws) for _ in range(SETS if n > 1 else 10)]
        sets = drawn[: max(2, min(len(drawn), n // 2))] if n > 1 else drawn
        lr = self.tune(sets[0], COARSE, n)
        random = self.stand(sets, lr, n)
        centres = make_baseline("kmeans")(self.data, self.layout.per_class, draws)
        kmeans = self.stand([centres], self.tune(centres, () if lr is None else (lr,), n), n)
        return Verdict(
            word=decide(learned, random, classes=self.data.num_classes),
            learned=learned,
            random=random,
            kmeans=kmeans,
            n=n,
        )

    def stand(self, sets: Sequence[Tensor], lr: float | None, n: int) -> Standing:
        """How n networks do that are trained on sets (K, n, C, H, W), each on one of them."""
        shares = torch.arange(n).tensor_split(len(sets)) if n > 1 else [torch.arange(1)] * len(sets)
        scores = self.score([self.arrange(x, lr) for x in sets], n)
        correct_BK = iter(scores.correct_BK)
        parts = [torch.stack([next(correct_BK) for _ in share]) for share in shares]
        return _standing([Scores(correct_BK=part, total_K=scores.total_K) for part in parts], lr)

    def tune(self, x_KnCHW: Tensor, sizes: Sequence[float], n: int) -> float | None:
        """The step size that validation likes best: the learned ones (None), one of these, or one next to the best."""
        accuracy = {lr: self.quick(x_KnCHW, lr, n) for lr in (None, *sizes)}
        tried = [lr for lr in accuracy if lr is not None]
        if tried and not self.frugal:
            index = STEP_SIZES.index(max(tried, key=lambda lr: accuracy[lr]))
            near = [STEP_SIZES[i] for i in (index - 1, index + 1) if 0 <= i < len(STEP_SIZES)]
            accuracy |= {lr: self.quick(x_KnCHW, lr, n) for lr in near}
        return max(accuracy, key=lambda lr: accuracy[lr])

    def quick(self, x_KnCHW: Tensor, lr: float | None, n: int) -> float:
        """Mean accuracy of a few networks."""
        return self.score([self.arrange(x_KnCHW, lr)], self.tuned_on(n), "tuning").mean

    def tuned_on(self, n: int) -> int:
        """Networks on which step sizes are tuned."""
        return min(2 if self.frugal else TUNING, n)

    def arrange(self, x_KnCHW: Tensor, lr: float | None) -> Iterator[Batch]:
        """The batches of training on a set (K, n, C, H, W)."""
        recipe = self.run.training if lr is None else self.run.training.at_step_size(lr)
        return recipe.batches(*self.layout.split(x_KnCHW), device=self.device, seed=self.seed)

    def score(self, sets: Sequence[Iterator[Batch]], n: int, purpose: str = "scores") -> Scores:
        """Validation scores of n networks, each trained on one of the sets."""
        weights = self.weights(n, purpose)
        trained = train(self.kernels, sets[0], weights) if len(sets) == 1 else train_each(self.kernels, sets, weights)
        return score(self.kernels, trained, self.examples(), self.data.num_classes)

    def weights(self, n: int, purpose: str) -> Tensors:
        """Held-out initial weights (n, ...) by name."""
        stream = int(generator(self.seed, f"verdict {purpose}").initial_seed())
        initial = self.run.initial(self.kernels.learner, min(n, self.most), stream, selection=True)
        return {name: value.to(self.device) for name, value in initial.items()}

    def examples(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Validation images and their classes."""
        rows = self.rows.to(self.data.val_y.device)
        yield self.data.preprocessing.apply(self.data.val_x[rows]), self.data.val_y[rows]

    @property
    def device(self) -> torch.device:
        """Where networks are trained."""
        return self.data.train_x.device


def decide(learned: Standing, random: Standing, *, classes: int) -> Word:
    """The word for a learned set beside random real images."""
    chance = 100 / classes
    least = max(2 * learned.error, NEARLY_CHANCE * (100 - chance))
    if not learned.balanced > chance + least:
        return "failed"
    difference, error = learned.mean - random.mean, math.hypot(learned.error, random.error)
    if abs(difference) <= 2 * error:
        return "level"
    return "above" if difference > 0 else "below"


def _standing(sets: Sequence[Scores], lr: float | None) -> Standing:
    """How networks do, by the set that they were trained on."""
    scores = Scores(correct_BK=torch.cat([each.correct_BK for each in sets]), total_K=sets[0].total_K)
    over = torch.tensor([each.mean for each in sets]) if len(sets) > 1 else scores.accuracy_B
    error = float(over.std()) / math.sqrt(len(over)) if len(over) > 1 else 0.0
    return Standing(mean=scores.mean, error=error, balanced=scores.balanced, step_size=lr)
