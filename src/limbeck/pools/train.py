"""Train many networks at once and keep them as a pool: initial weights for adaptation, attacks and fine-tuning.

Each network has its own initial weights and its own order of the training images; a group of them takes every step
together. Shapes: n networks, G networks of a group, M images a step.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from limbeck.common.files import read_json, read_tensors, write_json, write_tensors
from limbeck.data import TaskData
from limbeck.engine import Adam, Batch, Execution, Kernels, Learner, RealLoss, State, Tensors, with_prefix
from limbeck.errors import LimbeckError, unknown
from limbeck.evaluation.train_and_score import concatenate, score
from limbeck.experiment.execution import compiler_missing, default_chunk, use_compile_cache, versions
from limbeck.experiment.progress import interruptible
from limbeck.models import build, distribution_names, draw, load_card, load_pool, save_pool
from limbeck.outer.checkpoint import generator

GROUPS = range(25, 9, -1)
"""Sizes of a group of small networks, the liked ones first; beyond 25 nothing is gained per network."""

COMPILE_PAYS_AFTER = 20_000
"""Training steps, over all networks, from which compiling is won back."""

WARMUP = 50
"""Steps over which the rate rises before it falls as a cosine."""


@final
@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """How the networks of a pool are trained: Adam (Kingma and Ba 2015), its rate falling to zero as a cosine.

    Args:
        learner: as in ``Config``.
        n: networks.
        steps: training steps of each.
        batch: images a step, drawn with replacement, for each network its own.
        lr: Adam's rate at its highest.
        weight_decay: added to the gradient times the weights.
        distribution: of the initial weights.
        group: networks that are trained together; chosen from the learner's size by default.
        compile: compile the training step; ``auto`` does where that pays.
        seed: of initial weights and batches.
        val_size: training images that are set aside.
    """

    learner: str = "lenet"
    n: int = 50
    steps: int = 2000
    batch: int = 32
    lr: float = 0.003
    weight_decay: float = 0.0
    distribution: str = "xavier"
    group: int | None = None
    compile: Literal["auto", "on", "off"] = "auto"
    seed: int = 0
    val_size: int = 5000

    def __post_init__(self) -> None:
        for name in ("n", "steps", "batch", "val_size", "group"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LimbeckError(f"{name} is {value}; it must be at least 1.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise LimbeckError(f"lr is {self.lr}; it must be a positive number.")
        if not 0 <= self.weight_decay < math.inf:
            raise LimbeckError(f"weight_decay is {self.weight_decay}; it must not be negative.")
        for name, known in (("distribution", distribution_names()), ("compile", ("auto", "on", "off"))):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)


@final
@dataclass(frozen=True, kw_only=True)
class PoolProgress:
    """Where a pool of ``total`` is: ``networks`` are finished, ``step`` of ``steps`` taken in a group of ``group``."""

    total: int
    networks: int
    group: int
    step: int
    steps: int

    @property
    def done(self) -> float:
        """Networks' worth of work."""
        return self.networks + self.group * self.step / self.steps


Watch: TypeAlias = Callable[[PoolProgress], None]


