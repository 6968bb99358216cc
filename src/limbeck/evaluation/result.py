"""What the judge found: a row for the learned set, for each baseline and for each other learner."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, final

from limbeck.evaluation.train_and_score import Scores

FEW_EXAMPLES: Final = 1000
"""Test examples below which an accuracy has an interval for how few they are."""

UNBALANCED: Final = 1.5
"""How many times as many examples as another a class has where a test set is called unbalanced."""


def wilson(accuracy: float, examples: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of an accuracy over so many examples (Wilson 1927), in percent.

    >>> [round(bound, 1) for bound in wilson(90, 100)]
    [82.6, 94.5]
    """
    p, per = accuracy / 100, z * z / examples
    centre = p + per / 2
    half = z * math.sqrt(p * (1 - p) / examples + per / (4 * examples))
    low, high = ((centre + sign * half) / (1 + per) for sign in (-1, 1))
    return 100 * max(0.0, low), 100 * min(1.0, high)


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of an evaluation; accuracies in percent.

    Attributes:
        row: ``distilled``, a baseline, or another learner's name.
        before: mean accuracy of the initial weights.
        scores: after training.
        step_size: the tuned step size of a baseline, None for learned ones.
        seconds: for training and scoring.
        curve: mean accuracy on the validation split before training and after each inner step, (T + 1,); or empty.
        protocol: ``learned`` or ``ordinary`` (see ``evaluate``).
        training: how networks were trained, such as "30 gradient steps".
    """

    row: str
    before: float
    scores: Scores
    step_size: float | None
    seconds: float
    curve: tuple[float, ...] = ()
    protocol: str = "learned"
    training: str = ""

    @property
    def examples(self) -> int:
        """Test examples that each network was scored on."""
        return int(self.scores.total_K.sum())

    @property
    def interval(self) -> tuple[float, float] | None:
        """For how few the test examples are, the 95 % interval of the mean accuracy; None where they are many."""
        return wilson(self.scores.mean, self.examples) if self.examples < FEW_EXAMPLES else None

    @property
    def unbalanced(self) -> bool:
        """Whether some class has many more test examples than another."""
        counts = [count for count in self.scores.total_K.tolist() if count]
        return bool(max(counts) >= UNBALANCED * min(counts))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """Accuracies on the real test set, learned set first."""

    rows: tuple[Row, ...]
    class_names: tuple[str, ...]
    device: str
    info: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        scores = self.distilled.scores
        spread = "" if scores.std is None else f" ± {scores.std:.2f}"
        more = f", {len(self.rows) - 1} more rows" if len(self.rows) > 1 else ""
        return f"Evaluation({scores.mean:.2f}{spread} %, before {self.distilled.before:.2f}, n = {scores.n}{more})"

    def __str__(self) -> str:
        """A small table, accuracies in percent."""
        lines = [("set", "before", "after", "±", *self.more_columns, "worst", "n", "step size")]
        for row in self.rows:
            scores = row.scores
            lines.append(
                (
                    row.row,
                    f"{row.before:.2f}",
                    f"{scores.mean:.2f}",
                    "" if scores.std is None else f"{scores.std:.2f}",
                    *self.more_cells(row),
                    f"{scores.worst:.2f}",
                    str(scores.n),
                    "learned" if row.step_size is None else f"{row.step_size:g}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
        ]
        return "\n".join(["accuracy on the real test set (%)", *table])

    @property
    def more_columns(self) -> tuple[str, ...]:
        """What a table has besides where the test set is unbalanced, or small."""
        first = self.distilled
        protocols = ("protocol",) if len({row.protocol for row in self.rows}) > 1 else ()
        return (*protocols, *(("balanced",) if first.unbalanced else ()), *(("95 %",) if first.interval else ()))

    def more_cells(self, row: Row) -> tuple[str, ...]:
        """What a row has in ``more_columns``."""
        protocol = (row.protocol,) if "protocol" in self.more_columns else ()
        balanced = (f"{row.scores.balanced:.2f}",) if self.distilled.unbalanced else ()
        interval = (f"{row.interval[0]:.1f}–{row.interval[1]:.1f}",) if row.interval else ()
        return (*protocol, *balanced, *interval)

    @property
    def accuracy(self) -> float:
        """Mean test accuracy of networks trained on the learned set, in percent."""
        return self.distilled.scores.mean

    @property
    def distilled(self) -> Row:
        """The learned set's row."""
        return self.rows[0]

    def to_json(self, run: str | None = None, paper: str | None = None) -> dict[str, Any]:
        """The form that every verb prints: accuracies in percent, ``paper`` on the learned set's row."""
        rows = []
        for row in self.rows:
            scores = row.scores.to_json()
            rows.append(
                {
                    "row": row.row,
                    "paper": paper if row.row == "distilled" else None,
                    "before": row.before,
                    **scores,
                    "balanced": row.scores.balanced,
                    "interval": None if row.interval is None else list(row.interval),
                    "step_size": row.step_size,
                    "seconds": row.seconds,
                    "curve": list(row.curve),
                    "protocol": row.protocol,
                    "training": row.training,
                    "device": self.device,
                    "run": run,
                }
            )
        return {"rows": rows, "classes": list(self.class_names), "training": self.info.get("training")}
