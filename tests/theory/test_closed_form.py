"""The bound for linear regression, an equation of docs/bound.md each, in float64."""

from __future__ import annotations

import pytest
import torch
from engine_cases import generator
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.theory.closed_form import (
    Regression,
    TinySet,
    best_excess,
    best_set,
    bounds,
    exact_set,
    excess,
    expected_excess,
    fit_regression,
    span_excess,
    take_steps,
)
from limbeck.theory.regressions import make_regression

D, N, K = 6, 40, 2
SIGMA = 0.7


def data(dim: int = D, outputs: int = K) -> tuple[Tensor, Tensor]:
    x_ND = normal(N, dim, seed=1) * torch.logspace(0, -1, dim, dtype=torch.float64)
    return x_ND, normal(N, outputs, seed=2) + x_ND @ normal(dim, outputs, seed=3)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def case() -> Regression:
    return fit_regression("case", *data())


def singular(rank: int = 4) -> Regression:
    """Features that are combinations of fewer."""
    x_ND, y_NK = data(rank)
    return fit_regression("singular", x_ND @ normal(rank, D, seed=4), y_NK)


def inits(mean_DK: Tensor, count: int = 1000) -> Tensor:
    return mean_DK + SIGMA * normal(count, *mean_DK.shape, seed=5)


def random_set(images: int, steps: int = 1) -> TinySet:
    x_SMD, y_SMK = normal(steps, images, D, seed=6), normal(steps, images, K, seed=7)
    return TinySet(x_SMD, y_SMK, torch.linspace(0.3, 0.9, steps, dtype=torch.float64))


def close(actual: float, expected: float, relative: float = 1e-12) -> bool:
    return abs(actual - expected) <= relative * abs(expected)


# The quadratic


def test_theta_star_is_the_least_squares_solution() -> None:
    x_ND, y_NK = data()
    torch.testing.assert_close(case().best_DK, torch.linalg.lstsq(x_ND, y_NK).solution, rtol=1e-11, atol=1e-12)


def test_the_excess_is_the_difference_of_the_losses() -> None:
    (x_ND, y_NK), one = data(), case()
    theta_BDK = normal(5, D, K, seed=8)
    loss_B = (x_ND @ theta_BDK - y_NK).square().sum((1, 2)) / (2 * N)
    torch.testing.assert_close(excess(one, theta_BDK), loss_B - one.floor, rtol=1e-12, atol=1e-12)
    assert close(one.floor, float((x_ND @ one.best_DK - y_NK).square().sum()) / (2 * N))


def test_an_intercept_and_a_unit_are_a_column_and_a_factor() -> None:
    x_ND, y_NK = data()
    one = fit_regression("case", x_ND, y_NK, unit=0.5, intercept=True)
    other = fit_regression("case", torch.cat([0.5 * x_ND, torch.ones(N, 1)], dim=1), y_NK)
    torch.testing.assert_close(one.best_DK, other.best_DK)
    assert one.features[-1] == "intercept"
    assert (one.dim, one.outputs, one.rank) == (D + 1, K, D + 1)


def test_a_step_is_the_gradients() -> None:
    tiny = random_set(3)
    theta_DK = normal(D, K, seed=8).requires_grad_()
    x_MD, y_MK = tiny.inputs_SMD[0], tiny.targets_SMK[0]
    ((x_MD @ theta_DK - y_MK).square().sum() / (2 * 3)).backward()  # type: ignore[no-untyped-call]
    assert theta_DK.grad is not None
    stepped = theta_DK - float(tiny.lrs_S[0]) * theta_DK.grad
    torch.testing.assert_close(take_steps(tiny, theta_DK.detach()), stepped.detach(), rtol=1e-13, atol=1e-13)


# M >= D: exact


@pytest.mark.parametrize("images", [D, D + 3])
@pytest.mark.parametrize("scale", [None, 1.0, 0.013])
def test_one_step_is_exact_from_every_init(images: int, scale: float | None) -> None:
    one = case()
    built = exact_set(one, images, scale=scale)
    c = N if scale is None else scale
    torch.testing.assert_close(built.inputs_SMD[0, :D], c * torch.eye(D, dtype=torch.float64))
    torch.testing.assert_close(built.targets_SMK[0, :D], c * one.best_DK)
    assert excess(one, take_steps(built, inits(torch.zeros(D, K)))).max() <= 1e-10
    assert excess(one, take_steps(built, 1e3 * inits(torch.zeros(D, K)))).max() <= 1e-10


