"""Compiled kernels give the numbers of eager ones."""

from __future__ import annotations

import pytest
from engine_cases import CLASSES, LEARNED, LinearGenerator, around, assert_same_gradient, problem

from limbeck.engine import Execution, Remat
from limbeck.experiment.compilers import compiler_missing
from limbeck.models import MLP, WeightNorm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler_missing("cpu") is not None, reason="no C++ compiler on this machine"),
]


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_compiled_equals_eager(name: str) -> None:
    case = problem(name, inits=2)
    assert_same_gradient(case.meta_gradient(Remat(), Execution(compiled=True)), case.meta_gradient(Remat()))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_with_weight_norm_an_optimizer_and_a_generator_of_data(optimizer: str) -> None:
    shape = (1, 3, 3)
    source = LinearGenerator(shape, 2, LEARNED[optimizer])
    module = WeightNorm(MLP(shape, CLASSES, (5,)))
    case = around(module, shape, source, source.parameters(), inits=2, optimizer=LEARNED[optimizer].make())
    assert_same_gradient(case.meta_gradient(Remat(), Execution(compiled=True)), case.meta_gradient(Remat()))
