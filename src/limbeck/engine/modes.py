"""Which order of differentiation can be trusted for a learner: tried out on the learner itself, on two images.

Torch's derivatives of some layers are not differentiable themselves, and some of these are silently wrong: the forward
derivatives of layer, batch and instance normalisation take the saved mean and deviation for constants, so reverse over
forward mode loses terms (pytorch issues 196699 and 196700). Others exist in one direction only (gated linear units) or
not at all (the fused weight norm), and some modules cannot be transformed as functions. Autograd's double backward is
the arbiter, and where that does not exist, finite differences are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.engine.forward import copy_module, differentiable
from limbeck.engine.learner import Learner, Mode
from limbeck.engine.state import Batch, State
from limbeck.errors import LimbeckError

_IMAGES = 2
_TOLERANCE = 1e-3
"""Right derivatives agree to 1e-12 in float64 (1e-6 where a module itself computes in float32), wrong ones do not."""

_NOISE = 1e-6
"""Relative size of the perturbation that tells how exact a pull-back in float32 is."""


class Trusted(NamedTuple):
    """The mode that is used, and whether it needs layers without fused kernels (see ``forward.differentiable``)."""

    mode: Mode
    unfused: bool


class _Trial(NamedTuple):
    """A learner and a point at which its pull-back is tried out, and how exact that can be there."""

    learner: Learner
    at: tuple[State, Batch, State]
    tolerance: float


def choose_mode(preferred: Mode, learner: Learner, state: State, batch: Batch, cotangent: State) -> Trusted | None:
    """``preferred`` where it gives the right pull-back of one step, else the next mode that does, with a warning.

    In float64, or in float32 where the learner computes in nothing else.

    Args:
        preferred: the mode that was asked for.
        learner: the learner.
        state, cotangent: of one init, without a leading dimension.
        batch: of the step; its first images are used.

    Returns:
        The mode, or None where the numbers are not finite and therefore tell nothing.

    Raises:
        LimbeckError: no mode gives the right pull-back.
    """
    if preferred == "autograd":
        return Trusted(preferred, True)
    for moved in (True, False):
        trial = _trial(learner, *(_move(state, cotangent) if moved else (state, cotangent)), batch)
        try:
            expected = list(_parts(trial, "autograd"))
        except Exception as error:  # no double backward: finite differences have the last word
            return _choose_by_differences(preferred, trial, error)
        if all(part.isfinite().all() for part in expected):
            break
    else:
        return None
    if trial.tolerance > 0.05:  # too coarse to tell right from wrong
        return _told(preferred, Trusted("autograd", True))
    found = _first(preferred, trial, lambda mode: _agrees(trial, mode, expected))
    return _told(preferred, found or Trusted("autograd", True))


def _first(preferred: Mode, trial: _Trial, right: Callable[[Mode], bool]) -> Trusted | None:
    """The first mode that is right, as layers are or, if need be, without fused kernels."""
    mixed: tuple[Mode, ...] = ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse")
    for mode in (preferred, *(other for other in mixed if other != preferred)):
        for unfused in (False, True):
            with differentiable(trial.learner.training_module) if unfused else contextlib.nullcontext():
                if right(mode):
                    return Trusted(mode, unfused)
    return None


def _told(preferred: Mode, found: Trusted) -> Trusted:
    if found.mode != preferred:
        warnings.warn(
            f"{preferred} derivatives of this learner are wrong or missing in torch {torch.__version__} (as those of "
            f"some normalisation layers are); {found.mode} ones are used instead.",
            stacklevel=3,
        )
    return found


def _move(state: State, cotangent: State) -> tuple[State, State]:
    """Away from where a network starts: a head of zeros or a tiny scale hides what comes before it, and so would a
    cotangent that reaches nothing."""
    rng = torch.Generator().manual_seed(0)
    largest = max(float(value.abs().max()) for value in cotangent.params.values() if value.numel())

    def shifted(value: Tensor, by: float) -> Tensor:
        return value + by * torch.randn(value.shape, generator=rng, dtype=torch.float32).to(value)

    return (
        state._replace(params={name: shifted(value, 0.1) for name, value in state.params.items()}),
        cotangent._replace(params={name: shifted(v, 0.1 * largest) for name, v in cotangent.params.items()}),
    )


def _trial(learner: Learner, state: State, cotangent: State, batch: Batch) -> _Trial:
    few = Batch(batch.x_MCHW[:_IMAGES], batch.y_MK[:_IMAGES], batch.h)
    exact = dataclasses.replace(learner, module=copy_module(learner.training_module).double())
    at = (state.each(Tensor.double), few.each(Tensor.double), cotangent.each(Tensor.double))
    try:
        exact.step_recorded(*at[:2])
    except Exception:  # something in it is float32, whatever it is given
        trial = _Trial(learner, (state, few, cotangent), _TOLERANCE)
        return trial._replace(tolerance=max(_TOLERANCE, 10 * _measure_noise(trial)))
    return _Trial(exact, at, _TOLERANCE)


def _measure_noise(trial: _Trial) -> float:
    """How far the arbiter's own parts move, relatively, when parameters change by rounding errors."""
    state, batch, cotangent = trial.at
    rng = torch.Generator().manual_seed(0)
    params = {name: perturb(value, rng) for name, value in state.params.items()}
    moved = trial._replace(at=(state._replace(params=params), batch, cotangent))
    try:
        pairs = list(zip(_parts(moved, "autograd"), _parts(trial, "autograd"), strict=True))
    except Exception:
        return 0.0
    return max(float((one - other).norm() / other.norm().clamp_min(1e-30)) for one, other in pairs[:2])


