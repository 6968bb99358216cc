"""How a run is computed: choices by rule where a rule is safe, by a measurement kept per machine where it is not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from limbeck.common.files import write_json
from limbeck.common.provenance import processor
from limbeck.data import TaskData
from limbeck.engine import Execution, Kernels, Learner, RealLoss, Tensors
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Reporter

SMALL_STEP_FLOPS = 1e8
"""Forward FLOPs of a step below which its cost is overhead and memory traffic: then inits are batched."""

REAL_BATCHES: tuple[dict[str, bool], ...] = (
    {"bfloat16": False, "channels_last": False},
    {"bfloat16": False, "channels_last": True},
    {"bfloat16": True, "channels_last": True},
)
"""Ways to run the real batch, the plain one first."""

REAL_BATCH_STEPS = 10
"""What the real batch costs, in inner steps: it is some ten times as large and is differentiated once."""

COMPILE_FROM = 1e12
"""Forward operations of scoring on the test set from which compiling is won back: 120 LeNets on MNIST."""

COMPILE_PAYS_AFTER = 20_000
"""Planned inner steps (over all inits) from which 20-30 s of compiling are won back."""


def choose_execution(config: Config, learners: Sequence[Learner], data: TaskData, reporter: Reporter) -> Execution:
    """Resolve the ``auto`` settings, for the costliest of the learners.

    The same machine, learner and configuration always get the same answer.
    """
    engine, outer = config.engine, config.outer
    costs = [forward_flops(learner, data, 1) for learner in learners]
    costliest = costs.index(max(costs))
    name, learner = config.learners[costliest], learners[costliest]
    chunk = engine.chunk or min(outer.inits, default_chunk(learner, data, config.batch_size(data.num_classes)))
    planned = outer.iterations * outer.inits * (config.inner_steps + REAL_BATCH_STEPS)
    compiled = engine.compile == "on" or (
        engine.compile == "auto"
        and config.method.compilable
        and planned >= COMPILE_PAYS_AFTER
        and compiler_missing(data.train_x.device.type) is None
    )
    if engine.compile == "on":
        missing = compiler_missing(data.train_x.device.type)
        if missing is not None:
            raise LimbeckError(f"--compile on needs {missing}; install it or use --compile off.")
    base = Execution(mode=engine.mode, compiled=compiled, chunk=chunk)
    if compiled:
        reporter.message("compiling the step, its pull-back and the real batch (20-60 s, from the cache 5-10 s)")
        use_compile_cache()
    if engine.bfloat16 != "auto":
        return replace(base, bfloat16=engine.bfloat16 == "on", channels_last=engine.bfloat16 == "on")
    learner_name = f"{name}{' weight-normalised' if config.weight_norm else ''}"
    key = f"{learner_name} {tuple(data.image_shape)} {outer.real_batch} {chunk}"
    winner = remember(key, lambda: _fastest_real_batch(base, learner, data, outer.real_batch))
    return replace(base, **REAL_BATCHES[winner])


def default_chunk(learner: Learner, data: TaskData, images: int) -> int:
    """Initial weights to compute at once for steps of ``images`` images: many of a small network, one of a large one.

    Past 16 nothing is gained per init, and vmap's grouped convolutions lose to plain ones where arithmetic dominates.
    """
    return 16 if forward_flops(learner, data, images) < SMALL_STEP_FLOPS else 1


def judging_kernels(learner: Learner, data: TaskData, n: int, *, small: bool, tell: Callable[[str], None]) -> Kernels:
    """What trains and scores n networks: several at once where they are ``small``, compiled where that pays."""
    # Compiled, a small network is scored several times faster; 10 divides n and each random set's share of it.
    work = n * len(data.test_y) * forward_flops(learner, data, 1)
    compiled = small and work >= COMPILE_FROM and compiler_missing(data.test_y.device.type) is None
    if compiled:
        tell("compiling the inner step and the forward pass")
        use_compile_cache()
    return Kernels(learner, RealLoss(), Execution(chunk=10 if small else 1, compiled=compiled))


def replace(execution: Execution, **changes: Any) -> Execution:
    """A changed copy."""
    import dataclasses

    return dataclasses.replace(execution, **changes)


def use_compile_cache() -> None:
    """Keep compiled kernels under the user's cache, so that the next run starts from them."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))


def cache_dir() -> Path:
    """Where measurements and compiled kernels are kept."""
    return Path("~/.cache/limbeck").expanduser()


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


def compiler_missing(device: str) -> str | None:
    """What compiling lacks on this device, or None."""
    if device == "cpu":
        names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"]
        return None if any(name and shutil.which(name) for name in names) else "a C++ compiler (g++ or clang++)"
    try:
        import triton  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return "the triton package"
    return None


def forward_flops(learner: Learner, data: TaskData, images: int) -> float:
    """Floating-point operations of the learner's forward pass on so many images."""
    x_MCHW = torch.zeros(images, *data.image_shape, device=data.train_x.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        learner.module(x_MCHW)
    return float(counter.get_total_flops())


def _fastest_real_batch(base: Execution, learner: Learner, data: TaskData, size: int) -> int:
    """Which of ``REAL_BATCHES`` runs the eager real batch fastest.

    A change must gain 15 % to be taken, and its gradient must be within 2 % of the plain one in norm.
    """
    weights: Tensors = {
        name: (0.05 * torch.randn(base.chunk, *p.shape, generator=torch.Generator().manual_seed(0))).to(p.device)
        for name, p in learner.module.named_parameters()
    }
    x_NCHW, y_N = data.sample(torch.Generator().manual_seed(0), size)
    seconds, gradients = [], []
    for changes in REAL_BATCHES:
        kernels = Kernels(learner, RealLoss(), replace(base, compiled=False, **changes))
        states = kernels.init(weights)
        times = []
        for _ in range(4):
            begun = time.perf_counter()
            values, (grads, _) = kernels.terminal(states, x_NCHW, y_N)
            values.sum().item()  # an accelerator is asynchronous: wait for it
            times.append(time.perf_counter() - begun)
        seconds.append(min(times))
        gradients.append(torch.cat([g.float().flatten() for g in grads.values()]))
    plain = gradients[0]
    winner = 0
    for index in range(1, len(REAL_BATCHES)):
        off = float((gradients[index] - plain).norm() / plain.norm())
        if off <= 0.02 and seconds[index] < min(seconds[0] / 1.15, seconds[winner]):  # NaN fails the first test
            winner = index
    return winner
