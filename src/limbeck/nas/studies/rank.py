"""How well a proxy orders architectures: rank correlations with an oracle, what its choice costs, and their error.

Shapes: N architectures, D bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from limbeck.errors import LimbeckError

Values: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Values, Values], float]

DRAWS = 1000
"""Number of bootstrap draws."""


@final
@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A statistic of a sample, its bootstrap standard error and its 95 % interval (percentiles of the draws)."""

    value: float
    std: float
    low: float
    high: float


@final
@dataclass(frozen=True, kw_only=True)
class Ranking:
    """A proxy against an oracle.

    Attributes:
        spearman: rank correlation in [−1, 1]; 0 where one of both has the same value for all.
        kendall: τ-b, likewise.
        better_spearman, better_kendall: the same on the better half by the oracle.
        regret: the oracle's best minus its value of the proxy's best, in the oracle's units.
        overlap: part of the oracle's k best that are among the proxy's k best, in [0, 1].
        k: how many those are.
        n: architectures.
        failed: those that the proxy could not score; they count as its worst.
    """

    spearman: Estimate
    kendall: Estimate
    better_spearman: Estimate
    better_kendall: Estimate
    regret: Estimate
    overlap: float
    k: int
    n: int
    failed: int


def compare(
    oracle: Mapping[str, float], proxy: Mapping[str, float], *, k: int = 10, draws: int = DRAWS, seed: int = 0
) -> Ranking:
    """Compare scores by a proxy with those by an oracle; needs the extra ``nas`` (scipy).

    Each draw of the bootstrap (Efron 1979) takes N architectures with replacement and computes everything anew, the
    better half as well. Values that are not finite count as the worst, equal to each other.

    Args:
        oracle: values by architecture, higher is better; at least 2.
        proxy: scores of the same architectures, higher is better.
        k: of the overlap; all architectures where there are fewer.
        draws: D, at least 2.
        seed: of the draws.

    Raises:
        LimbeckError: scipy is missing, the architectures differ, or there are too few.
    """
    missing = scipy_missing()
    if missing is not None:
        raise LimbeckError(missing)
    if oracle.keys() != proxy.keys():
        raise LimbeckError(
            f"The oracle has {len(oracle)} architectures and the proxy {len(proxy)}, and they are not the same; "
            "score the same ones with both."
        )
    if len(oracle) < 2 or draws < 2 or k < 1:
        raise LimbeckError(
            f"There are {len(oracle)} architectures, {draws} draws and k = {k}; a ranking needs at least 2 "
            "architectures, 2 draws and k = 1."
        )
    raw_N = np.array([proxy[text] for text in oracle], dtype=np.float64)
    truth_N, score_N = fill_worst(np.array(list(oracle.values()), dtype=np.float64)), fill_worst(raw_N)
    rows_DN = np.random.default_rng(seed).integers(len(truth_N), size=(draws, len(truth_N)))

    def estimate(statistic: Statistic) -> Estimate:
        statistic_D = np.array([statistic(truth_N[rows_N], score_N[rows_N]) for rows_N in rows_DN])
        low, high = np.quantile(statistic_D, [0.025, 0.975])
        return Estimate(
            value=statistic(truth_N, score_N), std=float(statistic_D.std(ddof=1)), low=float(low), high=float(high)
        )

    k = min(k, len(truth_N))
    return Ranking(
        spearman=estimate(spearman),
        kendall=estimate(kendall),
        better_spearman=estimate(_on_better_half(spearman)),
        better_kendall=estimate(_on_better_half(kendall)),
        regret=estimate(regret),
        overlap=overlap(truth_N, score_N, k),
        k=k,
        n=len(truth_N),
        failed=int((~np.isfinite(raw_N)).sum()),
    )


def scipy_missing() -> str | None:
    """The sentence that scipy is missing, or None where it is installed."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        return "Rank correlations need scipy: pip install 'limbeck[nas]'."
    return None


def fill_worst(values_N: Values) -> Values:
    """What is not finite is replaced by a number just below the others, so that it ranks last.

    >>> filled = fill_worst(np.array([2.0, np.nan, 1.0, -np.inf]))
    >>> bool((filled[[1, 3]] < 1.0).all()), float(filled[1].round(6))
    (True, 1.0)
    """
    finite_N = np.isfinite(values_N)
    worst = np.nextafter(values_N[finite_N].min(), -np.inf) if finite_N.any() else 0.0
    return np.where(finite_N, values_N, worst)


def spearman(truth_N: Values, score_N: Values) -> float:
    """Spearman's ρ; equal values share their mean rank, and what is constant is uncorrelated."""
    from scipy.stats import rankdata

    if _constant(truth_N) or _constant(score_N):
        return 0.0
    # scipy's spearmanr is the same with a test of significance, ten times as slow, which the bootstrap does not need.
    return float(np.corrcoef(rankdata(truth_N), rankdata(score_N))[0, 1])


def kendall(truth_N: Values, score_N: Values) -> float:
    """Kendall's τ-b; what is constant is uncorrelated."""
    from scipy.stats import kendalltau

    if _constant(truth_N) or _constant(score_N):
        return 0.0
    return float(kendalltau(truth_N, score_N).statistic)


def regret(truth_N: Values, score_N: Values) -> float:
    """What choosing by the score loses, on average over the ties of the best score."""
    return float(truth_N.max() - truth_N[score_N == score_N.max()].mean())


def overlap(truth_N: Values, score_N: Values, k: int) -> float:
    """Part of the k best that both agree on; the earlier of equals comes first.

    >>> overlap(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0]), 2)
    0.5
    """
    best, chosen = (set(np.argsort(-values_N, kind="stable")[:k].tolist()) for values_N in (truth_N, score_N))
    return len(best & chosen) / k


def better_half(truth_N: Values) -> npt.NDArray[np.bool_]:
    """(N,): which architectures are not below the median by the oracle."""
    mask_N: npt.NDArray[np.bool_] = truth_N >= np.median(truth_N)
    return mask_N


def _on_better_half(statistic: Statistic) -> Statistic:
    def on_half(truth_N: Values, score_N: Values) -> float:
        mask_N = better_half(truth_N)
        return statistic(truth_N[mask_N], score_N[mask_N])

    return on_half


def _constant(values_N: Values) -> bool:
    return bool((values_N == values_N[0]).all())
