"""A configuration from settings by their names alone, as the command line has them: which part each belongs to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from limbeck.common.typed import fit_types
from limbeck.engine import SOURCES, InnerConfig, SourceConfig
from limbeck.errors import LimbeckError, unknown
from limbeck.experiment.config import Config
from limbeck.experiment.parts import EngineConfig, InitConfig, OuterConfig
from limbeck.methods import METHODS, MethodConfig
from limbeck.models.given import LearnerLike, name_learner

_PARTS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {"init": InitConfig, "inner": InnerConfig, "outer": OuterConfig, "engine": EngineConfig}
)
_OWN: Final = ("weight_norm", "augment_shift", "augment_flip", "seed", "val_size", "method", "attack")
_SYNONYMS: Final = MappingProxyType({"images_per_class": "ipc"})
_RECORDED: Final = ("pool_sha256",)


def config_of(settings: Mapping[str, Any], *, learner: LearnerLike = "lenet", data: str = "arrays") -> Config:
    """The configuration that settings make, each by its own name, those that are left out as they are by default.

    Args:
        settings: fields of ``Config`` and of its parts, such as ``steps``, ``lr`` and ``iterations``;
            ``images_per_class`` for ``ipc``; ``source`` and ``method``, a kind or a config of one; ``family``, further
            learners. None stands for the default.
        learner: whatever ``Config.with_learner`` takes.
        data: what the data is called.

    Raises:
        LimbeckError: an unknown setting, one that does not belong to the source, or a value that does not fit.
    """
    try:
        return _config_of(settings, learner, data)
    except LimbeckError as error:
        said = error.with_flags
        for name in settings.keys() & _SYNONYMS.keys():  # a setting is called what it was given as
            said = re.sub(rf"(?<!-)\b{_SYNONYMS[name]}\b", name, said)
        raise type(error)(said) from error


def _config_of(settings: Mapping[str, Any], learner: LearnerLike, data: str) -> Config:
    values = {_SYNONYMS.get(name, name): value for name, value in settings.items() if value is not None}
    source = values.pop("source", "pixels")
    family = values.pop("family", ())
    if not isinstance(family, list | tuple):
        raise LimbeckError(f"family is {family!r:.60}; it must be a list of further learners, such as ['mlp'].")
    kind = type(source) if isinstance(source, SourceConfig) else SOURCES[source]
    own = {name: values.pop(name) for name in _OWN if name in values}
    method = own.pop("method", "unrolled")
    if not isinstance(method, MethodConfig):
        cls: Any = METHODS[method]
        names = [field.name for field in dataclasses.fields(cls) if field.name in values]
        method = cls(**{name: values.pop(name) for name in names})
    own["method"] = method
    parts: dict[str, dict[str, Any]] = {part: {} for part in ("source", *_PARTS)}
    for name, value in values.items():
        parts[_part_of(name, kind)][name] = value
    if parts["source"] and isinstance(source, SourceConfig):
        changes = fit_types(kind, parts["source"])
        source, parts["source"] = dataclasses.replace(source, **changes), {}  # type: ignore[type-var]
    if not isinstance(source, SourceConfig):
        source = kind(**fit_types(kind, parts["source"]))
    if "inits" not in parts["outer"] and InitConfig(**parts["init"]).fixed:
        parts["outer"]["inits"] = 1
    config = Config(
        data=data,
        learner=name_learner(learner),
        family=tuple(map(name_learner, family)),
        source=source,
        **{part: cls(**fit_types(cls, parts[part])) for part, cls in _PARTS.items()},
        **own,
    )
    return config.passing({name_learner(each): each for each in (learner, *family)})


def _part_of(name: str, kind: type[SourceConfig]) -> str:
    """The part of a configuration that a setting belongs to."""
    parts = {"source": kind, **_PARTS}
    for part, cls in parts.items():
        if name in _fields(cls):
            return part
    others = [other for other, cls in SOURCES.items() if name in _fields(cls)]
    said = next((synonym for synonym, short in _SYNONYMS.items() if short == name), name)
    if others:
        raise LimbeckError(f"{said} belongs to source='{others[0]}', not to {kind.__name__}; leave it out.")
    if name in ("channels", "kind", "image", "label", "limit", "readers", "data_dir"):
        raise LimbeckError(f"{name} says how data is read; give it there: limbeck.load_data(source, {name}=...).")
    known = [*_OWN, *_SYNONYMS, "source", "family", *(f for cls in parts.values() for f in _fields(cls))]
    raise unknown("setting", name, known)


def _fields(cls: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(cls) if field.name not in _RECORDED]