def test_fewer_images_than_features_cannot_be_exact() -> None:
    with pytest.raises(LimbeckError, match="it takes 6"):
        exact_set(case(), D - 1)
    a_DD = best_set(case(), D - 1).inputs_SMD[0]
    a_DD = a_DD.T @ a_DD  # (η/M) d̃ᵀd̃ at η = M
    assert torch.linalg.matrix_rank(a_DD) == D - 1
    along_D = torch.linalg.eigh(a_DD).eigenvectors[:, 0]  # what no image sees stays as it was
    theta_DK = case().best_DK + along_D[:, None]
    torch.testing.assert_close(take_steps(best_set(case(), D - 1), theta_DK), theta_DK, rtol=1e-10, atol=1e-10)


# M < D: the closed form


@pytest.mark.parametrize("mean", ["optimum", "zero"])
def test_the_expectation_is_that_of_random_inits(mean: str) -> None:
    one = case()
    mean_DK = one.best_DK if mean == "optimum" else torch.zeros(D, K, dtype=torch.float64)
    tiny = random_set(2, steps=3)
    excess_B = excess(one, take_steps(tiny, inits(mean_DK, 40_000)))
    error = float(excess_B.std()) / 200
    assert abs(float(excess_B.mean()) - expected_excess(one, tiny, mean_DK, SIGMA)) < 4 * error


@pytest.mark.parametrize("images", range(D + 2))
def test_the_eigenvectors_reach_the_closed_form(images: int) -> None:
    one = case()
    least = best_excess(one, images, sigma=SIGMA)
    assert least == pytest.approx(0.5 * SIGMA**2 * K * float(torch.linalg.eigvalsh(one.h_DD).flip(0)[images:].sum()))
    assert (least == 0) == (images >= D)
    if images:
        reached = expected_excess(one, best_set(one, images), one.best_DK, SIGMA)
        assert abs(reached - least) <= 1e-12 * best_excess(one, 0, sigma=SIGMA)


def test_uniform_inits_of_the_same_mean_and_covariance_will_do() -> None:
    """Only two moments of the initial weights matter."""
    one = case()
    uniform_BDK = 2 * torch.rand(40_000, D, K, generator=generator(9), dtype=torch.float64) - 1
    excess_B = excess(one, take_steps(best_set(one, 2), one.best_DK + SIGMA * 3**0.5 * uniform_BDK))
    assert abs(float(excess_B.mean()) - best_excess(one, 2, sigma=SIGMA)) < 4 * float(excess_B.std()) / 200


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("mean", ["optimum", "zero"])
def test_no_set_beats_the_lower_bound(mean: str, steps: int) -> None:
    """Nor do sets near the best one, in any direction and at any step size."""
    one = case()
    mean_DK = one.best_DK if mean == "optimum" else torch.zeros(D, K, dtype=torch.float64)
    lower, _ = bounds(one, 2, steps=steps, mean_DK=mean_DK, sigma=SIGMA)
    best = best_set(one, 2, steps=steps, mean_DK=mean_DK, sigma=SIGMA)
    for seed in range(200):
        scale = 10.0 ** -(seed % 5)
        tiny = TinySet(
            best.inputs_SMD + scale * normal(*best.inputs_SMD.shape, seed=seed),
            best.targets_SMK + scale * normal(*best.targets_SMK.shape, seed=1000 + seed),
            best.lrs_S * (1 + scale * normal(steps, seed=2000 + seed)),
        )
        assert expected_excess(one, tiny, mean_DK, SIGMA) >= lower * (1 - 1e-12)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_another_mean_has_bounds(images: int, steps: int) -> None:
    one, mean_DK = case(), torch.zeros(D, K, dtype=torch.float64)
    lower, upper = bounds(one, images, steps=steps, mean_DK=mean_DK, sigma=SIGMA)
    reached = expected_excess(one, best_set(one, images, steps=steps, mean_DK=mean_DK, sigma=SIGMA), mean_DK, SIGMA)
    assert abs(reached - upper) <= 1e-12 * best_excess(one, 0, sigma=SIGMA)
    assert best_excess(one, images, steps=steps, sigma=SIGMA) * (1 - 1e-12) <= lower <= upper
    m_DK = mean_DK - one.best_DK
    root_DD = (one.vectors_DD * one.values_D.sqrt()) @ one.vectors_DD.T
    moment_DD = root_DD @ (K * SIGMA**2 * torch.eye(D, dtype=torch.float64) + m_DK @ m_DK.T) @ root_DD
    assert lower == pytest.approx(0.5 * float(torch.linalg.eigvalsh(moment_DD).flip(0)[images * steps :].sum()))


