"""The one place that answers: compiled? how many networks at once? in which mode? how much memory?

Distilling, judging, pools and architecture search all ask it. Shapes: B networks, M images a step, T inner steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.data import TaskData
from limbeck.engine import Execution, Learner, PixelConfig, trainable_parameters
from limbeck.engine.learner import Mode
from limbeck.errors import LimbeckError
from limbeck.experiment.compilers import compiler_broken, compiler_missing, use_compile_cache
from limbeck.experiment.config import Config
from limbeck.experiment.measured import REAL_BATCHES, fastest_real_batch, note, recall, remember, structure_of
from limbeck.experiment.memory import Peaks, free_memory, peaks_of
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

COLD_SECONDS, WARM_SECONDS = 75, 10
"""What compiling a run takes, from nothing and from the cache."""

WORTH_SECONDS: Final = 2
"""Times what compiling takes that a run must be given before it compiles: steps take some third of the time then."""

MEASURE_FROM: Final = 120
"""Seconds that a run must be given before the ways of its real batch are compared."""

SCORED_AT_ONCE: Final = 1000
"""Images of the validation split that networks are scored on at once."""

TOO_MUCH: Final = 1.5
"""Times the free memory from which an estimate is refused: it is rough."""


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
        real: images of the real batch, whose activations are kept.
        judged: images on which a network is scored at once.
        learned: bytes of what is learned.
        seconds: that the work may take, compiling included; None for no limit.
        mode: in which steps are pulled back.
    """

    learner: Learner
    image_shape: tuple[int, int, int]
    networks: int
    images: int
    steps: float = 0
    differentiated: bool = False
    stored: int = 1
    scored: float = 0
    real: int = 0
    judged: int = 0
    learned: int = 0
    seconds: float | None = None
    mode: Mode = "reverse-over-forward"

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
            self.learner.module(self.zeros(2))  # normalisation over the batch needs a spread
        return images * float(counter.get_total_flops()) / 2

    def peaks(self) -> Peaks:
        """What the learner's functions take on images."""
        return peaks_of(self.learner, self.image_shape, self.mode, self.flops(1), pulled=self.differentiated)

    def zeros(self, images: int) -> Tensor:
        """So many empty images (images, C, H, W)."""
        return torch.zeros(images, *self.image_shape, device=self.device, dtype=torch.float32)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How the kernels are to run for a piece of work."""

    work: Work
    execution: Execution
    why: str = ""

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
    option: str = "--compile=on",
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
    compiled, why = compile == "on", f" because of {option}"
    if compile == "auto":
        compiled, why = (False, f" without {missing}") if missing else _compiling_pays(work, compilable)
    if compiled and (broken := compiler_broken(work.device)) is not None:
        if compile == "on":
            raise LimbeckError(f"{option} needs a compiler that works, but {broken}; leave that option out.")
        compiled, why = False, f": {broken}"
    if compiled:
        use_compile_cache()
        note(_compiled_key(work), 1)
    execution = replace(
        base or Execution(),
        compiled=compiled,
        chunk=at_once or _count_at_once(work, compiled, most),
        score_chunk=1 if _scores_one_by_one(work) else None,
    )
    return Plan(work=work, execution=execution, why=why)


def _compiling_pays(work: Work, compilable: bool) -> tuple[bool, str]:
    """Whether what compiling takes is won back, and why."""
    if not compilable:
        return False, " because this method runs each kernel too seldom to compile it"
    scoring = work.scored > 0 and work.small and work.scored * work.flops(1) >= COMPILE_FROM
    if work.steps < COMPILE_PAYS_AFTER and not scoring:
        return False, f" because {work.steps:,.0f} training steps are too few to win compiling back"
    if work.seconds is None:
        return True, f" because of {work.steps:,.0f} training steps"
    cost, where = (
        (WARM_SECONDS, "from the cache") if recall(_compiled_key(work)) else (COLD_SECONDS, "for the first time")
    )
    pays = WORTH_SECONDS * cost <= work.seconds
    share = "at most" if pays else "more than"
    return pays, f" because compiling {where} takes some {cost} s, {share} half of {work.seconds:g} s"


def _compiled_key(work: Work) -> str:
    """Under which it is noted that kernels are in the cache."""
    return f"compiled {structure_of(work.learner)} {work.image_shape} {work.images} {work.real}"


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


def estimate_memory(work: Work, at_once: int, peaks: Peaks | None = None) -> int:
    """Bytes that the work takes at its peak: states, what is learned, and the costliest of its functions on a chunk.

    What is learned is there once with Adam's state, in two older states, and as a gradient for each network. What the
    allocator keeps, and buffers of libraries, come on top.
    """
    parameters = sum(p.numel() * p.element_size() for p in work.learner.module.parameters())
    state = parameters * (1 + len(_states_of(work.learner)))
    pull, real, predict = peaks or work.peaks()
    scored_at_once = 1 if _scores_one_by_one(work) else at_once
    most = max(
        at_once * (pull if work.differentiated else real).at(work.images),
        at_once * real.at(work.real),
        scored_at_once * predict.at(work.judged),
    )
    learned = (2 * work.networks + 12) * work.learned
    return int(work.networks * (work.stored * state + 2 * state) + learned + most)


def _states_of(learner: Learner) -> list[str]:
    """What the inner optimiser keeps for each parameter, for one parameter."""
    name, value = next(iter(trainable_parameters(learner.module).items()))
    state = learner.optimizer.init({name: value.detach()})
    return [key for key, tensor in state.items() if tensor.shape == value.shape]


def plan_distilling(config: Config, learners: Sequence[Learner], data: TaskData, reporter: Reporter) -> Plan:
    """How a run is computed, for the costliest of its learners, with its ``auto`` settings resolved.

    The same machine, learner and configuration always get the same answer.

    Raises:
        LimbeckError: compiling is asked for, and the compiler is missing; much more memory is needed than there is.
    """
    engine, outer = config.engine, config.outer
    works = [_work_of(config, learner, data) for learner in learners]
    costs = [work.flops(1) for work in works]
    work = works[costs.index(max(costs))]
    plan = plan_work(
        work,
        compile=engine.compile,
        compilable=config.method.compilable,
        at_once=engine.chunk,
        base=Execution(mode=engine.mode),
    )
    _check_memory(config, plan, data, reporter)
    if plan.execution.compiled:
        reporter.message(
            f"compiling the step, its pull-back and the real batch{plan.why} (20-60 s, from the cache 5-10 s)"
        )
    elif engine.compile == "auto":
        reporter.message(f"eager{plan.why}")
    if not config.method.learns_steps:  # no real batch is differentiated through a trained network
        return plan
    if engine.bfloat16 != "auto":
        on = engine.bfloat16 == "on"
        return replace(plan, execution=replace(plan.execution, bfloat16=on, channels_last=on))

    def measure() -> int:
        reporter.message(f"measuring once how a real batch of {outer.real_batch} images runs fastest here")
        return fastest_real_batch(plan.execution, work.learner, data, outer.real_batch)

    key = f"{structure_of(work.learner)} {tuple(data.image_shape)} {outer.real_batch} {plan.execution.chunk}"
    short = outer.max_time is not None and outer.max_time < MEASURE_FROM
    winner = (recall(key) or 0) if short else remember(key, measure)
    return replace(plan, execution=replace(plan.execution, **REAL_BATCHES[winner]))


def _work_of(config: Config, learner: Learner, data: TaskData) -> Work:
    """What a run asks of one of its learners."""
    outer = config.outer
    images = config.batch_size(data.num_classes)
    batches = config.source.steps if isinstance(config.source, PixelConfig) else 0
    return Work(
        learner=learner,
        image_shape=data.image_shape,
        networks=outer.inits,
        images=images,
        steps=outer.iterations * outer.inits * (config.inner_steps + REAL_BATCH_STEPS),
        differentiated=True,
        stored=config.method.stored_states(config.inner_steps),
        real=outer.real_batch_end or outer.real_batch,
        judged=min(SCORED_AT_ONCE, len(data.val_y)),
        learned=4 * batches * images * math.prod(data.image_shape),
        seconds=outer.max_time,
        mode=config.engine.mode,
    )


def _check_memory(config: Config, plan: Plan, data: TaskData, reporter: Reporter) -> None:
    """Tell when a run may need more memory than is free; raise LimbeckError when it is far more."""
    free, needed = free_memory(str(data.train_x.device)), plan.memory
    if free is None or needed <= free:
        return
    sizes = f"may need {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free"
    if needed <= TOO_MUCH * free:
        reporter.message(f"this {sizes}: fewer --inits, a --chunk of 1 or a larger --store-every need less")
        return
    raise LimbeckError(f"This {sizes}; {_what_fits(config, plan, data, free)}.")


def _what_fits(config: Config, plan: Plan, data: TaskData, free: int) -> str:
    """The largest value of each size with which alone a run would fit, in words."""
    parts = {"ipc": "source", "batch": "source", "steps": "source", "inits": "outer", "real_batch": "outer"}
    fitting, peaks = [], plan.work.peaks()
    for name, part in parts.items():
        least, most = 0, getattr(getattr(config, part), name, 0)  # least fits, as far as is known, and most does not
        while most - least > 1:
            middle = (least + most) // 2
            try:
                smaller = replace(config, **{part: replace(getattr(config, part), **{name: middle})})
            except LimbeckError:  # such as inner steps that cannot be halved so often
                least = 0
                break
            work = _work_of(smaller, plan.work.learner, data)
            chunk = config.engine.chunk or _count_at_once(work, plan.execution.compiled, MOST_AT_ONCE)
            fits = estimate_memory(work, chunk, peaks) <= free
            least, most = (middle, most) if fits else (least, middle)
        if least:
            fitting.append(f"--{name.replace('_', '-')} {least}")
    if fitting:
        return f"{' or '.join(fitting)} would fit, or a machine with more of it"
    return "use a smaller network, or reduce --inits, --steps, --ipc and --real-batch together"


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
