"""The parts of a configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, final

import tyro

from limbeck.common.idle import refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.engine import Group, Relabelled
from limbeck.errors import LimbeckError, unknown
from limbeck.models import distribution_names


@final
@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Which initial weights the images are learned for.

    Args:
        init: ``random`` draws new weights in every outer iteration, ``fixed`` keeps one θ₀ drawn from ``init_seed``,
            ``pool:PATH`` samples from a pool of trained networks, as ``limbeck pool make`` writes it.
        distribution: distribution of the weights. ``auto`` is Xavier's normal one as in Wang et al. 2018, and for
            networks of your own what their constructor draws.
        gain: factor on its standard deviation, > 0.
        init_seed: seed of the fixed θ₀.
        held_out: how many networks of a pool are kept for evaluation; as many more as validation needs are kept for
            that, the others are trained on.
        network: the number of one network of the pool, counted from 0, as a fixed θ₀; the whole pool by default.
        pool_sha256: digest of the pool's networks, recorded when a run begins; later other networks are refused.
    """

    init: str = "random"
    distribution: str = "auto"
    gain: float = 1.0
    init_seed: int = 0
    held_out: int = 20
    network: int | None = None
    pool_sha256: Annotated[str | None, tyro.conf.Suppress] = None

    def __post_init__(self) -> None:
        check_types(self)
        if self.init not in ("random", "fixed") and not self.init.startswith("pool:"):
            raise unknown("kind of initial weights", self.init, ["random", "fixed", "pool:PATH"])
        check_known(self, "distribution", distribution_names())
        check_positive(self, "gain", "held_out")
        if self.network is not None and not self.pooled:
            raise LimbeckError(f"network is {self.network}, but init {self.init} is no pool to take it from.")
        if self.network is not None and self.network < 0:
            raise LimbeckError(f"network is {self.network}; the networks of a pool are counted from 0.")
        if not self.pooled:
            refuse_idle_fields(self, "held_out", why=f"with init {self.init}, which has no pool", fix="name a pool")
        if self.init != "fixed":
            refuse_idle_fields(self, "init_seed", why=f"with init {self.init}", fix="choose init fixed")

    @property
    def pooled(self) -> bool:
        """Whether initial weights come from a pool."""
        return self.init.startswith("pool:")

    @property
    def pool(self) -> Path:
        """The pool's file."""
        return Path(self.init.removeprefix("pool:"))

    @property
    def fixed(self) -> bool:
        """Whether there is a single θ₀."""
        return self.init == "fixed" or self.network is not None


