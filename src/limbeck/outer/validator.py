"""Networks trained on what is learned, scored on validation data, and with that the choice of how a set is used.

Shapes: S batches, M images a batch, T steps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, final

import torch

from limbeck.data import TaskData
from limbeck.engine import Batch, Materialised, Source, Tensors
from limbeck.evaluation.train_and_score import Scores
from limbeck.evaluation.training import LearnedSchedule, OrdinaryTraining, TrainingRecipe
from limbeck.evaluation.tuning import tune_recipe
from limbeck.experiment.config import Config
from limbeck.outer.learners import Family

CALIBRATION_FACTORS: Final = (1.0, 0.9, 0.8, 0.7)
"""What calibration tries on the step sizes."""

TUNING_PART: Final = 0.2
"""The part of a run's time, where that is limited, that tuning ordinary training may take."""


def ordinary_training(config: Config, data: TaskData) -> OrdinaryTraining | None:
    """How a set is used whose method learns no steps, before that is tuned; None where steps are learned."""
    if config.method.learns_steps:
        return None
    return OrdinaryTraining.for_images(config.batch_size(data.num_classes))


@final
@dataclass(kw_only=True, eq=False)
class Validator:
    """Judges what a source holds, and keeps how it is best used.

    Args:
        source: what is learned.
        family: the learners.
        data: whose validation split is read.
        config: of the run.
        tell: told what was chosen.
        recipe: ordinary training; None where the learned steps are used.
    """

    source: Source
    family: Family
    data: TaskData
    config: Config
    tell: Callable[[str], None]
    recipe: OrdinaryTraining | None = None
    calibration: dict[str, Any] = field(default_factory=lambda: {"factor": 1.0, "n": 0})

    def scores(
        self, params: Tensors | None = None, count: int | None = None, stream: int = 1, factor: float = 1.0
    ) -> Scores:
        """Train held-out inits of every learner on a set and score them on the validation split.

        Args:
            params: of the source, the present ones by default.
            count: inits of each learner; by default what the configuration says for validation.
            stream: other numbers give other inits.
            factor: on learned step sizes.
        """
        if count is None:
            count = self.config.outer.validate_inits if self.family.resampled else 1
        params = self.source.parameters() if params is None else params
        batches, seed = self.batches(params), self.config.seed + stream
        return self.family.validate(lambda: self._lessons(batches, factor, seed), self.data, count, seed)

    @torch.no_grad()
    def batches(self, params: Tensors) -> list[Batch]:
        """The batches of a source with these parameters, step by step."""
        return [self.source.batch(params, t) for t in range(self.source.steps)]

    def _lessons(self, batches: list[Batch], factor: float, seed: int) -> Iterable[Batch]:
        """The steps of training, learned or ordinary ones."""
        if self.recipe is None:
            return [batch._replace(h={**batch.h, "lr": factor * batch.h["lr"]}) for batch in batches]
        images = torch.stack([batch.x_MCHW for batch in batches])
        labels = torch.stack([batch.y_MK for batch in batches])
        return self.recipe.batches(images, labels, device=images.device, seed=seed)

    def choose_usage(self, params: Tensors) -> None:
        """Choose, for what was learned, a factor on learned step sizes, or the recipe of ordinary training."""
        if self.recipe is not None:
            self.recipe = self._tune(self.recipe, params)
        elif self.config.outer.calibrate_inits and self.family.resampled:
            self._calibrate(params)

    def _tune(self, recipe: OrdinaryTraining, params: Tensors) -> OrdinaryTraining:
        """The recipe that validation likes best, over inits that choose nothing else."""
        most = self.config.outer.max_time

        def validate(candidate: OrdinaryTraining) -> float:
            self.recipe = candidate
            return self.scores(params, stream=3).mean

        return tune_recipe(
            recipe,
            validate,
            shape=self.data.image_shape,
            moved=self.data.kind == "images",
            seconds=None if most is None else TUNING_PART * most,
            tell=self.tell,
        )

    def _calibrate(self, params: Tensors) -> None:
        """Choose the factor on step sizes, over inits that no validation has seen."""
        count = self.config.outer.calibrate_inits
        rows: list[dict[str, Any]] = []
        for factor in CALIBRATION_FACTORS:
            scores = self.scores(params, count, 2, factor)
            rows.append({"factor": factor, "accuracy": scores.mean, "std": scores.std, "worst": scores.worst})
        unchanged, best = rows[0], max(rows, key=lambda row: row["accuracy"])
        self.calibration = best | {"n": count}
        self.tell(
            f"step sizes times {best['factor']:g}: {best['accuracy']:.2f} % on validation data, worst "
            f"{best['worst']:.1f}; as learned {unchanged['accuracy']:.2f} %, worst {unchanged['worst']:.1f}"
        )

    def training(self, lessons: Materialised) -> TrainingRecipe:
        """How the set is used: by ordinary training, or in its learned steps at their calibrated sizes."""
        if self.recipe is not None:
            return self.recipe
        factors = {"lr": float(self.calibration["factor"])}
        return LearnedSchedule(
            inner=self.config.inner,
            order=lessons.order,
            hyperparameters={
                name: factors.get(name, 1.0) * value.contiguous().cpu()
                for name, value in lessons.hyperparameters.items()
            },
        )
