"""The complete, frozen description of a distillation: what `distill` runs and what the artefact records."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, final

import tyro

from limbeck.engine import GeneratorConfig, InnerConfig, PixelConfig, Relabelled, adjoint_names
from limbeck.errors import LimbeckError, unknown
from limbeck.models import distribution_names

T = TypeVar("T")


@final
@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Which initial weights the images are learned for.

    Args:
        init: ``random`` draws new weights in every outer iteration, ``fixed`` keeps one θ₀ drawn from ``init_seed``,
            ``pool:PATH`` samples from a pool of trained networks, as ``limbeck pool make`` writes it.
        distribution: distribution of the weights (``xavier`` normal as in Wang et al. 2018).
        gain: factor on its standard deviation, > 0.
        init_seed: seed of the fixed θ₀.
        held_out: how many networks of a pool are kept for evaluation; as many more as validation needs are kept for
            that, the others are trained on.
        network: the number of one network of the pool, counted from 0, as a fixed θ₀; the whole pool by default.
        pool_sha256: digest of the pool's networks, recorded when a run begins; later other networks are refused.
    """

    init: str = "random"
    distribution: str = "xavier"
    gain: float = 1.0
    init_seed: int = 0
    held_out: int = 20
    network: int | None = None
    pool_sha256: Annotated[str | None, tyro.conf.Suppress] = None

    def __post_init__(self) -> None:
        if self.init not in ("random", "fixed") and not self.init.startswith("pool:"):
            raise unknown("kind of initial weights", self.init, ["random", "fixed", "pool:PATH"])
        _known(self, "distribution", distribution_names())
        _positive(self, "gain", "held_out")
        if self.network is not None and not self.pooled:
            raise LimbeckError(f"network is {self.network}, but init {self.init} is no pool to take it from.")
        if self.network is not None and self.network < 0:
            raise LimbeckError(f"network is {self.network}; the networks of a pool are counted from 0.")

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
        max_time: also stop after this many seconds; the schedule then follows whichever budget is further spent.
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
        loss_every: also add up the loss after every so many inner steps; only after the last by default.
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
    loss_every: int | None = None
    calibrate_inits: int = 0
    max_rollbacks: int = 5

    def __post_init__(self) -> None:
        _positive(self, "iterations", "inits", "real_batch", "validate_every", "validate_inits", "decay_every", "decay")
        _positive(self, "lr_images", "lr_labels", "lr_steps")
        for name in ("max_time", "real_batch_end", "lr_noise", "clip_init", "clip", "loss_every"):
            if getattr(self, name) is not None:
                _positive(self, name)
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
        _known(self, "schedule", ("cosine", "step", "constant"))


