"""How few images can do: the lower bound for linear regression in closed form, and what the engine reaches."""

from limbeck.theory.bound import run_bound
from limbeck.theory.closed_form import Regression, regression
from limbeck.theory.problems import problem, problem_names

__all__ = ["Regression", "problem", "problem_names", "regression", "run_bound"]
