"""Options of which others depend: which kind of source, method and adjoint, each with options of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from limbeck.common.registry import Registry
from limbeck.engine import ADJOINTS, SOURCES
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.methods import METHODS, UnrolledConfig

UNIONS: Final[Mapping[str, Registry[Any]]] = MappingProxyType(
    {"source": SOURCES, "method": METHODS, "adjoint": ADJOINTS}
)
"""The options by name, and what they choose from."""


def choose_members(config: Config, value_of: Callable[[str], str | None]) -> Config:
    """The configuration with those kinds of source, method and adjoint that the command line names.

    Args:
        config: where options start from; what a kind has in common with the one that it replaces is kept.
        value_of: gives what a flag such as ``--source`` is set to, or None.

    Raises:
        IdleOptionError: the configuration has an option that does nothing with that kind.
        LimbeckError: no such kind.
    """
    if (name := value_of("--source")) is not None:
        config = dataclasses.replace(config, source=_member(SOURCES[name], config.source))
    if (name := value_of("--method")) is not None:
        config = dataclasses.replace(config, method=_member(METHODS[name], config.method))
    if (name := value_of("--adjoint")) is not None:
        if not isinstance(config.method, UnrolledConfig):
            raise LimbeckError("--adjoint belongs to --method unrolled and does nothing here; leave it out.")
        adjoint = _member(ADJOINTS[name], config.method.adjoint)
        config = dataclasses.replace(config, method=dataclasses.replace(config.method, adjoint=adjoint))
    return config


def _member(kind: type[Any], before: Any) -> Any:
    """``before`` if it is of that kind, else one with the fields that both have."""
    if isinstance(before, kind):
        return before
    names = {field.name for field in dataclasses.fields(kind)} & {field.name for field in dataclasses.fields(before)}
    return kind(**{name: getattr(before, name) for name in names})


def owners_of_flags() -> dict[str, str]:
    """Each flag that one kind only has, and the choice of that kind: ``--ipc`` belongs to ``--source pixels``."""
    owners: dict[str, list[str]] = {}
    for option, registry in UNIONS.items():
        for name, kind in registry.items():
            for field in dataclasses.fields(kind):
                if not isinstance(field.default_factory, type):
                    owners.setdefault(f"--{field.name.replace('_', '-')}", []).append(f"--{option} {name}")
    return {flag: " or ".join(names) for flag, names in owners.items()}