@final
@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How it is computed; results agree to rounding whatever is chosen.

    Args:
        adjoint: how the unrolled training is differentiated.
        mode: order of differentiation of a step's pull-back.
        compile: compile the kernels; ``auto`` does where a C++ compiler is there and the run is long enough to pay.
        bfloat16: autocast the real batch; ``auto`` measures once per machine and learner and remembers it.
        chunk: initial weights computed at once; chosen from the learner's size by default.
        store_every: keep every n-th inner state.
    """

    adjoint: str = "remat"
    mode: Literal["forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"] = "reverse-over-forward"
    compile: Literal["auto", "on", "off"] = "auto"
    bfloat16: Literal["auto", "on", "off"] = "auto"
    chunk: int | None = None
    store_every: int = 1

    def __post_init__(self) -> None:
        if self.adjoint not in adjoint_names():
            raise unknown("adjoint", self.adjoint, adjoint_names())
        _known(self, "mode", ("forward-over-reverse", "reverse-over-forward", "reverse-over-reverse"))
        _known(self, "compile", ("auto", "on", "off"))
        _known(self, "bfloat16", ("auto", "on", "off"))
        _positive(self, "store_every")
        if self.chunk is not None:
            _positive(self, "chunk")


@final
@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that determines a run.

    Args:
        data: name of a data set, or path of an ``.npz`` file that holds ``x``, ``y`` and, if there is one, a test set
            ``x_test``, ``y_test`` (else a sixth is held out); options that change its images may follow, as in
            ``mnist,rotate=45,background=colour``.
        learner: lenet, alexcifarnet, convnet3, stridednet, mlp, linear, or ``package.module:function``, which is called
            with those of ``shape``, ``num_classes``, ``in_channels`` and ``image_size`` that it takes; options may
            follow, as in ``convnet3,width=32,depth=2``.
        family: further learners; each outer iteration trains one of them or ``learner``, drawn at random, so that what
            is learned does not depend on one architecture.
        weight_norm: write the learner's weights as length times direction (Salimans and Kingma 2016).
        augment_shift: in training the learner sees each image shifted at random by up to so many pixels.
        augment_flip: in training the learner sees half of the images mirrored.
        init: initial weights.
        source: what is learned: ``pixels``, a ``generator`` of images, or, over ``real`` images, hyper-parameters only.
        pixels: images that are learned one by one.
        generator: a network that makes them; ``real`` batches are as many and as large as its.
        inner: how the learner is trained on what is learned.
        attack: the class that is to be taken for another, for ``limbeck attack``; none for ordinary training sets.
        outer: the outer loop.
        engine: how it is computed.
        seed: seed of everything random.
        val_size: training examples set aside for all selection. Where the data is that of the pool of initial weights,
            changed by options or not, they are those that were set aside there, whatever this and ``seed`` say: the
            networks were trained on the others.
        split_seed: seed of which ones, where it is not ``seed``; recorded when a run begins.
        untrusted: names of code, ``package.module:function``, that come from a file and may not be imported.
    """

    data: str = "mnist"
    learner: str = "lenet"
    family: tuple[str, ...] = ()
    weight_norm: bool = False
    augment_shift: int = 0
    augment_flip: bool = False
    init: InitConfig = field(default_factory=InitConfig)
    source: Literal["pixels", "generator", "real"] = "pixels"
    pixels: PixelConfig = field(default_factory=PixelConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    attack: Annotated[AttackConfig | None, tyro.conf.Suppress] = None
    outer: OuterConfig = field(default_factory=OuterConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    seed: int = 0
    val_size: int = 5000
    split_seed: Annotated[int | None, tyro.conf.Suppress] = None
    untrusted: Annotated[frozenset[str], tyro.conf.Suppress] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        _positive(self, "val_size")
        if self.augment_shift < 0:
            raise LimbeckError(f"augment_shift is {self.augment_shift}; it must not be negative.")
        if not isinstance(self.data, str):
            raise LimbeckError(
                f"data is a {type(self.data).__name__}, not a name; give arrays as limbeck.distill(config, "
                "limbeck.load_data((x, y)))."
            )
        if not isinstance(self.learner, str):
            raise LimbeckError(
                f"learner is a {type(self.learner).__name__}, not a name; name the function that makes it, as "
                "package.module:function."
            )
        _known(self, "source", ("pixels", "generator", "real"))
        if self.weight_norm and self.init.gain != 1:
            raise LimbeckError(
                f"gain is {self.init.gain}, but with weight_norm the size of drawn weights means nothing; let it be 1."
            )
        self._refuse_what_does_nothing()
        if self.inner_steps >> self.outer.grow < 1:
            raise LimbeckError(f"grow is {self.outer.grow}: {self.inner_steps} inner steps cannot be halved so often.")
        if isinstance(self.family, str):
            raise LimbeckError(f"family is {self.family!r}; it must be a tuple of names, such as ({self.family!r},).")
        if self.generator.reconstruction > 0 and min(self.generator.batch, self.outer.real_batch) < 2:
            raise LimbeckError("reconstruction needs at least 2 images a batch; raise --batch and --real-batch.")
        if self.attack is not None and self.source != "pixels":
            raise LimbeckError(f"An attack learns images; its source must be pixels, not {self.source}.")
        if self.init.pooled and self.outer.calibrate_inits:
            raise LimbeckError(
                f"calibrate_inits is {self.outer.calibrate_inits}, but a pool keeps no networks for that besides those "
                "that validation has seen; leave it at 0."
            )
        if self.family and self.init.init != "random":
            raise LimbeckError(
                f"A family of learners needs random initial weights, not {self.init.init}: those are of one learner."
            )
        if self.init.fixed and self.outer.inits != 1:
            raise LimbeckError(
                f"inits is {self.outer.inits}, but a fixed initialisation is a single one; use inits = 1."
            )

    def _refuse_what_does_nothing(self) -> None:
        """Options of a source that is not the one."""
        if self.source != "pixels" and (changed := _changed(self.pixels)):
            raise LimbeckError(
                f"{', '.join(changed)} belong to learned images and do nothing with source {self.source}."
            )
        changed = _changed(self.generator)
        if self.source == "real":
            changed = [name for name in changed if name not in ("inner_steps", "batch")]
        if self.source != "generator" and changed:
            raise LimbeckError(
                f"{', '.join(changed)} belong to a generator and do nothing with source {self.source}; "
                "use --source generator."
            )
        if self.outer.lr_noise is not None and self.source == "generator" and self.generator.curriculum == "none":
            raise LimbeckError("lr_noise is the rate of learned noise, and without a curriculum there is none.")

    @property
    def split(self) -> int:
        """The seed with which data is split."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def learners(self) -> tuple[str, ...]:
        """All learners that are trained."""
        return (self.learner, *self.family)

    @property
    def inner_steps(self) -> int:
        """T, the steps that a learner is trained for."""
        return self.pixels.steps * self.pixels.epochs if self.source == "pixels" else self.generator.inner_steps

    def batch_size(self, classes: int) -> int:
        """M, the images of a step."""
        return self.pixels.ipc * classes if self.source == "pixels" else self.generator.batch

    @property
    def code(self) -> frozenset[str]:
        """Names that are imported and called when what they name is built: learners and a generator of one's own."""
        return code_among(*self.learners, self.generator.generator)

    @property
    def trusted(self) -> frozenset[str]:
        """Those of ``code`` that may be imported."""
        return self.code - self.untrusted

    def importable(self, name: str) -> str:
        """``name`` itself; raises LimbeckError for code that only a file names (see ``untrusted``)."""
        return importable(name, self.untrusted)

    def trusting(self, trust: bool | Collection[str]) -> Config:
        """The same with these names of code trusted: all of them, none, or those that are named."""
        left = frozenset() if trust is True else self.untrusted - frozenset(trust or ())
        return dataclasses.replace(self, untrusted=left)

    def to_json(self, folder: Path | None = None) -> dict[str, Any]:
        """Nested dicts of plain values; in the files of a folder a pool's path is relative to that folder."""
        values = dataclasses.asdict(self) | {"family": list(self.family)}
        del values["untrusted"]  # whoever reads the file decides for himself
        if folder is not None and self.init.pooled:
            relative = os.path.relpath(self.init.pool.resolve(), folder.resolve())
            values["init"]["init"] = f"pool:{Path(relative).as_posix()}"
        return values

    @classmethod
    def from_json(
        cls, values: dict[str, Any], folder: Path | None = None, *, trust: bool | Collection[str] = False
    ) -> Config:
        """Inverse of ``to_json`` for the same folder.

        What the file names of code is not imported later, unless ``trust`` says so: for all of it, or for these names.

        Raises:
            LimbeckError: fields that this version does not know, or values that do not fit.
        """
        if not isinstance(values, dict):
            raise LimbeckError(f"The recorded configuration is {values!r}; expected its fields by name.")
        nested = {
            "init": InitConfig,
            "pixels": PixelConfig,
            "generator": GeneratorConfig,
            "inner": InnerConfig,
            "attack": AttackConfig,
            "outer": OuterConfig,
            "engine": EngineConfig,
        }
        pixels = values.get("pixels")
        if "inner" not in values and isinstance(pixels, dict):  # until 0.1 the step sizes belonged to the pixels
            inner = {name: pixels[name] for name in ("lr", "lr_max") if name in pixels}
            values = {**values, "pixels": {k: v for k, v in pixels.items() if k not in inner}, "inner": inner}
        built: dict[str, Any] = {
            key: _build(nested[key], v) for key, v in values.items() if key in nested and v is not None
        }
        config = _build(cls, {**values, **built, "untrusted": frozenset()})
        config = dataclasses.replace(config, untrusted=config.code).trusting(trust)
        if folder is not None and config.init.pooled:
            found = (folder.resolve() / config.init.pool).resolve()
            if config.init.pool_sha256 is not None or found.is_file():  # until 0.1 paths were kept as given
                config = config.with_pool(found)
        return config

    def with_pool(self, path: Path) -> Config:
        """The same with its pool in another place."""
        return dataclasses.replace(self, init=dataclasses.replace(self.init, init=f"pool:{path}"))


def code_among(*names: str) -> frozenset[str]:
    """Those of the names that are code, ``package.module:function``, and not in a registry.

    >>> sorted(code_among("lenet", "mine:Net,width=3"))
    ['mine:Net,width=3']
    """
    return frozenset(name for name in names if ":" in name)


def importable(name: str, untrusted: Collection[str]) -> str:
    """``name`` itself; raises LimbeckError if it is among the untrusted ones."""
    if name in untrusted:
        raise LimbeckError(
            f"The file asks for code to be imported and run: '{name}'. If you know whose code that is, trust it with "
            "--trust (trust=True in Python), or name it again yourself."
        )
    return name


def _build(cls: type[T], values: dict[str, Any]) -> T:
    try:
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except (TypeError, AttributeError) as error:
        raise LimbeckError(f"The recorded configuration does not fit this version of Limbeck: {error}.") from None


def _changed(config: Any) -> list[str]:
    """Names of the fields that differ from their defaults."""
    return [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default]


def _known(config: Any, name: str, values: tuple[str, ...]) -> None:
    if getattr(config, name) not in values:
        raise unknown(name, str(getattr(config, name)), values)


def _positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise LimbeckError(f"{name} is {value}; it must be a positive number.")
