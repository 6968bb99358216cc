"""Ordinary training as it serves a set best: augmentation, step size, its decay, epochs, chosen on validation data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator

from limbeck.common.augmentation import Augmentation
from limbeck.evaluation.training import OrdinaryTraining


def tune_recipe(
    start: OrdinaryTraining,
    validate: Callable[[OrdinaryTraining], float],
    *,
    shape: tuple[int, int, int],
    moved: bool = True,
    seconds: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> OrdinaryTraining:
    """The best of a few recipes: one thing after another is changed, and what validation likes better is kept.

    Args:
        start: what is tried first.
        validate: a recipe to the accuracy in percent of networks that it trained, on validation data.
        shape: (C, H, W) of an image.
        moved: whether images may be augmented; rows of a table may not.
        seconds: nothing else is tried after so many; all is by default.
        tell: told what was chosen.
    """
    begun = time.monotonic()
    best, accuracy = start, validate(start)
    first, tried = accuracy, 1
    for change in (*(augmentations(shape) if moved else ()), *REFINEMENTS):
        spent = time.monotonic() - begun
        if seconds is not None and spent + spent / tried > seconds:
            break
        candidate = change(best)
        if candidate == best:
            continue
        score, tried = validate(candidate), tried + 1
        if score > accuracy:
            best, accuracy = candidate, score
    tell(f"ordinary training: {best.description}: {accuracy:.1f} % of validation data; {first:.1f} % before tuning")
    return best


Change = Callable[[OrdinaryTraining], OrdinaryTraining]


def augmentations(shape: tuple[int, int, int]) -> Iterator[Change]:
    """Augmentations of two strengths for images of this shape; colour images are mirrored, too. Moved images are seen
    four times as often: no two look the same."""
    for strength in (1.0, 1.5):

        def change(recipe: OrdinaryTraining, strength: float = strength) -> OrdinaryTraining:
            moves = dataclasses.asdict(Augmentation.suiting(shape, strength))
            epochs = recipe.epochs if recipe.augmented else 4 * recipe.epochs
            return dataclasses.replace(recipe, epochs=epochs, **moves)

        yield change


def _faster(recipe: OrdinaryTraining) -> OrdinaryTraining:
    return dataclasses.replace(recipe, lr=3 * recipe.lr)


def _slower(recipe: OrdinaryTraining) -> OrdinaryTraining:
    return dataclasses.replace(recipe, lr=recipe.lr / 3)


def _decaying(recipe: OrdinaryTraining) -> OrdinaryTraining:
    return dataclasses.replace(recipe, decay="cosine")


def _longer(recipe: OrdinaryTraining) -> OrdinaryTraining:
    return dataclasses.replace(recipe, epochs=2 * recipe.epochs)


REFINEMENTS = (_decaying, _faster, _slower, _longer)
"""What is tried after augmentation, one after another."""
