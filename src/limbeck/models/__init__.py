"""Reference learners, their initial weights, and pools of trained states."""

from __future__ import annotations

from limbeck.models.generators import ConvEncoder, ConvGenerator
from limbeck.models.init import (
    FixedInit,
    InitialWeights,
    PoolInit,
    RandomInit,
    SavedInit,
    distribution_names,
    draw,
    with_fresh_noise,
)
from limbeck.models.nets import MLP, AlexCifarNet, ConvNet, LeNet, LinearClassifier, StridedNet
from limbeck.models.pool import check_pool, load_pool, save_pool
from limbeck.models.registry import build, build_generator, check, known_names, refuse_unsupported
from limbeck.models.stateful import Augmented, BatchNorm, Dropout, with_carried_state
from limbeck.models.weightnorm import WeightNorm

__all__ = [
    "MLP",
    "AlexCifarNet",
    "Augmented",
    "BatchNorm",
    "ConvEncoder",
    "ConvGenerator",
    "ConvNet",
    "Dropout",
    "FixedInit",
    "InitialWeights",
    "LeNet",
    "LinearClassifier",
    "PoolInit",
    "RandomInit",
    "SavedInit",
    "StridedNet",
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
    "with_carried_state",
    "with_fresh_noise",
]
