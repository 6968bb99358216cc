"""``limbeck bound``: what the engine reaches, its rows, its chart, and wrong input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import assert_same_gradient, generator
from torch import Tensor

from limbeck.cli.main import run as limbeck
from limbeck.engine import (
    Execution,
    GradientDescent,
    InnerConfig,
    Kernels,
    Learner,
    Pairs,
    RealBatch,
    RealLoss,
    Remat,
    Unroll,
)
from limbeck.errors import LimbeckError
from limbeck.theory.bound import BoundConfig, default_images, run_bound
from limbeck.theory.closed_form import best_excess, best_set, bounds, excess, expected_excess, span_excess, take_steps
from limbeck.theory.distillation import (
    Linear,
    RegressionConfig,
    distill_regression,
    half_squared_error,
    initial_points,
)
from limbeck.theory.lbfgs import minimise
from limbeck.theory.regressions import make_regression

# The engine's part


@pytest.mark.parametrize(("dim", "outputs"), [(5, 1), (5, 3), (3, 5)])
def test_the_points_give_the_exact_expectation(dim: int, outputs: int) -> None:
    mean_DK = torch.randn(dim, outputs, generator=generator(1), dtype=torch.float64)
    points_BDK = initial_points(mean_DK, 0.6)
    torch.testing.assert_close(points_BDK.mean(0), mean_DK)
    off_BDK = points_BDK - mean_DK
    moment_DD = torch.einsum("bik,bjk->ij", off_BDK, off_BDK) / len(points_BDK)
    torch.testing.assert_close(moment_DD, outputs * 0.36 * torch.eye(dim, dtype=torch.float64))
    one = make_regression("random", features=dim)
    if outputs == 1:
        assert len(points_BDK) == 2 * dim
        result = excess(one, take_steps(best_set(one, 2), points_BDK)).mean()
        assert float(result) == pytest.approx(expected_excess(one, best_set(one, 2), mean_DK, 0.6), rel=1e-12)


def test_the_meta_gradient_of_the_regression_is_unrolls() -> None:
    rng = generator(2)
    x_SMD, y_SMK, theta_BKD, real_ND, real_NK = (
        torch.randn(*shape, generator=rng, dtype=torch.float64)
        for shape in ((2, 3, 4), (2, 3, 2), (5, 2, 4), (6, 4), (6, 2))
    )
    learner = Learner(module=Linear(theta_BKD[0].mT), optimizer=GradientDescent(), loss=half_squared_error)
    kernels = Kernels(learner, RealLoss(loss=half_squared_error), Execution())
    source = Pairs(x_SMD, y_SMK, epochs=2, inner=InnerConfig(lr=0.1))
    result, expected = (
        adjoint.meta_gradient(
            kernels, source, source.parameters(), kernels.init({"weight": theta_BKD}), RealBatch(real_ND, real_NK)
        )
        for adjoint in (Remat(), Unroll())
    )
    assert_same_gradient(result, expected)


@pytest.mark.parametrize("name", ["random", "diabetes"])
def test_one_image_less_than_features_reaches_the_closed_form(name: str) -> None:
    if name == "diabetes":
        pytest.importorskip("sklearn")
    one = make_regression(name)
    result = distill_regression(one, one.dim - 1)
    assert 1 - 1e-9 <= result.excess / best_excess(one, one.dim - 1) <= 1.01
    assert result.excess == pytest.approx(result.objective, rel=1e-9)
    assert result.converged


@pytest.mark.parametrize(("name", "features"), [("random", 6), ("diabetes", None)])
def test_as_many_images_as_features_reach_zero(name: str, features: int | None) -> None:
    if name == "diabetes":
        pytest.importorskip("sklearn")
    one = make_regression(name, features=features)
    assert distill_regression(one, one.dim).excess <= 1e-10 * best_excess(one, 0)


def test_digits_reach_the_closed_form() -> None:
    one = make_regression("mnist", features=16)
    result = distill_regression(one, 2, config=RegressionConfig(iterations=75))
    assert 1 - 1e-9 <= result.excess / best_excess(one, 2) <= 1.01


AROUND_ZERO = RegressionConfig(mean="zero")


@pytest.fixture(scope="module")
def one_step_around_zero() -> float:
    """What the engine reaches with two images in one step, from another start."""
    one = make_regression("random", features=5)
    return distill_regression(one, 2, config=replace(AROUND_ZERO, seed=1)).excess


@pytest.mark.parametrize(("images", "steps", "epochs"), [(2, 1, 1), (1, 2, 1), (2, 1, 3)])
def test_around_zero_the_engine_ends_between_the_bounds(
    images: int, steps: int, epochs: int, one_step_around_zero: float
) -> None:
    """And where its own images allow no better; steps and epochs make no difference."""
    one = make_regression("random", features=5)
    mean_DK = torch.zeros_like(one.best_DK)
    lower, upper = bounds(one, 2, mean_DK=mean_DK)
    result = distill_regression(one, images, steps=steps, epochs=epochs, config=AROUND_ZERO)
    assert result.tiny.inputs_SMD.shape == (steps * epochs, images, 5)
    assert lower < result.excess < upper
    own = span_excess(one, result.tiny.inputs_SMD.flatten(0, 1).T, mean_DK, 1.0)
    assert result.excess == pytest.approx(own, rel=1e-4)
    assert result.excess == pytest.approx(one_step_around_zero, rel=1e-4)


def test_two_steps_reach_what_one_step_of_twice_the_images_does() -> None:
    one = make_regression("random", features=4)
    assert 1 - 1e-9 <= distill_regression(one, 1, steps=2).excess / best_excess(one, 2) <= 1.0001
    one = make_regression("random", features=3)
    assert distill_regression(one, 2, steps=2).excess <= 1e-10 * best_excess(one, 0)


def test_the_best_of_several_starts_is_kept() -> None:
    one, said = make_regression("random", features=4), list[str]()
    result = distill_regression(one, 1, config=RegressionConfig(restarts=3, iterations=1), tell=said.append)
    values = [float(line.split(": ")[1].split()[0]) for line in said]
    assert len(values) == 3
    assert result.objective == pytest.approx(min(values), rel=1e-5)
    assert not result.converged


# Rows


def _valley(x_N: Tensor) -> Tensor:
    """Rosenbrock's function, of which a few iterations are not enough."""
    return (1 - x_N[0]).square() + 100 * (x_N[1] - x_N[0].square()).square()


