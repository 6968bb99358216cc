"""What is learned, and how it becomes the batch of an inner step."""

from limbeck.engine.source.base import Pullback, Source
from limbeck.engine.source.pixels import PixelConfig, Pixels

__all__ = ["PixelConfig", "Pixels", "Pullback", "Source"]
