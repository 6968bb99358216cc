"""Balanced accuracy beside accuracy where classes differ in size, and an interval where the test set is small."""

from __future__ import annotations

import pytest
import torch

from limbeck.evaluation import Evaluation, Row, Scores
from limbeck.evaluation.result import wilson


def evaluation(correct: list[int], total: list[int]) -> Evaluation:
    scores = Scores(correct_BK=torch.tensor([correct]), total_K=torch.tensor(total))
    row = Row(row="distilled", before=0.0, scores=scores, step_size=None, seconds=1.0)
    return Evaluation(rows=(row,), class_names=("a", "b"), device="a processor")


@pytest.mark.parametrize(
    ("accuracy", "examples", "bounds"),
    [(50.0, 10, (23.66, 76.34)), (100.0, 20, (83.89, 100.0)), (0.0, 20, (0.0, 16.11))],  # by hand, and statsmodels
)
def test_wilson(accuracy: float, examples: int, bounds: tuple[float, float]) -> None:
    assert wilson(accuracy, examples) == pytest.approx(bounds, abs=0.01)


def test_unbalanced_data_has_balanced_accuracy() -> None:
    result = evaluation([90, 0], [90, 10])
    assert result.accuracy == 90 and result.distilled.scores.balanced == 50
    assert "balanced" in str(result) and "50.00" in str(result)
    row = result.to_json()["rows"][0]
    assert row["balanced"] == 50 and row["interval"] == pytest.approx(wilson(90, 100))


def test_large_balanced_data_has_neither_column() -> None:
    result = evaluation([900, 800], [1000, 1000])
    assert result.more_columns == () and result.to_json()["rows"][0]["interval"] is None
    assert "balanced" not in str(result) and "95 %" not in str(result)
