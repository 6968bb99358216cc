"""Rank correlations, their bootstrap, and what a proxy's choice costs."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import LimbeckError
from limbeck.nas.studies.rank import better_half, compare, fill_worst, kendall, overlap, regret, spearman

pytest.importorskip("scipy")

ints = st.lists(st.integers(-3, 3), min_size=2, max_size=9)
pairs = ints.flatmap(
    lambda first: st.tuples(st.just(first), st.lists(st.integers(-3, 3), min_size=len(first), max_size=len(first)))
)


def array(*values: float) -> Any:
    return np.array(values, dtype=np.float64)


def named(values: Any) -> dict[str, float]:
    return {f"arch{index}": float(value) for index, value in enumerate(values)}


def noisy(n: int, noise: float, seed: int = 0) -> tuple[dict[str, float], dict[str, float]]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    return named(truth), named(truth + noise * rng.normal(size=n))


# The statistics


@given(pairs)
def test_kendall_counts_pairs(drawn: tuple[list[int], list[int]]) -> None:
    """τ-b by its definition: concordant minus discordant pairs over the geometric mean of the untied ones."""
    truth, score = drawn
    ij = [(i, j) for i in range(len(truth)) for j in range(i)]
    left = [np.sign(truth[i] - truth[j]) for i, j in ij]
    right = [np.sign(score[i] - score[j]) for i, j in ij]
    scale = math.sqrt(np.abs(left).sum() * np.abs(right).sum())
    expected = np.dot(left, right) / scale if scale else 0.0
    assert kendall(array(*truth), array(*score)) == pytest.approx(expected, abs=1e-12)


@given(pairs)
def test_spearman_correlates_mean_ranks(drawn: tuple[list[int], list[int]]) -> None:
    truth, score = (
        [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]
        for values in drawn
    )
    constant = len(set(truth)) == 1 or len(set(score)) == 1
    expected = 0.0 if constant else np.corrcoef(truth, score)[0, 1]
    assert spearman(array(*drawn[0]), array(*drawn[1])) == pytest.approx(expected, abs=1e-12)


@given(pairs, st.sampled_from([math.exp, lambda v: 3 * v - 7, lambda v: v**3]))
def test_only_the_order_of_scores_matters(drawn: tuple[list[int], list[int]], change: Any) -> None:
    truth, score = array(*drawn[0]), array(*drawn[1])
    other = array(*(change(v) for v in drawn[1]))
    for statistic in (spearman, kendall, regret):
        assert statistic(truth, score) == pytest.approx(statistic(truth, other), abs=1e-12)


def test_failed_architectures_are_the_worst() -> None:
    filled = fill_worst(array(3.0, math.nan, -5.0, -math.inf, math.inf))
    assert filled[0] == 3.0 and filled[2] == -5.0
    assert filled[1] == filled[3] == filled[4] < -5.0
    assert fill_worst(array(math.nan, math.nan)).tolist() == [0.0, 0.0]


def test_regret_and_overlap() -> None:
    truth = array(90.0, 80.0, 70.0, 60.0)
    assert regret(truth, array(4.0, 3.0, 2.0, 1.0)) == 0.0
    assert regret(truth, array(1.0, 2.0, 3.0, 4.0)) == 30.0
    assert regret(truth, array(0.0, 5.0, 5.0, 1.0)) == 15.0, "the mean over ties"
    assert overlap(truth, array(1.0, 2.0, 3.0, 4.0), 2) == 0.0
    assert overlap(truth, array(1.0, 2.0, 3.0, 4.0), 3) == pytest.approx(2 / 3)
    assert overlap(truth, array(7.0, 7.0, 7.0, 7.0), 2) == 1.0, "the earlier of equals"


def test_the_better_half_is_what_is_not_below_the_median() -> None:
    assert better_half(array(1.0, 4.0, 2.0, 3.0)).tolist() == [False, True, False, True]
    assert better_half(array(1.0, 3.0, 2.0)).tolist() == [False, True, True]


# A ranking


def test_a_perfect_and_a_reversed_proxy() -> None:
    truth = named(range(20))
    best = compare(truth, truth, draws=50)
    assert [e.value for e in (best.spearman, best.kendall, best.better_spearman)] == pytest.approx([1, 1, 1])
    assert best.spearman.std == pytest.approx(0, abs=1e-12)
    assert (best.regret.value, best.overlap) == (0.0, 1.0)
    worst = compare(truth, {text: -value for text, value in truth.items()}, draws=50, k=5)
    assert [worst.spearman.value, worst.better_kendall.value] == pytest.approx([-1, -1])
    assert worst.regret.value == 19.0 and worst.overlap == 0.0
    assert (worst.n, worst.k, worst.failed) == (20, 5, 0)


def test_the_better_half_is_chosen_by_the_oracle() -> None:
    """Right among the worse ones and reversed among the better ones."""
    truth = named(range(10))
    proxy = named([0, 1, 2, 3, 4, 14, 13, 12, 11, 10])
    found = compare(truth, proxy, draws=20)
    assert found.better_spearman.value == pytest.approx(-1.0)
    assert found.spearman.value > 0.7


def test_the_order_of_architectures_does_not_matter() -> None:
    truth, proxy = noisy(30, 0.5)
    mixed = dict(sorted(proxy.items(), key=lambda item: item[1]))
    assert compare(truth, proxy, draws=20) == compare(truth, mixed, draws=20)


def test_a_constant_proxy_knows_nothing() -> None:
    truth = named(range(8))
    found = compare(truth, dict.fromkeys(truth, 1.0), draws=20)
    assert (found.spearman.value, found.kendall.value, found.spearman.std) == (0.0, 0.0, 0.0)
    assert found.regret.value == 3.5


def test_failures_are_counted_and_rank_last() -> None:
    truth = named(range(6))
    proxy = truth | {"arch0": math.nan, "arch1": -math.inf}
    found = compare(truth, proxy, draws=20)
    assert found.failed == 2
    assert 0.9 < found.kendall.value < 1.0
    assert compare(proxy, truth, draws=20).failed == 0
    assert compare(truth, dict.fromkeys(truth, math.nan), draws=20).spearman.value == 0.0


def test_the_bootstrap_is_decided_by_its_seed() -> None:
    truth, proxy = noisy(30, 1.0)
    assert compare(truth, proxy, draws=40) == compare(truth, proxy, draws=40)
    assert compare(truth, proxy, draws=40).spearman.std != compare(truth, proxy, draws=40, seed=1).spearman.std


def test_the_standard_error_is_that_of_repeated_samples() -> None:
    """Against what it estimates: how ρ varies from sample to sample."""
    values = [spearman(*(array(*part.values()) for part in noisy(60, 1.0, seed=seed))) for seed in range(400)]
    found = np.mean([compare(*noisy(60, 1.0, seed=seed), draws=100).spearman.std for seed in range(3)])
    assert found == pytest.approx(np.std(values), rel=0.3)
    one = compare(*noisy(60, 1.0), draws=200).spearman
    assert one.low < one.value < one.high
    assert one.high - one.low == pytest.approx(4 * one.std, rel=0.3)


@pytest.mark.parametrize(
    ("truth", "proxy", "settings", "said"),
    [
        (named([1, 2]), named([1, 2, 3]), {}, "not the same"),
        (named([1, 2]), {"arch0": 1.0, "other": 2.0}, {}, "not the same"),
        (named([1]), named([1]), {}, "at least 2"),
        (named([1, 2]), named([1, 2]), {"draws": 1}, "2 draws"),
        (named([1, 2]), named([1, 2]), {"k": 0}, "k = 1"),
    ],
)
def test_wrong_input(truth: dict[str, float], proxy: dict[str, float], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LimbeckError, match=said):
        compare(truth, proxy, **settings)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(LimbeckError, match=r"limbeck\[nas\]"):
        compare(named([1, 2]), named([1, 2]))
