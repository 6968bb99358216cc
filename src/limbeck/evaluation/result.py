"""What the judge found: a row for the learned set, for each baseline and for each other learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, final

from limbeck.evaluation.train_and_score import Scores


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
    """

    row: str
    before: float
    scores: Scores
    step_size: float | None
    seconds: float
    curve: tuple[float, ...] = ()


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
        lines = [("set", "before", "after", "±", "worst", "n", "step size")]
        for row in self.rows:
            scores = row.scores
            lines.append(
                (
                    row.row,
                    f"{row.before:.2f}",
                    f"{scores.mean:.2f}",
                    "" if scores.std is None else f"{scores.std:.2f}",
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
                    "step_size": row.step_size,
                    "seconds": row.seconds,
                    "curve": list(row.curve),
                    "device": self.device,
                    "run": run,
                }
            )
        return {"rows": rows, "classes": list(self.class_names), "training": self.info.get("training")}
