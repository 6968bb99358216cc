"""How few images can do: the lower bound for linear regression in closed form, and what the engine reaches."""

from limbeck.theory.bound import BoundConfig, run_bound
from limbeck.theory.closed_form import Regression, fit_regression
from limbeck.theory.distillation import RegressionConfig, distill_regression
from limbeck.theory.regressions import make_regression, regression_names

__all__ = [
    "BoundConfig",
    "Regression",
    "RegressionConfig",
    "distill_regression",
    "fit_regression",
    "make_regression",
    "regression_names",
    "run_bound",
]