@final
@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool and its card: ``states`` are {name: (n, *shape)}."""

    states: Tensors
    card: dict[str, Any]


def make_pool(
    config: PoolConfig,
    data: TaskData,
    out: str | Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    watch: Watch = lambda progress: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Pool | None:
    """Train ``config.n`` networks on ``data`` and write them to ``out``, a ``.safetensors`` file.

    What is finished lies in ``out.parts`` until then, so that a stopped pool goes on where it was, ``resume``; one that
    is finished is opened. A pool that is replaced stays until the new one is there.

    Returns:
        The pool; None if someone stopped it (Ctrl-C or SIGTERM): go on with ``resume``.

    Raises:
        LimbeckError: a pool is there already and neither ``resume`` nor ``overwrite`` is set; nothing to resume, or
            parts of another pool; a learner that does not fit the data.
    """
    out = Path(out)
    config = dataclasses.replace(config, val_size=len(data.val_y))
    parts = _Parts(out, config, data)
    if resume and parts.saved():
        pool = open_pool(out)
        parts.check(pool.card, str(out))
        parts.remove()
        return pool
    parts.check_place(resume=resume, overwrite=overwrite)
    training = _Training(config, data.to(device), device, tell)
    parts.prepare(training.compiled, resume=resume, tell=tell)
    finished = 0
    with interruptible() as stop:
        for index, size in enumerate(training.sizes):
            if not parts.has(index):
                begun, before = time.monotonic(), parts.seconds()
                unfinished = parts.unfinished(index)
                for state, step in training.steps(index, size, unfinished):
                    watch(PoolProgress(total=config.n, networks=finished, group=size, step=step, steps=config.steps))
                    if stop.requested and step < config.steps:
                        parts.interrupt(index, state, step, before + time.monotonic() - begun)
                        return None
                accuracy = training.scored("val", state.network)
                parts.finish(index, state.network, accuracy, before + time.monotonic() - begun)
            finished += size
            if stop.requested and index + 1 < len(training.sizes):
                return None
    begun = time.monotonic()
    networks, accuracy = parts.gathered(len(training.sizes))
    card = {
        "data": {
            "name": data.name,
            "sha256": data.sha256,
            "source": data.source or data.name,
            "split_seed": parts.split_seed,
        },
        "shape": list(data.image_shape),
        "classes": list(data.class_names),
        "config": dataclasses.asdict(config),
        "validation_accuracy": accuracy,
        "test_accuracy": training.scored("test", networks),
        "seconds": round(parts.seconds() + time.monotonic() - begun, 1),
        "versions": versions(device),
    }
    save_pool(out, networks, card)
    parts.remove()
    for index, value in enumerate(accuracy):
        if not value > 200 / data.num_classes:
            tell(f"network {index} did not learn ({value:.1f} % on validation data): try a lower --lr")
    return Pool(states=networks, card=card)


def open_pool(path: Path) -> Pool:
    """A pool from its file.

    Raises:
        LimbeckError: no such file, a damaged one, or a pool that ``limbeck pool make`` did not write.
    """
    card = open_card(path)
    return Pool(states=load_pool(path)[0], card=card)


def open_card(path: Path) -> dict[str, Any]:
    """The card of a pool, without its networks; raises LimbeckError as ``open_pool``."""
    card = load_card(path)
    missing = [name for name in ("data", "shape", "classes", "config") if name not in card]
    if missing:
        raise LimbeckError(f"The pool {path} has no {missing[0]} on its card; make it with 'limbeck pool make'.")
    return card


def begun(out: Path) -> bool:
    """Whether there is a pool or parts of one, for ``make_pool`` to go on with."""
    return out.is_file() or _mark(out).is_file()


def threads_of(out: Path) -> int | None:
    """CPU threads that an unfinished pool was begun with; None where there is none."""
    mark = _mark(out)
    threads: int | None = read_json(mark).get("computed", {}).get("threads") if mark.is_file() else None
    return threads


def kept_apart(networks: int) -> tuple[int, int]:
    """How many of a pool's networks to keep for the score, and for selection, where nobody says."""
    return min(50, max(1, networks // 4)), min(20, max(1, networks // 8))


@final
class _Training:
    """The groups of a pool and how one of them is trained."""

    def __init__(self, config: PoolConfig, data: TaskData, device: str, tell: Callable[[str], None]) -> None:
        self.config, self.data = config, data
        module = build(config.learner, shape=data.image_shape, num_classes=data.num_classes).to(device)
        learner = adam_learner(module)
        self.module = module
        small = default_chunk(learner, data, config.batch) > 1
        self.sizes = group_sizes(config.n, config.group or (None if small else 1))
        self.compiled = compiled = config.compile == "on" or (
            config.compile == "auto" and config.n * config.steps >= COMPILE_PAYS_AFTER and not compiler_missing(device)
        )
        if compiled:
            tell("compiling the training step (20-60 s, from the cache 5-10 s)")
            use_compile_cache()
        chunk = max(self.sizes)
        self.kernels = Kernels(learner, RealLoss(), Execution(chunk=chunk, compiled=compiled))
        self.judge = Kernels(learner, RealLoss(), Execution(chunk=min(10, chunk), compiled=compiled and small))

    @torch.no_grad()
    def steps(self, index: int, size: int, unfinished: tuple[State, int] | None) -> Iterator[tuple[State, int]]:
        """The states of a group after each of its steps, from where it was left."""
        config, data = self.config, self.data
        rng = generator(config.seed, f"pool group {index}")
        states = self.kernels.init(draw(self.module, config.distribution, size, rng))
        done = 0
        if unfinished is not None:
            states, done = unfinished[0].each(lambda value: value.to(data.train_x.device)), unfinished[1]
        for step in range(config.steps):
            chosen_GM = torch.randint(len(data.train_y), (size, config.batch), generator=rng)
            if step < done:  # the stream of batches goes on from there
                continue
            batch = adam_batch(data, chosen_GM.to(data.train_y.device), self._rate(step), config.weight_decay)
            states = self.kernels.step_each(states, batch)
            yield states, step + 1

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / WARMUP)
        return self.config.lr * warm * 0.5 * (1 + math.cos(math.pi * step / self.config.steps))

    def scored(self, split: Literal["val", "test"], networks: Tensors) -> list[float]:
        """Accuracy of each network on a split."""
        networks = {name: value.to(self.data.train_x.device) for name, value in networks.items()}
        batches = self.data.split_batches(split, 1000)
        accuracy: list[float] = score(self.judge, networks, batches, self.data.num_classes).accuracy_B.tolist()
        return accuracy


def adam_learner(module: nn.Module) -> Learner:
    """The network as Adam trains it on real data."""
    # Epsilon is inside the root: 1e-16 is torch's 1e-8.
    return Learner.of(module, Adam(epsilon=1e-16))


def adam_batch(data: TaskData, chosen_GM: Tensor, rate: float, weight_decay: float) -> Batch:
    """Training images (G, M, C, H, W) by number, for each of G networks its own, and what Adam needs for a step."""
    x_GMCHW = data.preprocessing.apply(data.train_x[chosen_GM])
    y_GMK = one_hot(data.train_y[chosen_GM], data.num_classes).to(x_GMCHW.dtype)
    values = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "weight_decay": weight_decay}
    return Batch(x_GMCHW, y_GMK, {name: x_GMCHW.new_full((len(chosen_GM),), value) for name, value in values.items()})


