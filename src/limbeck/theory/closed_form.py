"""How small a distilled set can be, for linear regression (Wang et al. 2018, arXiv 1811.10959, section of that name).

Data d (N, D), targets t (N, K), loss l(θ) = 1/(2N) ‖dθ − t‖², H = dᵀd/N, θ* a minimiser; the excess of θ is
l(θ) − l(θ*) = ½ tr (θ − θ*)ᵀ H (θ − θ*). A step on M learned pairs d̃ (M, D), t̃ (M, K) is θ ← θ − (η/M) d̃ᵀ(d̃θ − t̃).
Initial weights have mean μ and, each output alone, covariance σ²I; no more of their distribution matters, since the
excess is quadratic. ``docs/bound.md`` derives what is computed here. All tensors are float64.

Shapes: N examples, D features, K outputs, r rank of H, S steps, M images a step, T inner steps, B initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from limbeck.errors import LimbeckError

_CHUNK = 8192


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """A linear regression, as far as the excess of a θ depends on it; made by :func:`fit_regression`.

    Attributes:
        name: of the problem.
        features: D names.
        examples: N.
        h_DD: H, its spectrum cut at the rank.
        values_D: eigenvalues λ of H, the largest first, exactly 0 from the rank on.
        vectors_DD: eigenvectors u, one a column, in the order of the values.
        best_DK: θ*; where H is singular the minimiser of smallest norm, which the pseudo-inverse gives.
        rank: r of H, in float64: eigenvalues above D · 2.2e-16 times the largest count.
        floor: l(θ*).
    """

    name: str
    features: tuple[str, ...]
    examples: int
    h_DD: Tensor
    values_D: Tensor
    vectors_DD: Tensor
    best_DK: Tensor
    rank: int
    floor: float

    @property
    def dim(self) -> int:
        """D."""
        return self.best_DK.shape[0]

    @property
    def outputs(self) -> int:
        """K."""
        return self.best_DK.shape[1]

    @property
    def note(self) -> str | None:
        """A sentence on a singular H, or None where H is regular."""
        if self.rank == self.dim:
            return None
        return (
            f"{self.name}: {self.dim} features, rank {self.rank}: H is singular. The pseudo-inverse gives the θ* of "
            f"smallest norm, and {self.rank} images are enough."
        )


class TinySet(NamedTuple):
    """S batches of M pairs, used once in this order: inputs (S, M, D), targets (S, M, K), step sizes η (S,)."""

    inputs_SMD: Tensor
    targets_SMK: Tensor
    lrs_S: Tensor


def fit_regression(
    name: str, x_ND: Tensor, y_NK: Tensor, features: Sequence[str] = (), *, unit: float = 1.0, intercept: bool = False
) -> Regression:
    """The regression of targets (N, K) or (N,) on features (N, D), solved.

    Args:
        name: what to call it.
        x_ND: features of any real dtype, converted to float64 in pieces.
        y_NK: targets.
        features: D names; x1, x2, … by default.
        unit: every feature is multiplied by it.
        intercept: append a column of ones, after the multiplication.

    Raises:
        LimbeckError: no examples or features, numbers that are not finite, targets of another length, or a number of
            names that does not fit.
    """
    y_NK = (y_NK[:, None] if y_NK.dim() == 1 else y_NK).double()
    if x_ND.dim() != 2 or y_NK.dim() != 2 or 0 in (*x_ND.shape, *y_NK.shape) or len(y_NK) != len(x_ND):
        raise LimbeckError(
            f"{name}: features have shape {tuple(x_ND.shape)} and targets {tuple(y_NK.shape)}; expected (N, D), (N, K)."
        )
    if not (x_ND.isfinite().all() and y_NK.isfinite().all() and math.isfinite(unit)):
        raise LimbeckError(f"{name}: features and targets must be finite numbers, and some are not.")
    names = tuple(features) or tuple(f"x{i + 1}" for i in range(x_ND.shape[1]))
    if len(names) != x_ND.shape[1]:
        raise LimbeckError(f"{name}: {len(names)} names for {x_ND.shape[1]} features.")
    names = (*names, "intercept") if intercept else names

    def piece(x_nD: Tensor) -> Tensor:
        x_nD = x_nD.double() * unit
        return torch.cat([x_nD, x_nD.new_ones(len(x_nD), 1)], dim=1) if intercept else x_nD

    count, dim = len(x_ND), len(names)
    h_DD, b_DK = y_NK.new_zeros(dim, dim), y_NK.new_zeros(dim, y_NK.shape[1])
    for x_nD, y_nK in zip(torch.split(x_ND, _CHUNK), torch.split(y_NK, _CHUNK), strict=True):
        h_DD += piece(x_nD).T @ piece(x_nD) / count
        b_DK += piece(x_nD).T @ y_nK / count
    values_D, vectors_DD = torch.linalg.eigh(h_DD)
    values_D, vectors_DD = values_D.flip(0), vectors_DD.flip(1).contiguous()
    rank = int((values_D > dim * torch.finfo(torch.float64).eps * values_D[0]).sum())
    if rank == 0:
        raise LimbeckError(f"{name}: all features are 0.")
    values_D = torch.where(torch.arange(dim, device=values_D.device) < rank, values_D, 0.0)
    top_Dr = vectors_DD[:, :rank]
    best_DK = top_Dr @ ((top_Dr.T @ b_DK) / values_D[:rank, None])
    squares = 0.0
    for x_nD, y_nK in zip(torch.split(x_ND, _CHUNK), torch.split(y_NK, _CHUNK), strict=True):
        squares += float((piece(x_nD) @ best_DK - y_nK).square().sum())
    return Regression(
        name=name,
        features=names,
        examples=count,
        h_DD=(vectors_DD * values_D) @ vectors_DD.T,
        values_D=values_D,
        vectors_DD=vectors_DD,
        best_DK=best_DK,
        rank=rank,
        floor=squares / (2 * count),
    )


def excess(problem: Regression, theta_BDK: Tensor) -> Tensor:
    """l(θ) − l(θ*) of every θ (..., D, K); (...,). Summed over eigenvectors, so that it is never negative."""
    along_BDK = problem.vectors_DD.T @ (theta_BDK - problem.best_DK)
    return 0.5 * (problem.values_D[:, None] * along_BDK.square()).sum((-2, -1))


def take_steps(tiny: TinySet, theta_BDK: Tensor) -> Tensor:
    """θ (..., D, K) after θ ← θ − (η/M) d̃ᵀ(d̃θ − t̃) for each batch in turn, from every θ (..., D, K)."""
    for x_MD, y_MK, lr in zip(*tiny, strict=True):
        theta_BDK = theta_BDK - lr / len(x_MD) * (x_MD.T @ (x_MD @ theta_BDK - y_MK))
    return theta_BDK


def expected_excess(problem: Regression, tiny: TinySet, mean_DK: Tensor, sigma: float) -> float:
    """E l(θ_T) − l(θ*) after training on a set from initial weights of mean μ (D, K) and covariance σ²I; exact.

    Training is affine, θ_T = Gθ₀ + c, so it is the excess of Gμ + c plus ½Kσ² tr GᵀHG.
    """
    start_DD = torch.eye(problem.dim, dtype=torch.float64, device=mean_DK.device)
    none_SMD = tiny.targets_SMK.new_zeros(*tiny.targets_SMK.shape[:2], problem.dim)
    along_DD = problem.vectors_DD.T @ take_steps(tiny._replace(targets_SMK=none_SMD), start_DD)
    spread = 0.5 * problem.outputs * sigma**2 * (problem.values_D[:, None] * along_DD.square()).sum()
    return float(excess(problem, take_steps(tiny, mean_DK)) + spread)


def exact_set(problem: Regression, images: int, *, scale: float | None = None) -> TinySet:
    """One step that ends in θ* from every θ₀: d̃ = c·I, rows of zeros below, t̃ = d̃θ*, η = M/c²; needs M ≥ D.

    Args:
        problem: the regression.
        images: M.
        scale: c > 0; N by default.

    Raises:
        LimbeckError: M < D, where no such set exists, or a scale that is not positive.
    """
    if images < problem.dim:
        raise LimbeckError(
            f"{images} images cannot make one step exact for all initial weights over {problem.dim} features: "
            f"it takes {problem.dim} (or as many as the rank of H, see best_set)."
        )
    c = float(problem.examples if scale is None else scale)
    if not 0 < c < math.inf:
        raise LimbeckError(f"scale is {c}; it must be a positive number.")
    x_MD = c * torch.eye(images, problem.dim, dtype=torch.float64, device=problem.h_DD.device)
    return TinySet(x_MD[None], (x_MD @ problem.best_DK)[None], x_MD.new_tensor([images / c**2]))


def best_set(
    problem: Regression, images: int, *, steps: int = 1, mean_DK: Tensor | None = None, sigma: float = 1.0
) -> TinySet:
    """S steps of M images that project onto S·M eigenvectors of H, those worth most: d̃ = U_Mᵀ, t̃ = d̃θ*, η = M.

    Worth most by λ_i (Kσ² + ‖u_iᵀ(μ − θ*)‖²); with μ = θ*, which ``mean_DK`` is by default, these are the first, and
    the set is a best one. Once S·M ≥ r every θ₀ ends in a minimiser. Rows that are left over are zero.
    """
    order = _worth(problem, mean_DK, sigma).argsort(descending=True, stable=True)[: steps * images]
    rows_RD = problem.vectors_DD.new_zeros(steps * images, problem.dim)
    rows_RD[: len(order)] = problem.vectors_DD[:, order].T
    x_SMD = rows_RD.reshape(steps, images, problem.dim)
    return TinySet(x_SMD, x_SMD @ problem.best_DK, x_SMD.new_full((steps,), float(images)))


def best_excess(problem: Regression, images: int, *, steps: int = 1, sigma: float = 1.0) -> float:
    """The least expected excess that S steps of M images can reach for mean θ* and covariance σ²I: ½Kσ² Σ_{i>SM} λ_i.

    0 images: what there is before training. Epochs over the same images change nothing.
    """
    return 0.5 * problem.outputs * sigma**2 * float(problem.values_D[steps * images :].sum())


def bounds(
    problem: Regression, images: int, *, steps: int = 1, mean_DK: Tensor | None = None, sigma: float = 1.0
) -> tuple[float, float]:
    """What the least expected excess for mean μ and covariance σ²I lies between; both ends are the same for μ = θ*.

    Below: ½ Σ_{i>SM} eig_i of H^½ (Kσ²I + mmᵀ) H^½, m = μ − θ*, which no training that moves θ in only S·M directions
    can beat. Above: :func:`best_set` reaches ½ Σ λ_i (Kσ² + ‖u_iᵀm‖²) over the eigenvectors that it leaves out.
    """
    worth_D = _worth(problem, mean_DK, sigma).sort(descending=True).values
    upper = 0.5 * float(worth_D[steps * images :].sum())
    if mean_DK is None or torch.equal(mean_DK, problem.best_DK):
        return upper, upper
    root_D = problem.values_D.sqrt()
    off_DK = root_D[:, None] * (problem.vectors_DD.T @ (mean_DK - problem.best_DK))  # in the basis of eigenvectors
    moment_DD = torch.diag(problem.outputs * sigma**2 * problem.values_D) + off_DK @ off_DK.T
    eig_D = torch.linalg.eigvalsh(moment_DD).flip(0).clamp(min=0)
    eig_D[problem.rank :] = 0  # exactly so: the moment lies in the range of H
    return min(0.5 * float(eig_D[steps * images :].sum()), upper), upper


def span_excess(problem: Regression, directions_DR: Tensor, mean_DK: Tensor, sigma: float) -> float:
    """The least expected excess of all training whose images lie in the span Q of directions (D, R), for any mean.

    It is ½ [Kσ² (tr H − tr QᵀHQ) + tr mᵀHm − tr (QᵀHm)ᵀ (QᵀHQ)⁻¹ QᵀHm], m = μ − θ*: however many steps and epochs a
    training has, its affine map is θ₀ ↦ θ₀ − QSQᵀθ₀ + Qc, and S = I is best. The minimum over all spans of S·M
    dimensions is the answer for a mean other than θ*, for which no closed form is given here.
    """
    basis_DR, sizes_R, _ = torch.linalg.svd(directions_DR, full_matrices=False)
    q_DR = basis_DR[:, sizes_R > 1e-10 * sizes_R[0]]
    m_DK = mean_DK - problem.best_DK
    within_RR, mean_RK = q_DR.T @ problem.h_DD @ q_DR, q_DR.T @ problem.h_DD @ m_DK
    spread = problem.outputs * sigma**2 * (problem.h_DD.trace() - within_RR.trace())
    shift = (mean_RK * (torch.linalg.pinv(within_RR, hermitian=True) @ mean_RK)).sum()
    return 0.5 * float(spread + (m_DK * (problem.h_DD @ m_DK)).sum() - shift)


def _worth(problem: Regression, mean_DK: Tensor | None, sigma: float) -> Tensor:
    """λ_i (Kσ² + ‖u_iᵀ(μ − θ*)‖²), (D,): twice what is left along an eigenvector that no image serves."""
    if mean_DK is None:
        mean_DK = problem.best_DK
    off_D = (problem.vectors_DD.T @ (mean_DK - problem.best_DK)).square().sum(1)
    return problem.values_D * (problem.outputs * sigma**2 + off_D)
