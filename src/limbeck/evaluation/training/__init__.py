"""How a set is used, which is part of the set: in learned steps, or by ordinary training."""

from __future__ import annotations

from typing import Final

from limbeck.common.registry import Registry
from limbeck.evaluation.training.base import TrainingRecipe, chosen_recipe
from limbeck.evaluation.training.learned_schedule import LearnedSchedule
from limbeck.evaluation.training.ordinary import OrdinaryTraining

RECIPES: Final[Registry[type[TrainingRecipe]]] = Registry(
    "training recipe", (LearnedSchedule.kind, LearnedSchedule), (OrdinaryTraining.kind, OrdinaryTraining)
)
"""The training recipes by name; another one is a file of this package and a line here."""

__all__ = ["RECIPES", "LearnedSchedule", "OrdinaryTraining", "TrainingRecipe", "chosen_recipe"]
