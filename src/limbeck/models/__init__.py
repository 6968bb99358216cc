"""Reference learners, their initial weights, and pools of trained states."""

from __future__ import annotations

from limbeck.models.generators import ConvGenerator
from limbeck.models.init import FixedInit, InitialWeights, PoolInit, RandomInit, distribution_names, draw
from limbeck.models.nets import MLP, AlexCifarNet, ConvNet, LeNet, LinearClassifier
from limbeck.models.pool import check_pool, load_pool, save_pool
from limbeck.models.registry import build, build_generator, check, known_names, refuse_unsupported
from limbeck.models.weightnorm import WeightNorm

__all__ = [
    "MLP",
    "AlexCifarNet",
    "ConvGenerator",
    "ConvNet",
    "FixedInit",
    "InitialWeights",
    "LeNet",
    "LinearClassifier",
    "PoolInit",
    "RandomInit",
    "WeightNorm",
    "build",
    "build_generator",
    "check",
    "check_pool",
    "distribution_names",
    "draw",
    "known_names",
    "load_pool",
    "refuse_unsupported",
    "save_pool",
]
