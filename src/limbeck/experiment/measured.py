"""Choices for which there is no safe rule: measured once per machine, and remembered.

Shapes: B inits, N real images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any, Final

import torch

from limbeck.common.files import write_json
from limbeck.common.provenance import processor
from limbeck.data import TaskData
from limbeck.engine import Execution, Kernels, Learner, RealLoss, Tensors, trainable_parameters
from limbeck.errors import LimbeckError
from limbeck.experiment.compilers import cache_dir

REAL_BATCHES: Final[tuple[dict[str, Any], ...]] = (
    {"bfloat16": False, "channels_last": False},
    {"bfloat16": False, "channels_last": True},
    {"bfloat16": True, "channels_last": True},
)
"""Ways to run the real batch, the plain one first."""


def remember(key: str, measure: Callable[[], int]) -> int:
    """The winner of a measurement, made once per processor and torch version and kept in the user's cache."""
    path = cache_dir() / "measured.json"
    try:
        known = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        known = {}
    full = hashlib.sha256(f"{processor()} {torch.__version__} {torch.get_num_threads()} {key}".encode()).hexdigest()
    if full not in known:
        known[full] = measure()
        with contextlib.suppress(LimbeckError):  # a read-only home only costs the measurement
            write_json(path, known)
    return int(known[full])


def fastest_real_batch(base: Execution, learner: Learner, data: TaskData, size: int) -> int:
    """Which of ``REAL_BATCHES`` runs the eager real batch of ``size`` images fastest.

    A change must gain 15 % to be taken, and its gradient must be within 2 % of the plain one in norm.
    """
    weights: Tensors = {
        name: (0.05 * torch.randn(base.chunk, *p.shape, generator=torch.Generator().manual_seed(0))).to(p.device)
        for name, p in trainable_parameters(learner.module).items()
    }
    x_NCHW, y_N = data.sample(torch.Generator().manual_seed(0), size)
    seconds, gradients = [], []
    for changes in REAL_BATCHES:
        kernels = Kernels(learner, RealLoss(), dataclasses.replace(base, compiled=False, **changes))
        states = kernels.init(weights)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            values, (grads, _) = kernels.terminal(states, x_NCHW, y_N)
            values.sum().item()  # an accelerator is asynchronous: wait for it
            times.append(time.perf_counter() - start)
        seconds.append(min(times))
        gradients.append(torch.cat([g.float().flatten() for g in grads.values()]))
    plain = gradients[0]
    winner = 0
    for index in range(1, len(REAL_BATCHES)):
        off = float((gradients[index] - plain).norm() / plain.norm())
        if off <= 0.02 and seconds[index] < min(seconds[0] / 1.15, seconds[winner]):  # NaN fails the first test
            winner = index
    return winner
