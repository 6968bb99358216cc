"""A real distillation, through the public API, judged on the real test set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import limbeck


@pytest.mark.slow
def test_ten_digits_teach_a_network_to_read(tmp_path: Path) -> None:
    """150 iterations of the recipe that is measured over 20,000."""
    config = limbeck.recipe("mnist-fixed").config
    config = replace(
        config,
        outer=replace(config.outer, iterations=150, validate_every=75),
        engine=limbeck.EngineConfig(compile="off", bfloat16="off"),
    )
    limbeck.distill(config, out=tmp_path / "run")
    run = limbeck.load(tmp_path / "run")
    assert run.images.shape == (1, 10, 1, 28, 28)
    result = limbeck.evaluate(run, baselines=["average"])
    learned, average = result.rows
    assert learned.scores.n == 1
    assert int(learned.scores.total_K.sum()) == 10_000
    assert learned.scores.mean >= learned.before + 40
    assert learned.scores.mean > average.scores.mean

    # the same by hand, as someone would who has only the run directory
    data = limbeck.load_data("mnist")
    network = run.train()
    with torch.no_grad():
        right_N = network(run.preprocess(data.test_x)).argmax(1) == data.test_y
    assert 100 * float(right_N.double().mean()) == pytest.approx(learned.scores.mean, abs=0.05)
    # validation data foretold it: what is selected on is not far from what counts
    assert run.info["validation"]["accuracy"] == pytest.approx(learned.scores.mean, abs=5)
