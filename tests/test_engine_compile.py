"""Compiled kernels give the numbers of eager ones."""

from __future__ import annotations

import pytest
from engine_cases import assert_same_gradient, problem

from limbeck.engine import Execution, Remat
from limbeck.execution import compiler_missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler_missing("cpu") is not None, reason="no C++ compiler on this machine"),
]


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_compiled_equals_eager(name: str) -> None:
    case = problem(name, inits=2)
    assert_same_gradient(case.meta_gradient(Remat(), Execution(compiled=True)), case.meta_gradient(Remat()))