@pytest.mark.parametrize("iterations", [1, 3, 26])
def test_no_more_iterations_than_are_asked_for(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    optimizers: list[torch.optim.LBFGS] = []
    kind = torch.optim.LBFGS

    def make(*args: Any, **options: Any) -> torch.optim.LBFGS:
        optimizers.append(kind(*args, **options))
        return optimizers[0]

    monkeypatch.setattr(torch.optim, "LBFGS", make)
    leaf = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)

    def closure() -> Tensor:
        value = _valley(leaf)
        leaf.grad = torch.autograd.grad(value, leaf)[0]
        return value.detach()

    minimise(closure, [leaf], iterations=iterations)
    assert 1 <= optimizers[0].state[leaf]["n_iter"] <= iterations


def test_no_number_is_no_end() -> None:
    """What runs away is not called converged, and the last finite point is kept."""
    leaf = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        value = _valley(leaf) * (math.nan if calls > 3 else 1.0)
        leaf.grad = torch.autograd.grad(value, leaf)[0]
        return value.detach()

    minimum = minimise(closure, [leaf], iterations=100)
    assert not minimum.converged
    assert minimum.evaluations == calls
    assert minimum.value == pytest.approx(24.2)
    assert leaf.tolist() == [-1.2, 1.0]


def test_rows_are_a_grid() -> None:
    one = make_regression("random", features=4)
    rows = run_bound(one, BoundConfig(images=(1, 4), steps=(1, 2), epochs=(1, 2), inits=50, engine="off"))
    assert [row["row"] for row in rows[:4]] == ["M = 1", "M = 4", "M = 1, S = 1, E = 2", "M = 4, S = 1, E = 2"]
    assert len(rows) == 8
    for row in rows:
        assert row["paper"] == row["lower"] == row["upper"]
        assert row["lower"] == pytest.approx(best_excess(one, row["images"] * row["steps"]))
        assert (row["n"], row["mean"]) == (50, None)
        assert (row["worst"] <= 1e-10) == (row["images"] * row["steps"] >= 4)


def test_rows_are_what_the_engine_reaches_and_json() -> None:
    one = make_regression("random", features=4)
    config = BoundConfig(
        images=(1,), steps=(1, 2), epochs=(1, 2), inits=50, regression=RegressionConfig(sigma=0.5, iterations=35)
    )
    rows = run_bound(one, config)
    rows += run_bound(one, replace(config, images=(4,), steps=(1,), epochs=(1,)))
    json.dumps(rows, allow_nan=False)
    for row in rows[:4]:
        assert row["ratio"] == pytest.approx(1, abs=1e-2)
        assert row["left"] == pytest.approx(row["mean"] / best_excess(one, 0, sigma=0.5))
        assert abs(row["sampled"] - row["mean"]) < 5 * row["std"] / 50**0.5
    assert rows[0]["evaluations"] != rows[1]["evaluations"]  # epochs change the way there, if not the end
    assert rows[4]["ratio"] is None
    assert rows[4]["left"] < 1e-3


