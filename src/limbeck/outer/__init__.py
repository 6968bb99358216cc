"""The outer loop: learn the data by descending the meta-gradient, and keep what validation likes best."""

from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.loop import distill

__all__ = ["Checkpoint", "distill"]
