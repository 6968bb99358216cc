"""Under which protocols a set is judged: in its learned steps, as people train ordinarily, or both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from limbeck.errors import LimbeckError, unknown
from limbeck.evaluation.learned_set import LearnedSet
from limbeck.evaluation.training import LearnedSchedule, OrdinaryTraining, TrainingRecipe, chosen_recipe

Protocol: TypeAlias = Literal["learned", "ordinary", "both"]
"""In the steps that were learned, by ordinary training tuned for each set, or both."""


@final
@dataclass(frozen=True, kw_only=True)
class Use:
    """How sets are used for one half of a table.

    Attributes:
        recipe: what the learned set is trained with, or where tuning starts.
        own: whether ``recipe`` is the set's own, which is not tuned again.
        tuned: whether all of ordinary training is tuned, and not the step size alone.
    """

    recipe: TrainingRecipe
    own: bool = True
    tuned: bool = False

    @property
    def protocol(self) -> str:
        """Its name in tables."""
        return "learned" if isinstance(self.recipe, LearnedSchedule) else "ordinary"

    @property
    def description(self) -> str:
        """What a person reads."""
        return "ordinary training as it serves each set best" if self.tuned else self.recipe.description


def uses_of(run: LearnedSet, training: TrainingRecipe | None, protocol: Protocol | None) -> list[Use]:
    """How a set is judged (see ``evaluate``).

    Raises:
        LimbeckError: no such protocol, learned steps of a set that has none, or a recipe that is not ordinary training
            for that protocol.
    """
    if protocol not in (None, "learned", "ordinary", "both"):
        raise unknown("protocol", str(protocol), ("learned", "ordinary", "both"))
    scheduled = isinstance(run.training, LearnedSchedule)
    if protocol in ("learned", "both") and not scheduled:
        raise LimbeckError(
            f"The set was learned for ordinary training ({run.training.description}), without steps; leave protocol "
            f"{protocol} out."
        )
    if protocol == "learned" and training is not None:
        raise LimbeckError("protocol learned trains as the set says; leave training out.")
    start = chosen_recipe(training, run.training)
    if protocol is None and training is not None:
        return [Use(recipe=start, own=False)]
    if protocol in (None, "learned") and scheduled:
        return [Use(recipe=run.training)]
    if not isinstance(start, OrdinaryTraining):
        if training is not None:
            raise LimbeckError(f"protocol {protocol} tunes OrdinaryTraining, not {type(training).__name__}.")
        start = OrdinaryTraining.for_images(run.images.shape[0] * run.images.shape[1])
    ordinary = Use(recipe=start, own=start is run.training, tuned=True)
    return [Use(recipe=run.training), ordinary] if protocol == "both" else [ordinary]
