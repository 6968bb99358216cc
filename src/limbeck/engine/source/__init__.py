"""What is learned, and how it becomes the batch of an inner step."""

from __future__ import annotations

from typing import Final

from limbeck.common.registry import Registry
from limbeck.engine.source.base import Group, Materialised, Pull, Pullback, Source
from limbeck.engine.source.config import LabelKind, Materials, SourceConfig
from limbeck.engine.source.generator import Generator, GeneratorConfig
from limbeck.engine.source.limits import Limits
from limbeck.engine.source.pairs import Pairs
from limbeck.engine.source.parametrised import Parametrised
from limbeck.engine.source.pixels import PixelConfig, Pixels, images_per_class
from limbeck.engine.source.real import RealBatches, RealConfig

SOURCES: Final[Registry[type[SourceConfig]]] = Registry(
    "source", ("pixels", PixelConfig), ("generator", GeneratorConfig), ("real", RealConfig)
)
"""The kinds of sources by name; another one is a file and a line here."""

__all__ = [
    "SOURCES",
    "Generator",
    "GeneratorConfig",
    "Group",
    "LabelKind",
    "Limits",
    "Materialised",
    "Materials",
    "Pairs",
    "Parametrised",
    "PixelConfig",
    "Pixels",
    "Pull",
    "Pullback",
    "RealBatches",
    "RealConfig",
    "Source",
    "SourceConfig",
    "images_per_class",
]