def test_without_the_engine_there_is_the_construction() -> None:
    said: list[str] = []
    one = make_regression("random", features=300)
    rows = run_bound(one, BoundConfig(inits=3, regression=RegressionConfig(mean="zero")), tell=said.append)
    assert [row["images"] for row in rows] == list(default_images(one)) == [1, 75, 150, 225, 299, 300]
    assert all(row["mean"] is None and row["ratio"] is None for row in rows)
    assert "–" in rows[0]["paper"]
    assert rows[-1]["worst"] <= 1e-10
    assert "300 features" in said[0]


# The verb


def verb(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = limbeck(["bound", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_is_one_object_and_out_has_it_and_a_chart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ("random", "--features", "4", "--images", "1", "3", "4", "--inits", "20", "--iterations", "5")
    words += ("--out", str(tmp_path), "--json")
    code, out, err = verb(capsys, *words)
    assert code == 0
    values: dict[str, Any] = json.loads(out)
    assert values == json.loads((tmp_path / "bound.json").read_text())
    assert values["note"] is None
    assert [row["row"] for row in values["rows"]] == ["M = 1", "M = 3", "M = 4"]
    assert (tmp_path / "bound.png").read_bytes().startswith(b"\x89PNG")
    assert "closed form" in (tmp_path / "bound.svg").read_text()
    assert "M = 3: " in err


def test_a_table_with_bounds_and_their_chart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = ("random", "--features", "3", "--mean", "zero", "--images", "1", "2", "--inits", "5", "--iterations", "5")
    words += ("--out", str(tmp_path))
    code, out, _ = verb(capsys, *words)
    assert code == 0
    assert "M = 2" in out
    assert "lower bound" in (tmp_path / "bound.svg").read_text()


def test_without_matplotlib_the_numbers_are_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.cli.commands.bounding.figures_missing", lambda: "Figures need matplotlib.")
    words = ("random", "--features", "3", "--images", "1", "--inits", "5", "--iterations", "5")
    words += ("--out", str(tmp_path), "--json")
    code, out, err = verb(capsys, *words)
    assert code == 0
    assert json.loads(out)["rows"][0]["images"] == 1
    assert "no figure is drawn. Figures need matplotlib." in err
    assert [path.name for path in tmp_path.iterdir()] == ["bound.json"]


def test_a_singular_problem_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = verb(
        capsys, "mnist", "--features", "196", "--engine", "off", "--images", "189", "--inits", "1", "--json"
    )
    assert code == 0
    values = json.loads(out)
    assert "197 features, rank 189" in values["note"]
    assert "189 images are enough" in " ".join(err.split())
    assert values["rows"][0]["worst"] <= 1e-10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("randm",), "did you mean 'random'"),
        (("random", "--features", "0"), "features is 0"),
        (("random", "--images", "0"), "images is 0"),
        (("random", "--images", "101"), "10 are enough"),
        (("random", "--images", "60", "--steps", "2"), "more than 10 for each"),
        (("random", "--steps", "0"), "steps is 0"),
        (("random", "--epochs", "-1"), "epochs is -1"),
        (("random", "--sigma", "0"), "sigma is 0"),
        (("random", "--sigma", "nan"), "sigma is nan"),
        (("random", "--inits", "0"), "inits is 0"),
        (("random", "--restarts", "0"), "restarts is 0"),
        (("random", "--iterations", "0"), "iterations is 0"),
        (("random", "--max-time", "0"), "max_time is 0"),
        (("diabetes", "--features", "3"), "diabetes has 10"),
    ],
)
def test_wrong_input_is_a_sentence(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    code, out, err = verb(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("limbeck: ")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RegressionConfig(mean="zer"), "did you mean 'zero'"),  # type: ignore[arg-type]
        (lambda: RegressionConfig(sigma=-1.0), "sigma is -1.0"),
        (lambda: RegressionConfig(max_time=0.0), "max_time is 0.0"),
        (lambda: RegressionConfig(restarts=0), "restarts is 0"),
        (lambda: BoundConfig(engine="aut"), "did you mean 'auto'"),  # type: ignore[arg-type]
        (
            lambda: BoundConfig(engine="off", regression=RegressionConfig(restarts=3)),
            "restarts is 3, which does nothing with engine off; choose engine on, or leave it out",
        ),
        (lambda: BoundConfig(steps=(1, 0)), "steps is 0"),
        (lambda: BoundConfig(inits=0), "inits is 0"),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], object], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        make()
