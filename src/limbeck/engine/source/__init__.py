"""What is learned, and how it becomes the batch of an inner step."""

from limbeck.engine.source.base import Materialised, Pullback, Source
from limbeck.engine.source.generator import Generator, GeneratorConfig
from limbeck.engine.source.limits import Limits
from limbeck.engine.source.pairs import Pairs
from limbeck.engine.source.pixels import PixelConfig, Pixels, images_per_class
from limbeck.engine.source.real import RealBatches

__all__ = [
    "Generator",
    "GeneratorConfig",
    "Limits",
    "Materialised",
    "Pairs",
    "PixelConfig",
    "Pixels",
    "Pullback",
    "RealBatches",
    "Source",
    "images_per_class",
]
