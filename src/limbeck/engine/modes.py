"""Which order of differentiation can be trusted for a learner: tried out on the learner itself, on two images.

Torch's derivatives of some layers are not differentiable themselves, and some of these are silently wrong: the forward
derivatives of layer, batch and instance normalisation take the saved mean and deviation for constants, so reverse over
forward mode loses terms (pytorch issues 196699 and 196700). Others exist in one direction only (gated linear units) or
not at all (the fused weight norm). Reverse over reverse, which is autograd's double backward, is the arbiter.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.engine.learner import Learner, Mode
from limbeck.engine.state import Batch, State

_IMAGES = 2
_TOLERANCE = 1e-3
"""Right derivatives agree to 1e-12 in float64 (1e-6 where a module itself computes in float32), wrong ones do not."""


def choose_mode(preferred: Mode, learner: Learner, state: State, batch: Batch, cotangent: State) -> Mode | None:
    """``preferred`` where it gives the right pull-back of one step, else the next mode that does, with a warning.

    Args:
        preferred: the mode that was asked for.
        learner: the learner.
        state, cotangent: of one init, without a leading dimension.
        batch: of the step; its first images are used.

    Returns:
        The mode, or None where the numbers are not finite and therefore tell nothing.
    """
    arbiter: Mode = "reverse-over-reverse"
    if preferred == arbiter:
        return preferred
    probe = dataclasses.replace(learner, module=copy.deepcopy(learner.module).double())
    at = (state.each(Tensor.double), _few(batch), cotangent.each(Tensor.double))
    try:
        expected = list(_parts(probe, arbiter, *at))
    except RuntimeError:  # no double backward either: nothing to compare with
        return preferred
    if not all(part.isfinite().all() for part in expected):
        return None
    mixed: tuple[Mode, Mode] = ("forward-over-reverse", "reverse-over-forward")
    for mode in (preferred, *(other for other in mixed if other != preferred)):
        if _agrees(probe, mode, expected, at):
            break
    else:
        mode = arbiter
    if mode != preferred:
        warnings.warn(
            f"{preferred} derivatives of this learner are wrong or missing in torch {torch.__version__} (as those of "
            f"some normalisation layers are); {mode} ones are used instead.",
            stacklevel=2,
        )
    return mode


def _agrees(probe: Learner, mode: Mode, expected: list[Tensor], at: tuple[State, Batch, State]) -> bool:
    try:
        parts = list(_parts(probe, mode, *at))
    except RuntimeError:
        return False
    # What is 0 but for rounding, such as everything behind a dead rectifier, is compared with the cotangent.
    floor = 1e-12 * max(float(value.norm()) for value in at[2].params.values())
    return all(
        float((one - other).norm()) <= _TOLERANCE * float(other.norm()) + floor
        for one, other in zip(parts, expected, strict=True)
    )


def _parts(probe: Learner, mode: Mode, state: State, batch: Batch, cotangent: State) -> Iterator[Tensor]:
    """The pull-back in parts of a scale of their own, without what passes through the parameters unchanged."""
    states, batches = probe.step_vjp(mode)(state, batch, cotangent)
    yield torch.cat([(value - cotangent.params[name]).flatten() for name, value in states.params.items()])
    if states.buffers:
        yield torch.cat([value.flatten() for value in states.buffers.values()])
    yield batches.x_MCHW
    yield batches.y_MK


def _few(batch: Batch) -> Batch:
    h = {name: value.double() for name, value in batch.h.items()}
    return Batch(batch.x_MCHW[:_IMAGES].double(), batch.y_MK[:_IMAGES].double(), h)