def test_the_eigenvectors_worth_most_are_not_always_the_first() -> None:
    """Far from θ* along a flat direction, that one is served first."""
    one = case()
    mean_DK = one.best_DK + 100 * one.vectors_DD[:, -1:]
    served = best_set(one, 1, mean_DK=mean_DK, sigma=SIGMA)
    torch.testing.assert_close(served.inputs_SMD[0, 0], one.vectors_DD[:, -1])
    first = TinySet(one.vectors_DD[:, :1].T[None], (one.vectors_DD[:, :1].T @ one.best_DK)[None], served.lrs_S)
    upper = bounds(one, 1, mean_DK=mean_DK, sigma=SIGMA)[1]
    assert upper < 0.1 * expected_excess(one, first, mean_DK, SIGMA)


@pytest.mark.parametrize("mean", ["optimum", "zero"])
def test_the_best_over_given_directions_is_an_orthogonal_projection(mean: str) -> None:
    one = case()
    mean_DK = one.best_DK if mean == "optimum" else torch.zeros(D, K, dtype=torch.float64)
    q_DR = torch.linalg.qr(normal(D, 2, seed=10)).Q
    g_RR, off_DK = q_DR.T @ one.h_DD @ q_DR, mean_DK - one.best_DK
    moved_RK = torch.linalg.solve(g_RR, q_DR.T @ one.h_DD @ off_DK)  # the mean, as far as the directions allow

    def reached(shape_RR: Tensor) -> float:
        """One step with A = Q S Sᵀ Qᵀ and the targets that move the mean in the same way."""
        x_RD = shape_RR.T @ q_DR.T
        y_RK = x_RD @ mean_DK - torch.linalg.solve(shape_RR, moved_RK)
        tiny = TinySet(x_RD[None], y_RK[None], torch.tensor([2.0], dtype=torch.float64))
        return expected_excess(one, tiny, mean_DK, SIGMA)

    least = span_excess(one, q_DR @ normal(2, 2, seed=12), mean_DK, SIGMA)
    assert close(reached(torch.eye(2, dtype=torch.float64)), least, 1e-11)
    assert all(reached(torch.eye(2) + 0.1 * normal(2, 2, seed=seed)) > least for seed in range(50))


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("mean", ["optimum", "zero"])
def test_neither_steps_nor_epochs_do_better_than_one_step_over_the_same_directions(mean: str, epochs: int) -> None:
    one = case()
    mean_DK = one.best_DK if mean == "optimum" else torch.zeros(D, K, dtype=torch.float64)
    lower, upper = bounds(one, 2, steps=2, mean_DK=mean_DK, sigma=SIGMA)
    best = best_set(one, 2, steps=2, mean_DK=mean_DK, sigma=SIGMA)
    q_DR = best.inputs_SMD.flatten(0, 1).T
    assert lower * (1 - 1e-12) <= span_excess(one, q_DR, mean_DK, SIGMA) <= upper * (1 + 1e-12)
    for seed in range(50):
        x_SMD = best.inputs_SMD + 0.1 * normal(2, 2, D, seed=seed)
        tiny = TinySet(
            x_SMD.repeat(epochs, 1, 1),
            best.targets_SMK.repeat(epochs, 1, 1) + 0.1 * normal(2 * epochs, 2, K, seed=100 + seed),
            2 + normal(2 * epochs, seed=200 + seed),
        )
        least = span_excess(one, x_SMD.flatten(0, 1).T, mean_DK, SIGMA)
        assert expected_excess(one, tiny, mean_DK, SIGMA) >= least * (1 - 1e-12) >= lower * (1 - 1e-11)


# Several steps


@pytest.mark.parametrize(("images", "steps"), [(1, 6), (2, 3), (3, 2), (4, 2)])
def test_steps_that_project_onto_complementary_spaces_are_exact(images: int, steps: int) -> None:
    built = best_set(case(), images, steps=steps)
    assert built.inputs_SMD.shape == (steps, images, D)
    assert excess(case(), take_steps(built, inits(torch.zeros(D, K)))).max() <= 1e-10
    if images * steps > D:
        assert not built.inputs_SMD[-1, -(images * steps - D) :].any()


@pytest.mark.parametrize(("images", "steps"), [(1, 5), (2, 2), (1, 2)])
def test_steps_with_too_few_images_reach_the_closed_form_of_all_of_them(images: int, steps: int) -> None:
    one = case()
    least = best_excess(one, images, steps=steps, sigma=SIGMA)
    assert close(least, best_excess(one, images * steps, sigma=SIGMA))
    assert close(expected_excess(one, best_set(one, images, steps=steps), one.best_DK, SIGMA), least, 1e-11)


