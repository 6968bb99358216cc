"""What the scores of a proxy say, so that a table can head its column and tell what guessing would reach."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from limbeck.nas.training import Measure


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a score says.

    Attributes:
        unit: as a table heads the column.
        of_answers: whether scores are percents of right answers, which guessing has some of, too.
    """

    unit: str
    of_answers: bool = False

    def chance(self, num_classes: int) -> float | None:
        """The score of a network that guesses among classes of equal size; None where guessing has no score."""
        return 100 / num_classes if self.of_answers else None


RANK: Final = Scale(unit="rank score")
"""Of scores that order architectures and say nothing else."""
UNKNOWN: Final = Scale(unit="score")
"""Of searches that were kept before their scores had a unit."""
PREDICTED: Final = Scale(unit="predicted accuracy, %", of_answers=True)

_MEASURED: Final = MappingProxyType(
    {
        "accuracy": Scale(unit="accuracy, %", of_answers=True),
        "probability": Scale(unit="probability, %", of_answers=True),
    }
)


def scale_of(measure: Measure) -> Scale:
    """The scale of networks that are judged on validation images by a measure.

    >>> scale_of("accuracy").unit, scale_of("accuracy").chance(10)
    ('accuracy, %', 10.0)
    """
    return _MEASURED[measure]
