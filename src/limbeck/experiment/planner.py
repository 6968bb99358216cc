"""The one place that answers: compiled? how many networks at once? in which mode? how much memory?

Distilling, judging, pools and architecture search all ask it. Shapes: B networks, M images a step, T inner steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.data import TaskData
from limbeck.engine import Execution, Learner, trainable_parameters
from limbeck.errors import LimbeckError
from limbeck.experiment.compilers import compiler_missing, use_compile_cache
from limbeck.experiment.config import Config
from limbeck.experiment.measured import REAL_BATCHES, fastest_real_batch, remember
from limbeck.experiment.progress import Reporter

SMALL_STEP_FLOPS: Final = 1e8
"""Forward operations of a step below which its cost is overhead and memory traffic: then networks are batched."""

MOST_AT_ONCE: Final = 16
"""Networks past which nothing is gained per network."""

FEW_IMAGES: Final = 16
"""Images a step up to which eager training steps of several networks are faster together on a CPU; with more, vmap's
grouped convolutions lose."""

REAL_BATCH_STEPS: Final = 10
"""What the real batch costs, in inner steps: it is some ten times as large and is differentiated once."""

COMPILE_FROM: Final = 1e12
"""Forward operations of scoring from which compiling is won back: 120 LeNets on MNIST."""

COMPILE_PAYS_AFTER: Final = 20_000
"""Training steps, over all networks, from which 20-30 s of compiling are won back."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """A piece of work on networks of one learner.

    Args:
        learner: on the device where it is to run.
        image_shape: (C, H, W).
        networks: B, all that could run at once.
        images: M of a training step.
        steps: training steps over all networks.
        differentiated: whether the steps are pulled back, too.
        stored: states of each network that are kept for that.
        scored: images on which networks are scored, over all of them.
    """

    learner: Learner
    image_shape: tuple[int, int, int]
    networks: int
    images: int
    steps: float = 0
    differentiated: bool = False
    stored: int = 1
    scored: float = 0

    @property
    def device(self) -> str:
        """The kind of device, such as cpu."""
        return next(iter(self.learner.module.parameters())).device.type

    @property
    def small(self) -> bool:
        """Whether a training step is so small that networks are better computed together."""
        return self.flops(self.images) < SMALL_STEP_FLOPS

    @property
    def convolutional(self) -> bool:
        """Whether vmap makes grouped convolutions of several networks."""
        return any(isinstance(layer, nn.modules.conv._ConvNd) for layer in self.learner.module.modules())

    def flops(self, images: int) -> float:
        """Floating-point operations of the forward pass on so many images."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.learner.module(self.zeros(images))
        return float(counter.get_total_flops())

    def zeros(self, images: int) -> Tensor:
        """So many empty images (images, C, H, W)."""
        return torch.zeros(images, *self.image_shape, device=self.device)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How the kernels are to run for a piece of work."""

    work: Work
    execution: Execution

    @property
    def memory(self) -> int:
        """An estimate of the bytes that it takes at its peak."""
        return estimate_memory(self.work, self.execution.chunk)


def plan_work(
    work: Work,
    *,
    compile: Literal["auto", "on", "off"] = "auto",
    compilable: bool = True,
    at_once: int | None = None,
    most: int = MOST_AT_ONCE,
    base: Execution | None = None,
    option: str = "--compile on",
) -> Plan:
    """How a piece of work is computed.

    Args:
        work: what is to be done.
        compile: compile the kernels; ``auto`` does where there is a compiler and it pays.
        compilable: whether the kernels run often enough for that.
        at_once: networks to compute at once; chosen by default.
        most: networks at once that are chosen at most.
        base: settings to keep, such as the mode.
        option: what asked for compiling, in an error.

    Raises:
        LimbeckError: compiling is asked for, and the compiler is missing.
    """
    missing = compiler_missing(work.device) if compile != "off" else None
    if compile == "on" and missing is not None:
        raise LimbeckError(f"{option} needs {missing}; install it, or leave that option out.")
    compiled = compile == "on" or (compile == "auto" and compilable and missing is None and _compiling_pays(work))
    if compiled:
        use_compile_cache()
    execution = replace(
        base or Execution(),
        compiled=compiled,
        chunk=at_once or _count_at_once(work, compiled, most),
        score_chunk=1 if _scores_one_by_one(work) else None,
    )
    return Plan(work=work, execution=execution)


def _compiling_pays(work: Work) -> bool:
    """Whether what compiling takes is won back."""
    if work.steps >= COMPILE_PAYS_AFTER:
        return True
    return work.scored > 0 and work.small and work.scored * work.flops(1) >= COMPILE_FROM


def _count_at_once(work: Work, compiled: bool, most: int) -> int:
    """Networks to compute at once: many of a small learner, one of a large one."""
    if not work.small:
        return 1
    many = work.images > FEW_IMAGES and not work.differentiated
    if work.device == "cpu" and work.convolutional and many and not compiled:
        return 1
    return max(1, min(work.networks, most))


def _scores_one_by_one(work: Work) -> bool:
    """Whether networks are scored on large batches one after the other.

    Together, vmap makes grouped convolutions of them, which take 1.5 to 3 times as long on a CPU.
    """
    return work.device == "cpu" and work.convolutional


def estimate_memory(work: Work, at_once: int) -> int:
    """Bytes that the work takes at its peak, roughly: stored states, gradients and the activations of a chunk.

    A step that is pulled back holds its activations, their tangents and their cotangents; the real batch, some ten
    times as large as a step, holds its activations once.
    """
    parameters = sum(p.numel() * p.element_size() for p in work.learner.module.parameters())
    state = parameters * (1 + len(_states_of(work.learner)))
    activations = _activation_bytes(work)
    step = (3 if work.differentiated else 1) * work.images * activations
    return int(work.networks * (work.stored * state + 2 * state) + at_once * step)


def _states_of(learner: Learner) -> list[str]:
    """What the inner optimiser keeps for each parameter, for one parameter."""
    name, value = next(iter(trainable_parameters(learner.module).items()))
    state = learner.optimizer.init({name: value.detach()})
    return [key for key, tensor in state.items() if tensor.shape == value.shape]


def _activation_bytes(work: Work) -> int:
    """Bytes that autograd keeps of a forward pass on one image, apart from parameters."""
    owned = {p.data_ptr() for p in work.learner.module.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in owned:
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    # Two images, because normalisation over the batch needs a spread.
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        work.learner.module(work.zeros(2))
    return sum(sizes.values()) // 2


def free_memory(device: str) -> int | None:
    """Bytes that are free on a device, None where that cannot be told."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def plan_distilling(config: Config, learners: Sequence[Learner], data: TaskData, reporter: Reporter) -> Plan:
    """How a run is computed, for the costliest of its learners, with its ``auto`` settings resolved.

    The same machine, learner and configuration always get the same answer.

    Raises:
        LimbeckError: compiling is asked for, and the compiler is missing.
    """
    engine, outer = config.engine, config.outer
    works = [
        Work(
            learner=learner,
            image_shape=data.image_shape,
            networks=outer.inits,
            images=config.batch_size(data.num_classes),
            steps=outer.iterations * outer.inits * (config.inner_steps + REAL_BATCH_STEPS),
            differentiated=True,
            stored=config.method.stored_states(config.inner_steps),
        )
        for learner in learners
    ]
    costs = [work.flops(1) for work in works]
    costliest = costs.index(max(costs))
    work = works[costliest]
    plan = plan_work(
        work,
        compile=engine.compile,
        compilable=config.method.compilable,
        at_once=engine.chunk,
        base=Execution(mode=engine.mode),
    )
    free, needed = free_memory(data.train_x.device.type), plan.memory
    if free is not None and needed > free:
        reporter.message(
            f"this may need {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free: fewer --inits, a "
            "--chunk of 1 or a larger --store-every need less"
        )
    if plan.execution.compiled:
        reporter.message("compiling the step, its pull-back and the real batch (20-60 s, from the cache 5-10 s)")
    if engine.bfloat16 != "auto":
        on = engine.bfloat16 == "on"
        return replace(plan, execution=replace(plan.execution, bfloat16=on, channels_last=on))
    name = f"{config.learners[costliest]}{' weight-normalised' if config.weight_norm else ''}"
    key = f"{name} {tuple(data.image_shape)} {outer.real_batch} {plan.execution.chunk}"
    winner = remember(key, lambda: fastest_real_batch(plan.execution, learners[costliest], data, outer.real_batch))
    return replace(plan, execution=replace(plan.execution, **REAL_BATCHES[winner]))


def plan_judging(
    learner: Learner, data: TaskData, networks: int, *, images: int, steps: int, tell: Callable[[str], None]
) -> Plan:
    """How networks are trained on sets of ``images`` a step, for ``steps`` each, and scored on the test set.

    Ten at once at most: 10 divides the usual numbers of networks, and the share of each of ten random sets.
    """
    work = Work(
        learner=learner,
        image_shape=data.image_shape,
        networks=networks,
        images=images,
        steps=networks * steps,
        scored=networks * len(data.test_y),
    )
    plan = plan_work(work, most=10)
    if plan.execution.compiled:
        tell("compiling the inner step and the forward pass")
    return plan
