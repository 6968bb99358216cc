"""Compiled kernels give the numbers of eager ones."""

from __future__ import annotations

import functools
import signal
import subprocess
import warnings
from collections.abc import Callable

import pytest
import torch
from engine_cases import CLASSES, LEARNED, LinearGenerator, Problem, around, assert_same_gradient, problem
from torch.fx import GraphModule

from limbeck.engine import Execution, Remat, Unroll
from limbeck.engine.compiling import Compiled
from limbeck.experiment.compilers import compiler_missing
from limbeck.models import MLP, WeightNorm


def weight_normalised(optimizer: str) -> Problem:
    """A learner whose kernels have everything: weight norm, an optimiser's state, a generator of data."""
    shape = (1, 3, 3)
    source = LinearGenerator(shape, 2, LEARNED[optimizer])
    module = WeightNorm(MLP(shape, CLASSES, (5,)))
    return around(module, shape, source, source.parameters(), inits=2, optimizer=LEARNED[optimizer].make())


CASES: dict[str, Callable[[], Problem]] = {
    "weight-norm-sgd": lambda: weight_normalised("sgd"),
    "weight-norm-adam": lambda: weight_normalised("adam"),
    **{name: functools.partial(problem, name, inits=2) for name in ("mlp", "lenet", "running-convnet", "noisy-mlp")},
}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[GraphModule]:
    """The graphs that torch traces; they are computed as they are, and C++ is neither generated nor compiled.

    Whether a kernel can be traced, and whether its graph is right, is decided here; the rest is torch's own work.
    """
    traced: list[GraphModule] = []

    def backend(graph: GraphModule, inputs: object) -> Callable[..., object]:
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return traced


# What is compiled below anyway is not traced here as well.
@pytest.mark.parametrize("name", [name for name in CASES if name != "weight-norm-sgd"])
def test_traced_equals_eager(name: str, graphs: list[GraphModule]) -> None:
    case = CASES[name]()
    result = case.meta_gradient(Remat(), Execution(compiled=True))
    assert len(graphs) == 3  # the step, its pull-back, the real batch
    assert_same_gradient(result, case.meta_gradient(Unroll()))


@pytest.mark.skipif(compiler_missing("cpu") is not None, reason="no C++ compiler on this machine")
@pytest.mark.parametrize(
    "name", ["weight-norm-sgd", *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name[-3:] != "sgd")]
)
def test_compiled_equals_eager(name: str) -> None:
    """One case always, the others where there is time: each takes half a minute."""
    case = CASES[name]()
    with warnings.catch_warnings():
        if name == "noisy-mlp":  # linear layers behind an augmentation may not compile: they are run as they are
            warnings.filterwarnings("ignore", message="torch cannot compile")
        result = case.meta_gradient(Remat(), Execution(compiled=True))
    assert_same_gradient(result, case.meta_gradient(Unroll()))


class Broken:
    """Stands for a compiled function: it fails so often with this error, then gives its argument plus one."""

    def __init__(self, error: BaseException, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise torch._dynamo.exc.TorchDynamoException("the compiler failed") from self.error
        return value + 1


KILLED = [
    subprocess.CalledProcessError(-signal.SIGINT, "g++"),
    RuntimeError("g++: fatal error: Interrupt signal terminated program cc1plus"),
]


@pytest.mark.parametrize("error", KILLED)
def test_a_compiler_that_a_signal_ended_is_started_again(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(error, times=1)
    monkeypatch.setattr(torch, "compile", lambda *args, **settings: broken)
    compiled = Compiled(lambda value: -1)
    assert (compiled(1), compiled(2), broken.calls) == (2, 3, 3)  # and no warning that it cannot be compiled


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(subprocess.CalledProcessError(1, "g++"), times=9)
    monkeypatch.setattr(torch, "compile", lambda *args, **settings: broken)
    compiled = Compiled(lambda value: -1)
    with pytest.warns(UserWarning, match="cannot compile"):
        assert compiled(1) == -1
    assert (compiled(1), broken.calls) == (-1, 1)
