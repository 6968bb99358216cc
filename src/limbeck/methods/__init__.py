"""How a gradient on what is learned is had: unrolling, and the matching methods beside it, a file each."""

from __future__ import annotations

from typing import Final

from limbeck.common.registry import Registry
from limbeck.methods.base import Method, MethodConfig
from limbeck.methods.distribution import DistributionConfig, DistributionMatching
from limbeck.methods.gradients import GradientConfig, GradientMatching, SiameseConfig
from limbeck.methods.matching import MatchingConfig
from limbeck.methods.unrolled import Unrolled, UnrolledConfig

METHODS: Final[Registry[type[MethodConfig]]] = Registry(
    "method",
    ("unrolled", UnrolledConfig),
    ("dm", DistributionConfig),
    ("dc", GradientConfig),
    ("dsa", SiameseConfig),
)
"""The methods by name; another one is a file and a line here."""

__all__ = [
    "METHODS",
    "DistributionConfig",
    "DistributionMatching",
    "GradientConfig",
    "GradientMatching",
    "MatchingConfig",
    "Method",
    "MethodConfig",
    "SiameseConfig",
    "Unrolled",
    "UnrolledConfig",
]