def group_sizes(n: int, group: int | None) -> list[int]:
    """Networks of each group: of the size that is asked for, or one that leaves no group of another size."""
    size = group or next((size for size in GROUPS if n % size == 0), min(n, 20))
    full, rest = divmod(n, size)
    return [size] * full + [rest] * (rest > 0)


def _mark(out: Path) -> Path:
    """Says what lies beside it; parts without it belong to nothing."""
    return out.with_name(f"{out.name}.parts") / "pool.json"


@final
class _Parts:
    """The groups that are finished, and the one that is not, in a folder beside the pool."""

    def __init__(self, out: Path, config: PoolConfig, data: TaskData) -> None:
        self.out, self.mark = out, _mark(out)
        self.folder = self.mark.parent
        self.split_seed = config.seed if data.split_seed is None else data.split_seed
        values = dataclasses.asdict(config)
        del values["compile"]
        self.wanted = {"config": values, "data": data.sha256, "split_seed": self.split_seed}

    def saved(self) -> bool:
        """Whether the pool is written; a kill may have left something of its parts, but not their mark."""
        return self.out.is_file() and not self.mark.is_file()

    def check_place(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a place that holds something else; nothing is changed yet."""
        if self.out.suffix != ".safetensors":
            raise LimbeckError(f"--out is {self.out}; a pool is a file whose name ends in .safetensors.")
        if self.folder.exists() and not self._ours():
            raise LimbeckError(f"{self.folder} holds no parts of a pool; move it away, or choose another --out.")
        if resume:
            if not self.mark.is_file():
                raise LimbeckError(f"{self.out} was not begun yet; begin it without --resume.")
            begun = {"split_seed": self.wanted["split_seed"]} | read_json(self.mark)  # older marks do not name it
            if {name: begun.get(name) for name in self.wanted} != self.wanted:
                raise LimbeckError(f"{self.folder} holds parts of another pool; go on with the same, or --overwrite.")
        elif self.mark.is_file() and not overwrite:
            raise LimbeckError(f"{self.folder} holds an unfinished pool; go on with --resume, or --overwrite it.")
        elif self.out.exists() and not overwrite:
            raise LimbeckError(f"{self.out} is there already; replace it with --overwrite, or choose another --out.")

    def prepare(self, compiled: bool, *, resume: bool, tell: Callable[[str], None]) -> None:
        """Make the folder, empty unless it is gone on with."""
        computed: dict[str, Any] = {"threads": torch.get_num_threads(), "compiled": compiled}
        if not resume:
            self.remove()
            write_json(self.mark, self.wanted | {"computed": computed})
        elif (before := read_json(self.mark).get("computed")) not in (None, computed):
            changed = f"begun {_how(before)} and goes on {_how(computed)}"
            tell(f"the pool was {changed}: equal to rounding, not bit for bit")

    def check(self, card: dict[str, Any], where: str) -> None:
        """Refuse a finished pool that was made otherwise."""
        found = {name: value for name, value in card["config"].items() if name != "compile"}
        known = card["data"]
        split_seed = known.get("split_seed", self.split_seed)  # pools of 0.1's beginnings do not say
        if {"config": found, "data": known["sha256"], "split_seed": split_seed} != self.wanted:
            raise LimbeckError(f"{where} was made otherwise; choose another --out, or replace it with --overwrite.")

    def has(self, index: int) -> bool:
        """Whether a group is finished."""
        return self._path(index).is_file()

    def finish(self, index: int, networks: Tensors, accuracy: list[float], seconds: float) -> None:
        """Keep a group."""
        write_tensors(self._path(index), networks, {"accuracy": accuracy})
        write_json(self.folder / "seconds.json", seconds)
        (self.folder / "unfinished.safetensors").unlink(missing_ok=True)

    def interrupt(self, index: int, state: State, step: int, seconds: float) -> None:
        """Keep a group that is not finished."""
        tensors = {f"{kind}.{name}": v for kind, f in zip(State._fields, state, strict=True) for name, v in f.items()}
        write_tensors(self.folder / "unfinished.safetensors", tensors, {"group": index, "step": step})
        write_json(self.folder / "seconds.json", seconds)

    def unfinished(self, index: int) -> tuple[State, int] | None:
        """The state of a group that was not finished and the steps that it took, if it is this one."""
        path = self.folder / "unfinished.safetensors"
        if not path.is_file():
            return None
        tensors, told = read_tensors(path)
        if told.get("group") != index:
            return None
        return State(*(with_prefix(tensors, f"{kind}.") for kind in State._fields)), int(told["step"])

    def seconds(self) -> float:
        """Spent so far."""
        path = self.folder / "seconds.json"
        return float(read_json(path)) if path.is_file() else 0.0

    def gathered(self, groups: int) -> tuple[Tensors, list[float]]:
        """All networks and their accuracies."""
        found = [read_tensors(self._path(index)) for index in range(groups)]
        return concatenate([tensors for tensors, _ in found]), [a for _, told in found for a in told["accuracy"]]

    def remove(self) -> None:
        """Let the parts go, their mark first: what a kill leaves then is not taken for the parts of a pool."""
        if self.folder.exists() and self._ours():
            self.mark.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _ours(self) -> bool:
        """Whether the folder holds nothing but what is written here."""
        names = r"\.?(\d{5}|unfinished)\.safetensors(\.part)?|\.?(pool|seconds)\.json(\.part)?"
        return self.folder.is_dir() and all(re.fullmatch(names, path.name) for path in self.folder.iterdir())

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:05d}.safetensors"


def _how(computed: dict[str, Any]) -> str:
    return f"with {computed['threads']} thread(s) {'compiled' if computed['compiled'] else 'eager'}"
