"""Distil a linear regression with the engine, to see how close it comes to the bound of ``limbeck.theory.closed_form``.

The learner is linear, without a bias (an intercept is a feature), the inner loss half the squared error, averaged over
the images and summed over outputs, the objective the excess. All in float64. Shapes as in
``limbeck.theory.closed_form``; R rows of the real batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

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
    Tensors,
)
from limbeck.theory.closed_form import Regression, TinySet, expected_excess

_CHUNK = 256
_ROUND = 25
"""Iterations between two looks at the clock and at what has been won."""
_HISTORY = 200
"""Pairs that L-BFGS remembers: with 50 an ill-conditioned H (MNIST's) takes several times as many iterations."""


@final
@dataclass(frozen=True, kw_only=True)
class Reached:
    """What the engine found.

    Attributes:
        tiny: the learned pairs as T steps, those of later epochs with the same pairs again.
        excess: the exact expected excess of it (``theory.expected_excess``).
        objective: the same as the engine computes it, the mean over ``initial_points``.
        evaluations: of the meta-gradient, over all restarts.
        converged: whether the best restart ended because nothing changed any more, rather than at its last iteration.
        seconds: it took, over all restarts.
    """

    tiny: TinySet
    excess: float
    objective: float
    evaluations: int
    converged: bool
    seconds: float


@final
class Linear(nn.Module):
    """``nn.Linear`` without a bias, weight (K, D), but written as W xᵀ: of many inits at once that is one product."""

    def __init__(self, theta_DK: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(theta_DK.mT.clone())

    def forward(self, x_MD: Tensor) -> Tensor:
        outputs_KM: Tensor = self.weight @ x_MD.mT
        return outputs_KM.mT


def half_squared_error(outputs_MK: Tensor, targets_MK: Tensor) -> Tensor:
    """1/(2M) ‖outputs − targets‖², a scalar."""
    return 0.5 * (outputs_MK - targets_MK).square().sum(-1).mean()


def initial_points(mean_DK: Tensor, sigma: float) -> Tensor:
    """Weights (B, D, K) over which the mean excess is exactly that of mean μ (D, K) and covariance σ²I for each output.

    The excess is a quadratic that sums over outputs, so it sees the mean of w = θ₀ − μ and Σ_k E w_k w_kᵀ = Kσ²I only.
    One output: the 2D points μ ± σ√D e_i. K outputs share D directions, n = ⌈D/K⌉ points and their mirror images with
    a direction for each output at a length of σ√(Kn); the last point may have fewer.
    """
    dim, outputs = mean_DK.shape
    count = -(-dim // outputs)
    i_D = torch.arange(dim, device=mean_DK.device)
    off_nDK = mean_DK.new_zeros(count, dim, outputs)
    off_nDK[i_D // outputs, i_D, i_D % outputs] = sigma * math.sqrt(outputs * count)
    return torch.cat([mean_DK + off_nDK, mean_DK - off_nDK])


def reached(
    problem: Regression,
    images: int,
    *,
    steps: int = 1,
    epochs: int = 1,
    sigma: float = 1.0,
    mean_DK: Tensor | None = None,
    seed: int = 0,
    restarts: int = 1,
    iterations: int = 3000,
    max_seconds: float = math.inf,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda text: None,
) -> Reached:
    """Learn S steps × M pairs, cycled E times, and T step sizes, from random ones, by L-BFGS on the exact expectation.

    The closed form has no part in it: neither the start nor the end of the optimisation knows it. The real batch is
    the r rows √r Λ^½ Uᵀ of the eigenvectors of H with the targets of θ*, whose loss is the excess of the whole data.

    Args:
        problem: the regression.
        images: M.
        steps: S.
        epochs: E.
        sigma: σ of the initial weights.
        mean_DK: their mean μ; θ* by default.
        seed: of the random starts.
        restarts: how many starts; the best is kept.
        iterations: of L-BFGS in each at most.
        max_seconds: begin no further round of iterations after this time.
        device: where to compute; the result is on the problem's own.
        tell: is told of progress.
    """
    began = time.monotonic()
    mean_DK = problem.best_DK if mean_DK is None else mean_DK
    here = mean_DK.device
    learner = Learner(module=Linear(mean_DK).to(device), optimizer=GradientDescent(), loss=half_squared_error)
    kernels = Kernels(learner, RealLoss(loss=half_squared_error), Execution(chunk=_CHUNK))
    states = kernels.init({"weight": initial_points(mean_DK, sigma).mT.contiguous().to(device)})
    roots_r = (problem.rank * problem.values_D[: problem.rank]).sqrt()
    real_RD = roots_r[:, None] * problem.vectors_DD[:, : problem.rank].T
    real = RealBatch(real_RD.to(device), (real_RD @ problem.best_DK).to(device))
    rng = torch.Generator().manual_seed(seed)
    found: list[tuple[float, bool, Pairs, Tensors]] = []
    evaluations = 0
    for restart in range(restarts):
        x_SMD = torch.randn(steps, images, problem.dim, generator=rng, dtype=torch.float64).to(device)
        # Rows of length √M at η = 1 make each step nearly a projection while M is small, and no longer one beyond.
        x_SMD *= math.sqrt(min(1.0, images / problem.dim))
        source = Pairs(x_SMD, x_SMD.new_zeros(steps, images, problem.outputs), epochs=epochs, inner=InnerConfig(lr=1.0))
        leaves = {name: value.clone().requires_grad_() for name, value in source.parameters().items()}

        def closure(source: Pairs = source, leaves: Tensors = leaves) -> Tensor:
            params = {name: value.detach() for name, value in leaves.items()}
            result = Remat().meta_gradient(kernels, source, params, states, real)
            for name, value in leaves.items():
                value.grad = result.grads[name].mean(0)
            return result.loss_B.mean()

        value, converged, used = _minimised(closure, list(leaves.values()), iterations, began + max_seconds)
        evaluations += used
        if restarts > 1:
            tell(f"restart {restart + 1} of {restarts}: {value:.6g} after {used} evaluations")
        found.append((value, converged, source, {name: leaf.detach() for name, leaf in leaves.items()}))
    objective, converged, source, params = min(found, key=lambda one: one[0])
    made = source.materialise(params)
    order = made.order.to(device)
    tiny = TinySet(made.images[order].to(here), made.labels[order].to(here), made.hyperparameters["lr"].to(here))
    return Reached(
        tiny=tiny,
        excess=expected_excess(problem, tiny, mean_DK, sigma),
        objective=objective,
        evaluations=evaluations,
        converged=converged,
        seconds=time.monotonic() - began,
    )


def _minimised(
    closure: Callable[[], Tensor], leaves: list[Tensor], iterations: int, deadline: float
) -> tuple[float, bool, int]:
    """Run L-BFGS: the last value, whether it stopped by itself, and how often the closure was called.

    Where it runs away to no number, the leaves stay as they were before.
    """
    optimizer = torch.optim.LBFGS(
        leaves,
        max_iter=_ROUND,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )
    calls = 0

    def counted() -> Tensor:
        nonlocal calls
        calls += 1
        return closure()

    values = [float(counted())]
    for done in range(0, iterations, _ROUND):
        if time.monotonic() > deadline:
            return values[-1], False, calls
        optimizer.param_groups[0]["max_iter"] = min(_ROUND, iterations - done)
        kept = [leaf.detach().clone() for leaf in leaves]
        optimizer.step(counted)  # type: ignore[no-untyped-call]
        value = float(counted())
        if not math.isfinite(value):
            with torch.no_grad():
                for leaf, before in zip(leaves, kept, strict=True):
                    leaf.copy_(before)
            return values[-1], False, calls
        values.append(value)
        # As exact as float64 has it, or nothing won.
        if value <= 1e-26 * values[0] or not value < values[-2] * (1 - 1e-7):
            return value, True, calls
    return values[-1], False, calls
