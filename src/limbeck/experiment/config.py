"""The complete, frozen description of a distillation: what `distill` runs and what the artefact records."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, final

import tyro

from limbeck.engine import GeneratorConfig, InnerConfig, PixelConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.parts import AttackConfig, EngineConfig, InitConfig, OuterConfig, check_known, check_positive

T = TypeVar("T")


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
        check_positive(self, "val_size")
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
        check_known(self, "source", ("pixels", "generator", "real"))
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
