"""Linear regressions by name: random, scikit-learn's diabetes data, and MNIST's digits as targets."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from limbeck.data import load
from limbeck.errors import LimbeckError, unknown
from limbeck.theory.closed_form import Regression, fit_regression

_LARGEST = 2000
"""Features of a random problem at most: its H has their square of entries."""


def regression_names() -> tuple[str, ...]:
    """The names of the regressions."""
    return ("random", "diabetes", "mnist")


def make_regression(
    name: str, *, features: int | None = None, seed: int = 0, data_dir: Path | None = None
) -> Regression:
    """A regression by name.

    ``random``: D = ``features`` (10 by default) correlated Gaussian features, their variances falling from 1 to 0.05,
    20·D examples, one target. ``diabetes``: scikit-learn's, 10 features and the target standardised, an intercept;
    needs the extra ``sklearn``. ``mnist``: all 60,000 training images in [0, 1], averaged over squares so that
    ``features`` (784 by default, that is none averaged) are left, an intercept, one-hot targets.

    Args:
        name: of the problem.
        features: D without the intercept.
        seed: of ``random``; the others are always the same.
        data_dir: where data sets are looked for first.

    Raises:
        LimbeckError: an unknown name, a number of features that the problem cannot have, scikit-learn missing.
    """
    if name not in regression_names():
        raise unknown("problem", name, regression_names())
    if features is not None and features < 1:
        raise LimbeckError(f"features is {features}; it must be at least 1.")
    if name == "random":
        return _random(10 if features is None else features, seed)
    if name == "diabetes":
        return _diabetes(features)
    return _mnist(784 if features is None else features, data_dir)


def _random(features: int, seed: int) -> Regression:
    if features > _LARGEST:
        raise LimbeckError(f"features is {features}; a random problem has {_LARGEST} at most.")
    rng = torch.Generator().manual_seed(seed)
    double = torch.float64
    count = 20 * features
    turn_DD = torch.linalg.qr(torch.randn(features, features, generator=rng, dtype=double)).Q
    deviation_D = torch.logspace(0, -1.3, features, base=10, dtype=double).sqrt()
    x_ND = torch.randn(count, features, generator=rng, dtype=double) * deviation_D @ turn_DD
    weight_DK = torch.randn(features, 1, generator=rng, dtype=double)
    noise_NK = 0.1 * torch.randn(count, 1, generator=rng, dtype=double)
    return fit_regression("random", x_ND, x_ND @ weight_DK + noise_NK)


def _diabetes(features: int | None) -> Regression:
    if features not in (None, 10):
        raise LimbeckError(f"features is {features}; diabetes has 10, and an intercept.")
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        raise LimbeckError("diabetes needs scikit-learn: pip install 'limbeck[sklearn]'.") from None
    bunch = load_diabetes(scaled=False)
    # Copies: kernels may round otherwise at the addresses that NumPy chooses.
    x_ND, y_NK = (torch.tensor(values, dtype=torch.float64) for values in (bunch.data, bunch.target[:, None]))
    x_ND, y_NK = ((v - v.mean(0)) / v.std(0, correction=0) for v in (x_ND, y_NK))
    return fit_regression("diabetes", x_ND, y_NK, tuple(bunch.feature_names), intercept=True)


def _mnist(features: int, data_dir: Path | None) -> Regression:
    side = 28
    squares = {(side // square) ** 2: square for square in range(1, side + 1) if side % square == 0}
    if features not in squares:
        raise LimbeckError(
            f"features is {features}; mnist has 784, or averaged {', '.join(map(str, sorted(squares)[:-1]))}."
        )
    task = load("mnist", data_dir=data_dir)
    x_NHW = torch.cat([task.train_x, task.val_x])[:, 0].float()
    square = squares[features]
    rest = side // square
    # Sums of whole numbers are exact, so that features which depend on each other go on doing so.
    x_ND = x_NHW.reshape(-1, rest, square, rest, square).sum((2, 4)).flatten(1)
    y_NK = F.one_hot(torch.cat([task.train_y, task.val_y]), task.num_classes)
    names = [f"pixel {row}, {column}" for row in range(rest) for column in range(rest)]
    return fit_regression("mnist", x_ND, y_NK, names, unit=1 / (255 * square**2), intercept=True)