def perturb(value: Tensor, rng: torch.Generator) -> Tensor:
    """Values changed by a few rounding errors of float32; whole numbers as they are."""
    if not value.is_floating_point():
        return value
    return value * (1 + _NOISE * torch.randn(value.shape, generator=rng, dtype=torch.float32).to(value))


def _agrees(trial: _Trial, mode: Mode, expected: list[Tensor]) -> bool:
    try:
        parts = list(_parts(trial, mode))
    except Exception:  # whatever torch raises for what it cannot transform
        return False
    # What is 0 but for rounding, such as everything behind a dead rectifier, is compared with the cotangent.
    rounding = 1e-12 if parts[0].dtype == torch.float64 else 1e-6
    floor = rounding * max(float(value.norm()) for value in trial.at[2].params.values())
    return all(
        float((one - other).norm()) <= trial.tolerance * float(other.norm()) + floor
        for one, other in zip(parts, expected, strict=True)
    )


def _parts(trial: _Trial, mode: Mode) -> Iterator[Tensor]:
    """The pull-back in parts of a scale of their own, without what passes through the parameters unchanged."""
    states, batches = trial.learner.step_vjp(mode)(*trial.at)
    cotangent = trial.at[2]
    yield torch.cat([(value - cotangent.params[name]).flatten() for name, value in states.params.items()])
    yield batches.x_MCHW
    yield batches.y_MK
    if states.buffers:
        yield torch.cat([value.flatten() for value in states.buffers.values()])


def _choose_by_differences(preferred: Mode, trial: _Trial, error: Exception) -> Trusted:
    """The first mode whose pull-back is, along a direction, what the step changes by; LimbeckError if none is."""
    state, batch, cotangent = trial.at
    rng = torch.Generator().manual_seed(0)
    along = {
        name: torch.randn(value.shape, generator=rng, dtype=torch.float32).to(value)
        for name, value in state.params.items()
    }
    size = 1e-5 if batch.x_MCHW.dtype == torch.float64 else 1e-2

    def moved(by: float) -> Tensor:
        params = {name: value + by * along[name] for name, value in state.params.items()}
        following = trial.learner.step_recorded(state._replace(params=params), batch)
        return sum(
            ((cotangent.params[n] * (v - params[n])).sum() for n, v in following.params.items()), torch.zeros(())
        )

    def right(mode: Mode) -> bool:
        try:
            pulled = trial.learner.step_vjp(mode)(*trial.at)[0].params
        except Exception:
            return False
        found = sum(((pulled[name] - cotangent.params[name]) * value).sum() for name, value in along.items())
        return bool(abs(float(found - expected)) <= 10 * trial.tolerance * abs(float(expected)))

    try:
        expected = (moved(size) - moved(-size)) / (2 * size)
        found = _first(preferred, trial, right)
    except Exception as missing:
        error, found = missing, None
    if found is None:
        raise LimbeckError(
            "The learner's gradient cannot be differentiated once more, which learning through its training needs: "
            f"{first_line(error)}. Replace the layer or function that this names."
        ) from error
    return _told(preferred, found)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:300].rstrip(". ")
