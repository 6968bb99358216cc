"""Reference learners, their initial weights, and pools of trained states."""

from __future__ import annotations

from limbeck.models.cells import CellNet
from limbeck.models.checks import check, refuse_unsupported
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
from limbeck.models.nasbench201 import NasBench201
from limbeck.models.nets import MLP, AlexCifarNet, ConvNet, LeNet, LinearClassifier, Norm, Shape, StridedNet
from limbeck.models.pool import check_pool, load_card, load_pool, pool_digest, save_pool
from limbeck.models.registry import LEARNERS, build, build_generator, known_names
from limbeck.models.sequences import Conv1d, Gru, Rnn
from limbeck.models.stateful import Augmented, BatchNorm, Dropout, with_carried_state
from limbeck.models.weightnorm import WeightNorm

__all__ = [
    "LEARNERS",
    "MLP",
    "AlexCifarNet",
    "Augmented",
    "BatchNorm",
    "CellNet",
    "Conv1d",
    "ConvEncoder",
    "ConvGenerator",
    "ConvNet",
    "Dropout",
    "FixedInit",
    "Gru",
    "InitialWeights",
    "LeNet",
    "LinearClassifier",
    "NasBench201",
    "Norm",
    "PoolInit",
    "RandomInit",
    "Rnn",
    "SavedInit",
    "Shape",
    "StridedNet",
    "WeightNorm",
    "build",
    "build_generator",
    "check",
    "check_pool",
    "distribution_names",
    "draw",
    "known_names",
    "load_card",
    "load_pool",
    "pool_digest",
    "refuse_unsupported",
    "save_pool",
    "with_carried_state",
    "with_fresh_noise",
]
