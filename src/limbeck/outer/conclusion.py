"""What is said of a run when it is over: whether it beats real images, and if not, why and what to try."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch

from limbeck.artefact.distilled import Distilled
from limbeck.common.devices import describe_load
from limbeck.data import TaskData
from limbeck.engine import Kernels, PixelConfig
from limbeck.evaluation.verdict import Verdict, compare, decide
from limbeck.experiment.config import Config
from limbeck.experiment.progress import Progress, Reporter
from limbeck.methods import Method

PART: Final = 0.1
"""The part of a run's time that the verdict may take."""

LEAST_SECONDS: Final = 1.0
"""Seconds that it may take in any case."""

FEW_ITERATIONS: Final = 100
"""Iterations below which a run is called short."""


def conclude(
    result: Distilled, data: TaskData, kernels: Kernels, method: Method, progress: Progress, reporter: Reporter
) -> Distilled:
    """The result of a run with a verdict on it, where it is one of images.

    Args:
        result: of the run.
        data: what it was learned from.
        kernels: of the learner, as the run computed it.
        method: makes kernels that are not compiled: sets of other sizes would be compiled anew.
        progress: of the run.
        reporter: told about it.
    """
    config = result.config
    if not isinstance(config.source, PixelConfig) or config.attack is not None:
        return result
    kernels = method.kernels(kernels.learner, replace(kernels.execution, compiled=False))
    seconds = max(LEAST_SECONDS, PART * progress.elapsed)
    verdict = compare(result, data, kernels, seconds=seconds, seed=config.seed, tell=reporter.message)
    if verdict.word != "above":
        verdict = verdict.explained(*explain(verdict, config, progress, data.num_classes))
    return replace(result, info=result.info | {"verdict": verdict.to_json()})


def explain(verdict: Verdict, config: Config, progress: Progress, classes: int) -> tuple[str, str]:
    """Why a set is no better than random real images, as far as one can tell, and what to try."""
    reasons, advice = [], []
    better = verdict.random.step_size
    if progress.rollbacks:
        reasons.append(f"it diverged {progress.rollbacks} times")
        advice.append(f"--lr {better:.2g}" if better is not None else "a smaller --lr")
    if decide(verdict.random, verdict.random, classes=classes) == "failed":
        reasons.append(f"random real images teach nothing in {config.inner_steps} steps either, at any step size")
        advice.append("more --steps or --ipc, or another --learner")
    if progress.iteration < FEW_ITERATIONS:
        reasons.append(f"{progress.iteration} iterations are few")
        advice.append("more --max-time or --iterations, or fewer --steps or --inits, which make them faster")
        if describe_load(torch.get_num_threads()) is not None:
            reasons.append("the machine is busy")
            advice.append("one thread (--threads 1)")
    elif progress.best_iteration >= 0.9 * progress.iteration:
        reasons.append("it was still getting better at the end")
        advice.append("more --max-time or --iterations")
    if not reasons:
        reasons.append(f"it got no better after iteration {progress.best_iteration} of {progress.iteration}")
        advice.append(f"--lr {better:.2g}, which suits random real images" if better is not None else "another --lr")
        advice.append("more images (--ipc, --steps)")
    return ", and ".join(reasons), "; ".join(advice)
