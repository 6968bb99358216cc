"""Tuning ordinary training: what validation likes better is kept, and nothing else."""

from __future__ import annotations

import math

import pytest

from limbeck.errors import LimbeckError
from limbeck.evaluation.training import OrdinaryTraining
from limbeck.evaluation.tuning import tune_recipe
from limbeck.evaluation.usage import uses_of

SHAPE = (1, 28, 28)


def test_the_best_of_what_was_tried_is_kept() -> None:
    tried: dict[OrdinaryTraining, float] = {}

    def validate(recipe: OrdinaryTraining) -> float:
        tried[recipe] = 80 + 5 * recipe.augmented - abs(math.log(recipe.lr / 0.003)) + (recipe.epochs > 200)
        return tried[recipe]

    told: list[str] = []
    best = tune_recipe(OrdinaryTraining(), validate, shape=SHAPE, tell=told.append)
    assert tried[best] == max(tried.values()) and best.augmented and best.lr == pytest.approx(0.003)
    assert best.epochs == 240 and "before tuning" in told[0]


def test_rows_of_tables_are_not_moved() -> None:
    best = tune_recipe(OrdinaryTraining(), lambda recipe: float(recipe.augmented), shape=SHAPE, moved=False)
    assert not best.augmented


def test_nothing_that_is_no_better_is_taken() -> None:
    assert tune_recipe(OrdinaryTraining(), lambda recipe: 50.0, shape=SHAPE) == OrdinaryTraining()


def test_no_time_is_no_tuning() -> None:
    count = []
    tune_recipe(OrdinaryTraining(), lambda recipe: float(len(count) or count.append(1) or 1), shape=SHAPE, seconds=0.0)  # type: ignore[func-returns-value]
    assert len(count) == 1


def test_colour_images_are_mirrored() -> None:
    best = tune_recipe(OrdinaryTraining(), lambda recipe: float(recipe.augmented), shape=(3, 32, 32))
    assert best.flip and best.shift == pytest.approx(32 / 14)


@pytest.mark.parametrize("images", [1, 10, 100, 1000, 50_000])
def test_a_recipe_for_few_images_takes_steps_enough(images: int) -> None:
    recipe = OrdinaryTraining.for_images(images)
    assert 290 <= recipe.count_steps(images) <= 700 and recipe.batch_size >= 10


class Ordinary:
    """As much of a set as ``uses_of`` looks at."""

    training = OrdinaryTraining(lr=0.01)
    images = __import__("torch").zeros(1, 10, 1, 4, 4)


def test_a_set_for_ordinary_training_is_used_as_it_says() -> None:
    (use,) = uses_of(Ordinary(), None, None)  # type: ignore[arg-type]
    assert use.recipe == Ordinary.training and use.own and use.tuned and use.protocol == "ordinary"
    (use,) = uses_of(Ordinary(), OrdinaryTraining(), "ordinary")  # type: ignore[arg-type]
    assert not use.own and use.tuned


def test_what_does_not_fit_is_refused() -> None:
    for protocol in ("learned", "both"):
        with pytest.raises(LimbeckError, match="without steps"):
            uses_of(Ordinary(), None, protocol)  # type: ignore[arg-type]
    with pytest.raises(LimbeckError, match="ordinari"):
        uses_of(Ordinary(), None, "ordinari")  # type: ignore[arg-type]