@final
@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Which class trained networks are to take for which other one (see ``engine.Relabelled``).

    Args:
        source: index of the class K that is to be misclassified.
        target: index of the class T that it is to be taken for.
        keep: weight of the other classes in the objective; None for the paper's, where every example counts the same.
    """

    source: int
    target: int
    keep: float | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("source", "target"):
            if getattr(self, name) < 0:
                raise LimbeckError(f"The {name} class is {getattr(self, name)}; classes are counted from 0.")
        if self.source == self.target:
            raise LimbeckError(f"The source and the target class are both {self.source}; an attack needs two classes.")
        if self.keep is not None and not 0 <= self.keep < math.inf:
            raise LimbeckError(f"keep is {self.keep}; it must not be negative.")

    @property
    def objective(self) -> Relabelled:
        """What the engine minimises."""
        return Relabelled(source=self.source, target=self.target, keep=self.keep)


@final
@dataclass(frozen=True, kw_only=True)
class OuterConfig:
    """The outer loop: Adam on everything that is learned.

    Args:
        iterations: outer iterations.
        max_time: stop after this many seconds of work, preparing and compiling included, once what has begun is over;
            they count over all sittings, and the schedule follows whichever budget is further spent.
        inits: initial weights an iteration averages over.
        real_batch: real training images an iteration looks at.
        real_batch_end: the batch grows geometrically to this size; constant by default.
        lr_images: Adam's rate on the images, in units of the normalised pixels, or on a generator's weights and noise.
        lr_noise: Adam's rate on a generator's learned noise, whose entries are of size 1; ``lr_images`` by default.
        lr_labels: Adam's rate on the logits of learned labels.
        lr_steps: Adam's rate on the unconstrained step sizes and other learned hyper-parameters.
        beta1: Adam's first decay rate.
        beta2: Adam's second decay rate.
        warmup: iterations of linear warm-up.
        schedule: how the rates fall.
        decay_every: iterations between decays of the ``step`` schedule.
        decay: factor of each such decay.
        clip_init: largest global gradient norm of one init, before averaging.
        clip: largest global norm of the average.
        validate_every: iterations between validations; the best state by validation accuracy is kept.
        grow: doublings of the number of inner steps T during the first half of the budget, to shorten its iterations
            and to learn early steps first: 3 starts with T/8. Adam starts anew at each doubling.
        validate_inits: held-out initial weights for validation.
        calibrate_inits: at the end, scale all step sizes by the factor from 0.7 to 1 that validation over so many
            held-out initial weights likes best; 0 leaves them as they were learned. Learning takes step sizes to the
            edge of stability, where one init in many still diverges. Not for a pool, which keeps no networks for it.
        max_rollbacks: how often a diverged run goes back to its last good state before it gives up.
    """

    iterations: int = 2000
    max_time: float | None = None
    inits: int = 8
    real_batch: int = 256
    real_batch_end: int | None = None
    lr_images: float = 0.05
    lr_noise: float | None = None
    lr_labels: float = 0.05
    lr_steps: float = 0.01
    beta1: float = 0.5
    beta2: float = 0.999
    warmup: int = 20
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    decay_every: int = 1000
    decay: float = 0.5
    clip_init: float | None = 0.5
    clip: float | None = None
    validate_every: int = 100
    validate_inits: int = 16
    grow: int = 0
    calibrate_inits: int = 0
    max_rollbacks: int = 5

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(
            self, "iterations", "inits", "real_batch", "validate_every", "validate_inits", "decay_every", "decay"
        )
        check_positive(self, "lr_images", "lr_labels", "lr_steps")
        for name in ("max_time", "real_batch_end", "lr_noise", "clip_init", "clip"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")
        for name in ("warmup", "max_rollbacks", "calibrate_inits", "grow"):
            if not getattr(self, name) >= 0:
                raise LimbeckError(f"{name} is {getattr(self, name)}; it must not be negative.")
        if self.real_batch_end is not None and self.real_batch_end < self.real_batch:
            raise LimbeckError(
                f"real_batch_end is {self.real_batch_end}; the batch grows, so it must be at least {self.real_batch}."
            )
        check_known(self, "schedule", ("cosine", "step", "constant"))
        if self.schedule != "step":
            why = f"with schedule {self.schedule}"
            refuse_idle_fields(self, "decay_every", "decay", why=why, fix="choose schedule step")

    def rate_of(self, group: Group) -> float:
        """Adam's rate on the parameters of a group."""
        rates: dict[Group, float] = {
            "images": self.lr_images,
            "noise": self.lr_noise or self.lr_images,
            "labels": self.lr_labels,
            "steps": self.lr_steps,
        }
        return rates[group]


@final
@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How it is computed; results agree to rounding whatever is chosen.

    Args:
        mode: order of differentiation of a step's pull-back.
        compile: compile the kernels; ``auto`` does where a C++ compiler is there and the run is long enough to pay.
        bfloat16: autocast the real batch; ``auto`` measures once per machine and learner and remembers it.
        chunk: initial weights computed at once; chosen from the learner's size by default.
    """

    mode: Literal["forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"] = "reverse-over-forward"
    compile: Literal["auto", "on", "off"] = "auto"
    bfloat16: Literal["auto", "on", "off"] = "auto"
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        check_known(self, "mode", ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"))
        check_known(self, "compile", ("auto", "on", "off"))
        check_known(self, "bfloat16", ("auto", "on", "off"))
        if self.chunk is not None:
            check_positive(self, "chunk")


def check_known(config: Any, name: str, values: tuple[str, ...]) -> None:
    """Raise LimbeckError unless a field has one of these values."""
    if getattr(config, name) not in values:
        raise unknown(name, str(getattr(config, name)), values)


def check_positive(config: Any, *names: str) -> None:
    """Raise LimbeckError unless all of these fields are positive numbers."""
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise LimbeckError(f"{name} is {value}; it must be a positive number.")
