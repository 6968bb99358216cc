"""The complete, frozen description of a distillation: what `distill` runs and what the artefact records."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, final

import tyro

from limbeck.common.files import relative_path
from limbeck.common.idle import IdleOptionError, refuse_idle_fields
from limbeck.common.typed import check_types
from limbeck.data.sources import absolute_source, relative_source
from limbeck.engine import InnerConfig, PixelConfig, SourceConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.parts import AttackConfig, EngineConfig, InitConfig, OuterConfig, check_positive
from limbeck.experiment.recorded import (
    Unread,
    code_among,
    construct,
    decode_member,
    encode,
    importable,
    kinds_within,
    read_again,
    upgrade,
)
from limbeck.methods import MethodConfig, UnrolledConfig
from limbeck.models.given import LearnerLike, copy_learner, given_word, name_learner, refuse_given


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
        source: what is learned: images one by one, a generator of them, or, over real images, hyper-parameters only.
        method: how a gradient on it is had.
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
        given: what was given in Python for names of learners, such as ``<MyNet given in Python>``; recorded nowhere.
    """

    data: str = "mnist"
    learner: str = "lenet"
    family: tuple[str, ...] = ()
    weight_norm: bool = False
    augment_shift: int = 0
    augment_flip: bool = False
    init: InitConfig = field(default_factory=InitConfig)
    source: SourceConfig = field(default_factory=PixelConfig)
    method: MethodConfig = field(default_factory=UnrolledConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    attack: Annotated[AttackConfig | None, tyro.conf.Suppress] = None
    outer: OuterConfig = field(default_factory=OuterConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    seed: int = 0
    val_size: int = 5000
    split_seed: Annotated[int | None, tyro.conf.Suppress] = None
    untrusted: Annotated[frozenset[str], tyro.conf.Suppress] = field(default=frozenset(), compare=False, repr=False)
    given: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            raise LimbeckError(
                f"data is a {type(self.data).__name__}, not a name; give arrays as limbeck.distill(config, "
                "limbeck.load_data((x, y)))."
            )
        if not isinstance(self.learner, str):
            raise LimbeckError(
                f"learner is a {type(self.learner).__name__}, not a name; give it as limbeck.distill(data, learner) "
                "or config.with_learner(learner)."
            )
        for name, base, such in (
            ("source", SourceConfig, "PixelConfig(steps=1)"),
            ("method", MethodConfig, "UnrolledConfig()"),
        ):
            if not isinstance(getattr(self, name), base):
                raise LimbeckError(f"{name} is {getattr(self, name)!r}; it must be a config of one, such as {such}.")
        if isinstance(self.family, str):
            raise LimbeckError(f"family is {self.family!r}; it must be a tuple of names, such as ({self.family!r},).")
        check_types(self)
        check_positive(self, "val_size")
        if self.augment_shift < 0:
            raise LimbeckError(f"augment_shift is {self.augment_shift}; it must not be negative.")
        if not self.method.learns_steps:
            self._leave_out_steps()
        if self.weight_norm and self.init.gain != 1:
            raise LimbeckError(
                f"gain is {self.init.gain}, but with weight_norm the size of drawn weights means nothing; let it be 1."
            )
        unread = isinstance(self.source, Unread)  # then nobody can tell yet
        if not unread and self.inner_steps >> self.outer.grow < 1:
            raise LimbeckError(f"grow is {self.outer.grow}: {self.inner_steps} inner steps cannot be halved so often.")
        self.source.check_real_batch(self.outer.real_batch)
        if self.attack is not None and not isinstance(self.source, PixelConfig):
            raise LimbeckError(f"An attack learns images; its source must be a PixelConfig, not {self.source!r}.")
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
        if not unread:
            self._refuse_idle()

    def _leave_out_steps(self) -> None:
        """With a method that unrolls nothing: one batch of images, used once, and nothing of an inner loop.

        Raises:
            LimbeckError: a source of something else, an attack, or settings of steps that there are not.
        """
        kind = type(self.method).__name__
        if not isinstance(self.source, PixelConfig) or self.attack is not None:
            what = "an attack" if self.attack is not None else type(self.source).__name__
            raise LimbeckError(f"The method of {kind} learns images, not {what}; choose method unrolled for that.")
        plain = PixelConfig()
        for name in ("steps", "epochs"):
            if getattr(self.source, name) not in (1, getattr(plain, name)):
                raise IdleOptionError(name, getattr(self.source, name), f"with {kind}: no steps are learned")
        if self.outer.calibrate_inits or self.outer.grow:
            name = "grow" if self.outer.grow else "calibrate_inits"
            raise IdleOptionError(name, getattr(self.outer, name), f"with {kind}: no steps are learned")
        without = InnerConfig(learn_lr="fixed", lr=InnerConfig().start("lr"))
        if self.inner not in (InnerConfig(), without):
            for field in dataclasses.fields(self.inner):
                refuse_idle_fields(self.inner, field.name, why=f"with {kind}: no steps are learned")
        object.__setattr__(self, "source", dataclasses.replace(self.source, steps=1, epochs=1))
        object.__setattr__(self, "inner", without)

    def _refuse_idle(self) -> None:
        """Raise IdleOptionError for an option of one part that does nothing because of what another part says."""
        for group in ("images", "noise", "labels", "steps"):
            if group not in self.source.groups_with(self.inner):
                what = {"noise": "noise is", "steps": "step sizes or other hyper-parameters are"}.get(group)
                refuse_idle_fields(self.outer, f"lr_{group}", why=f"where no {what or f'{group} are'} learned")
        if self.attack is not None:
            why = "for an attack, which has an objective of its own"
            refuse_idle_fields(self.method, *self.method.idle_with_goal, why=why)
        if self.init.fixed:
            why = "with a fixed initialisation: calibration is for initial weights that differ"
            refuse_idle_fields(self.outer, "calibrate_inits", why=why)

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
        return self.source.inner_steps

    def batch_size(self, classes: int) -> int:
        """M, the images of a step."""
        return self.source.batch_size(classes)

    @property
    def code(self) -> frozenset[str]:
        """Names that are imported when what they name is built: learners, generators, sources, methods of one's own."""
        return code_among(*self.learners, *self.source.code, *kinds_within(self))

    @property
    def trusted(self) -> frozenset[str]:
        """Those of ``code`` that may be imported."""
        return self.code - self.untrusted

    def importable(self, name: str) -> str:
        """``name`` itself; raises LimbeckError for code that only a file names (see ``untrusted``)."""
        return importable(name, self.untrusted)

    @property
    def needs(self) -> dict[str, Any]:
        """What must be at hand where the networks are made again, as an artefact records it; empty if nothing must.

        Under ``needs``: names of code to ``import``, and words for what was given in Python, to ``pass``.
        """
        words = [word for name in self.learners if (word := given_word(name)) is not None]
        needs = {"import": sorted(self.code), "pass": words}
        return {"needs": {key: names for key, names in needs.items() if names}} if any(needs.values()) else {}

    def learner_of(self, name: str) -> LearnerLike:
        """What one of ``learners`` is built from: what was given for the name in Python, or the name.

        Raises:
            LimbeckError: code that only a file names, or a network that was given in Python and is not at hand.
        """
        if name in self.given:
            learner: LearnerLike = self.given[name]
            return learner
        refuse_given(name)
        return self.importable(name)

    def with_learner(self, learner: LearnerLike) -> Config:
        """The same for another learner: a name, a class, a function, or a network, which is copied.

        Raises:
            LimbeckError: what is no learner, or a network that cannot be copied.
        """
        name = name_learner(learner)
        return dataclasses.replace(self, learner=name).passing({name: learner})

    def passing(self, learners: LearnerLike | Sequence[LearnerLike] | Mapping[str, LearnerLike]) -> Config:
        """The same with learners at hand that it only names, by these names; or else by their own, or for ``learner``.

        Raises:
            LimbeckError: what is no learner, or a network that cannot be copied.
        """
        named: dict[str, LearnerLike] = {}
        if isinstance(learners, Mapping):
            named = {name: each for name, each in learners.items() if name in self.learners}
        else:
            several: Any = learners if isinstance(learners, list | tuple) else [learners]
            for each in several:
                name = name_learner(each)
                named[name if name in self.learners else self.learner] = each
        given = {name: each for name, each in self.given.items() if name in self.learners}
        given |= {name: copy_learner(each) for name, each in named.items() if each != name}
        return dataclasses.replace(self, given=given, untrusted=self.untrusted.difference(named))

    def trusting(self, trust: bool | Collection[str]) -> Config:
        """The same with these names of code trusted: all of them, none, or those that are named; what a file says of
        them is read."""
        names = trust if trust is True else self.trusted | frozenset(trust or ())
        config: Config = read_again("config", self, names)
        return dataclasses.replace(config, untrusted=frozenset() if names is True else config.code - names)

    def require_trust(self) -> None:
        """Raise LimbeckError, which names it all, if there is code that may not be imported."""
        for name in sorted(self.untrusted):
            self.importable(name)

    def to_json(self, folder: Path | None = None) -> dict[str, Any]:
        """Nested dicts of plain values; in the files of a folder the paths of data and pool are relative to that."""
        values: dict[str, Any] = encode(self)
        del values["untrusted"], values["given"]  # whoever reads the file decides for himself
        if folder is not None:
            values["data"] = relative_source(self.data, folder)
        if folder is not None and self.init.pooled:
            values["init"]["init"] = f"pool:{relative_path(self.init.pool, folder)}"
        return values

    @classmethod
    def from_json(
        cls, values: dict[str, Any], folder: Path | None = None, *, trust: bool | Collection[str] = False
    ) -> Config:
        """Inverse of ``to_json`` for the same folder.

        What the file names of code is not imported, now or later, unless ``trust`` says so: for all of it, or for these
        names. A source, method or adjoint that is such code is kept as it is recorded.

        Raises:
            LimbeckError: fields that this version does not know, or values that do not fit.
        """
        if not isinstance(values, dict):
            raise LimbeckError(f"The recorded configuration is {values!r}; expected its fields by name.")
        values = upgrade(values)
        nested = {"init": InitConfig, "inner": InnerConfig, "attack": AttackConfig, "outer": OuterConfig}
        nested |= {"engine": EngineConfig}
        built: dict[str, Any] = {
            key: construct(nested[key], v) for key, v in values.items() if key in nested and v is not None
        }
        built |= {key: decode_member(key, values[key], trust) for key in ("source", "method") if key in values}
        config = construct(cls, {**values, **built, "untrusted": frozenset(), "given": {}})
        config = dataclasses.replace(config, untrusted=config.code).trusting(trust)
        if folder is not None:
            config = dataclasses.replace(config, data=absolute_source(config.data, folder))
        if folder is not None and config.init.pooled:
            place = (folder.resolve() / config.init.pool).resolve()
            if config.init.pool_sha256 is not None or place.is_file():  # until 0.1 paths were kept as given
                config = config.with_pool(place)
        return config

    def settled(self) -> Config:
        """The same with what it leaves open at its old defaults: a step size of 0.02, images that start from noise."""
        config, source = self, self.source
        if config.inner.lr is None:
            config = dataclasses.replace(config, inner=dataclasses.replace(config.inner, lr=config.inner.start("lr")))
        if isinstance(source, PixelConfig) and source.start is None:
            config = dataclasses.replace(config, source=dataclasses.replace(source, start="noise"))
        return config

    def with_pool(self, path: Path) -> Config:
        """The same with its pool in another place."""
        return dataclasses.replace(self, init=dataclasses.replace(self.init, init=f"pool:{path}"))
