"""Choices for which there is no safe rule: measured once per machine, and remembered.

Shapes: B inits, N real images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from limbeck.common.files import own_cache, write_json
from limbeck.common.provenance import processor
from limbeck.data import TaskData
from limbeck.engine import Execution, Kernels, Learner, RealLoss, Tensors
from limbeck.errors import LimbeckError

REAL_BATCHES: Final[tuple[dict[str, Any], ...]] = (
    {"bfloat16": False, "channels_last": False},
    {"bfloat16": False, "channels_last": True},
    {"bfloat16": True, "channels_last": True},
)
"""Ways to run the real batch, the plain one first."""

LONG_RUN: Final = 2.0
"""Seconds of a run of the plain way from which trying the others takes longer than a person waits without a reason."""


def remember(key: str, measure: Callable[[], int]) -> int:
    """The winner of a measurement, made once per processor and torch version and kept in the user's cache."""
    winner = recall(key)
    if winner is None:
        winner = measure()
        note(key, winner)
    return winner


def recall(key: str) -> int | None:
    """What was noted under this key with the same processor, version of torch and number of threads."""
    winner = _known().get(_full(key))
    return winner if isinstance(winner, int) else None


def note(key: str, winner: int) -> None:
    """Keep a number in the user's cache; a missing or read-only one only costs the measurement."""
    cache = own_cache()
    if cache is not None:
        with contextlib.suppress(LimbeckError):
            write_json(cache / "measured.json", _known() | {_full(key): winner})


def _known() -> dict[str, Any]:
    """All that is kept."""
    cache = own_cache()
    try:
        return {} if cache is None else dict(json.loads((cache / "measured.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _full(key: str) -> str:
    full = f"{processor()} {torch.__version__} {torch.get_num_threads()} {key}"
    return hashlib.sha256(full.encode()).hexdigest()


def structure_of(learner: Learner) -> str:
    """A digest of a network's layers and of its parameters' names and shapes: equal names may be other networks."""
    parameters = [(name, tuple(p.shape), str(p.dtype), p.device.type) for name, p in learner.module.named_parameters()]
    return hashlib.sha256(f"{learner.module!r} {parameters}".encode()).hexdigest()


def fastest_real_batch(base: Execution, learner: Learner, data: TaskData, size: int) -> int:
    """Which of ``REAL_BATCHES`` runs the eager real batch of ``size`` images fastest.

    A change must gain 15 % to be taken, and its gradient must be within 2 % of the plain one in norm. One that fails is
    out, and all are where a run of the plain one takes more than ``LONG_RUN`` seconds.
    """
    try:
        with warnings.catch_warnings():  # the run says itself how it is computed
            warnings.simplefilter("ignore")
            return _fastest(base, learner, data, size)
    except Exception:  # the plain way fails: the run will say so
        return 0


def _fastest(base: Execution, learner: Learner, data: TaskData, size: int) -> int:
    weights: Tensors = {
        name: (
            0.05 * torch.randn(base.chunk, *p.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        ).to(p.device)
        for name, p in learner.module.named_parameters()
    }
    x_NCHW, y_N = data.sample(torch.Generator().manual_seed(0), size)

    def run(changes: dict[str, Any], longest: float) -> tuple[float, Tensor | None]:
        """Seconds of a way and its gradient; None if its first run takes longer than may be."""
        kernels = Kernels(learner, RealLoss(), dataclasses.replace(base, compiled=False, **changes))
        states = kernels.init(weights)
        times: list[float] = []
        while len(times) < 4:
            start = time.perf_counter()
            values, (grads, _) = kernels.terminal(states, x_NCHW, y_N)
            values.sum().item()  # an accelerator is asynchronous: wait for it
            times.append(time.perf_counter() - start)
            if times[0] > longest:
                return times[0], None
        return min(times), torch.cat([g.float().flatten() for g in grads.values()])

    least, plain = run(REAL_BATCHES[0], LONG_RUN)
    if plain is None:
        return 0
    winner, fastest = 0, least / 1.15
    for index, changes in enumerate(REAL_BATCHES[1:], start=1):
        try:
            seconds, gradient = run(changes, 4 * least + 0.1)
        except Exception:
            continue
        if gradient is None:
            continue
        off = float((gradient - plain).norm() / plain.norm())
        if off <= 0.02 and seconds < fastest:  # NaN fails the first test
            winner, fastest = index, seconds
    return winner