def test_epochs_over_the_same_images_do_not_help() -> None:
    """Whatever the step sizes: θ moves in the space of the images alone."""
    one, tiny = case(), random_set(2)
    x_SMD, y_SMK = (value.expand(4, -1, -1) for value in tiny[:2])
    repeated = TinySet(x_SMD, y_SMK, normal(4, seed=11).abs())
    theta_BDK = inits(one.best_DK, 20)
    moved_BDK = take_steps(repeated, theta_BDK) - theta_BDK
    assert torch.linalg.matrix_rank(moved_BDK.transpose(0, 1).flatten(1), rtol=1e-10) == 2
    assert expected_excess(one, repeated, one.best_DK, SIGMA) >= best_excess(one, 2, sigma=SIGMA)


# A singular H


def test_as_many_images_as_the_rank_are_enough() -> None:
    one = singular()
    assert (one.rank, one.dim) == (4, D)
    assert one.note is not None
    assert "6 features, rank 4" in one.note
    assert case().note is None
    assert best_excess(one, 4) == 0
    assert best_excess(one, 3) > 0
    assert excess(one, take_steps(best_set(one, 4), inits(torch.zeros(D, K)))).max() <= 1e-10
    assert bounds(one, 4, mean_DK=torch.zeros(D, K, dtype=torch.float64)) == (0, 0)


def test_the_pseudo_inverse_gives_the_smallest_minimiser() -> None:
    x_ND, y_NK = data(4)
    x_ND = x_ND @ normal(4, D, seed=4)
    torch.testing.assert_close(singular().best_DK, torch.linalg.pinv(x_ND) @ y_NK, rtol=1e-8, atol=1e-9)


# Bad input


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.ones(3, 2), torch.ones(4), "expected (N, D), (N, K)"),
        (torch.ones(3), torch.ones(3), "expected (N, D), (N, K)"),
        (torch.ones(0, 2), torch.ones(0), "expected (N, D), (N, K)"),
        (torch.tensor([[1.0], [float("nan")]]), torch.ones(2), "finite"),
        (torch.ones(2, 1), torch.tensor([1.0, float("inf")]), "finite"),
        (torch.zeros(3, 2), torch.ones(3), "all features are 0"),
    ],
)
def test_data_that_are_none(x: Tensor, y: Tensor, said: str) -> None:
    with pytest.raises(LimbeckError) as caught:
        fit_regression("case", x, y)
    assert said in str(caught.value)


def test_names_and_scales_that_do_not_fit() -> None:
    with pytest.raises(LimbeckError, match="1 names for 6 features"):
        fit_regression("case", *data(), ["one"])
    with pytest.raises(LimbeckError, match="scale is 0"):
        exact_set(case(), D, scale=0)


# Problems


def test_the_random_problem_is_that_of_its_seed() -> None:
    one, again, other = (
        make_regression("random", seed=1),
        make_regression("random", seed=1),
        make_regression("random", seed=2),
    )
    assert torch.equal(one.best_DK, again.best_DK)
    assert not torch.equal(one.best_DK, other.best_DK)
    assert (one.dim, one.rank, one.examples) == (10, 10, 200)


def test_diabetes_is_standardised() -> None:
    pytest.importorskip("sklearn")
    one = make_regression("diabetes")
    torch.testing.assert_close(one.h_DD.diagonal(), torch.ones(11, dtype=torch.float64))
    assert one.features[-2:] == ("s6", "intercept")
    assert one.floor == pytest.approx(0.5 * (1 - 0.51775), abs=1e-5)  # R² of ordinary least squares on these data


def test_averaged_mnist_has_one_hot_targets() -> None:
    one = make_regression("mnist", features=16)
    assert (one.dim, one.outputs, one.examples) == (17, 10, 60_000)
    torch.testing.assert_close(one.best_DK.sum(1)[:-1], torch.zeros(16, dtype=torch.float64))  # outputs sum to 1
    assert float(one.best_DK[-1].sum()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "features", "said"),
    [
        ("diabets", None, "did you mean 'diabetes'"),
        ("random", 0, "features is 0"),
        ("random", 2001, "2000 at most"),
        ("diabetes", 5, "diabetes has 10"),
        ("mnist", 50, "averaged 1, 4, 16, 49, 196"),
    ],
)
def test_problems_that_there_are_not(name: str, features: int | None, said: str) -> None:
    with pytest.raises(LimbeckError) as caught:
        make_regression(name, features=features)
    assert said in str(caught.value)


def test_diabetes_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(LimbeckError, match=r"pip install 'limbeck\[sklearn\]'"):
        make_regression("diabetes")
