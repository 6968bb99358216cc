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
from typing import Literal, final

import torch
from torch import Tensor, nn

from limbeck.common.devices import Device, usable_device
from limbeck.common.typed import check_types
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
from limbeck.errors import LimbeckError, unknown
from limbeck.theory.closed_form import Regression, TinySet, expected_excess
from limbeck.theory.lbfgs import minimise

_CHUNK = 256


@final
@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    """For which initial weights a set is learned, and how long.

    Args:
        sigma: standard deviation σ > 0 of the initial weights.
        mean: their mean μ, θ* (``optimum``) or 0 (``zero``).
        iterations: of L-BFGS for each restart at most.
        restarts: random starts; the best one counts.
        max_time: seconds after which no further 25 iterations begin, over all restarts; no limit by default.
        seed: of the random starts.
        device: where the engine computes.
    """

    sigma: float = 1.0
    mean: Literal["optimum", "zero"] = "optimum"
    iterations: int = 3000
    restarts: int = 1
    max_time: float | None = None
    seed: int = 0
    device: Device = "cpu"

    def __post_init__(self) -> None:
        check_types(self)
        object.__setattr__(self, "device", usable_device(self.device))
        if self.mean not in ("optimum", "zero"):
            raise unknown("mean", self.mean, ("optimum", "zero"))
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise LimbeckError(
                f"sigma is {self.sigma}; the deviation of the initial weights must be a positive number."
            )
        for name in ("iterations", "restarts"):
            check_count(name, getattr(self, name))
        if self.max_time is not None and not self.max_time > 0:
            raise LimbeckError(f"max_time is {self.max_time}; it must be a positive number of seconds.")

    def mean_of(self, problem: Regression) -> Tensor:
        """μ (D, K) for a problem."""
        return problem.best_DK if self.mean == "optimum" else torch.zeros_like(problem.best_DK)


def check_count(name: str, value: int) -> None:
    """Raise LimbeckError unless the value is at least 1."""
    if value < 1:
        raise LimbeckError(f"{name} is {value}; it must be at least 1.")


@final
@dataclass(frozen=True, kw_only=True)
class DistilledRegression:
    """The set that the engine learned, and how good it is.

    Attributes:
        tiny: the learned pairs as T steps, those of later epochs with the same pairs again.
        excess: the exact expected excess of it (``closed_form.expected_excess``).
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


def distill_regression(
    problem: Regression,
    images: int,
    *,
    steps: int = 1,
    epochs: int = 1,
    config: RegressionConfig | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> DistilledRegression:
    """Learn S steps × M pairs, cycled E times, and T step sizes, from random ones, by L-BFGS on the exact expectation.

    The closed form has no part in it: neither the start nor the end of the optimisation knows it. The real batch is
    the r rows √r Λ^½ Uᵀ of the eigenvectors of H with the targets of θ*, whose loss is the excess of the whole data.

    Args:
        problem: the regression.
        images: M.
        steps: S.
        epochs: E.
        config: initial weights, budget and seed; defaults by default.
        tell: is called with a line of progress after each of several restarts.
    """
    config = config or RegressionConfig()
    start_time = time.monotonic()
    deadline = start_time + (math.inf if config.max_time is None else config.max_time)
    mean_DK = config.mean_of(problem)
    here, device = mean_DK.device, config.device
    learner = Learner(module=Linear(mean_DK).to(device), optimizer=GradientDescent(), loss=half_squared_error)
    kernels = Kernels(learner, RealLoss(loss=half_squared_error), Execution(chunk=_CHUNK))
    states = kernels.init({"weight": initial_points(mean_DK, config.sigma).mT.contiguous().to(device)})
    roots_r = (problem.rank * problem.values_D[: problem.rank]).sqrt()
    real_RD = roots_r[:, None] * problem.vectors_DD[:, : problem.rank].T
    real = RealBatch(real_RD.to(device), (real_RD @ problem.best_DK).to(device))
    rng = torch.Generator().manual_seed(config.seed)
    results = []
    for restart in range(config.restarts):
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

        minimum = minimise(closure, list(leaves.values()), iterations=config.iterations, deadline=deadline)
        if config.restarts > 1:
            counts = f"{minimum.value:.6g} after {minimum.evaluations} evaluations"
            tell(f"restart {restart + 1} of {config.restarts}: {counts}")
        results.append((minimum, source, {name: leaf.detach() for name, leaf in leaves.items()}))
    minimum, source, params = min(results, key=lambda result: result[0].value)
    learned = source.materialise(params)
    order = learned.order.to(device)
    images_TMD, labels_TMK, lr_T = learned.images[order], learned.labels[order], learned.hyperparameters["lr"]
    tiny = TinySet(images_TMD.to(here), labels_TMK.to(here), lr_T.to(here))
    return DistilledRegression(
        tiny=tiny,
        excess=expected_excess(problem, tiny, mean_DK, config.sigma),
        objective=minimum.value,
        evaluations=sum(result[0].evaluations for result in results),
        converged=minimum.converged,
        seconds=time.monotonic() - start_time,
    )
