"""Reference learners, their initial weights, and pools of trained states."""

from __future__ import annotations

from limbeck.models.cells import CellNet
from limbeck.models.checks import check, describe_error, refuse_unsupported
from limbeck.models.colour import GreyToColour
from limbeck.models.generators import ConvEncoder, ConvGenerator
from limbeck.models.given import LearnerLike, build_learner, copy_learner, given_word, is_given, name_learner
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
from limbeck.models.origin import equal_starts
from limbeck.models.pool import check_pool, load_card, load_pool, pool_digest, save_pool
from limbeck.models.prepare import unwrap
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
    "GreyToColour",
    "Gru",
    "InitialWeights",
    "LeNet",
    "LearnerLike",
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
    "build_learner",
    "check",
    "check_pool",
    "copy_learner",
    "describe_error",
    "distribution_names",
    "draw",
    "equal_starts",
    "given_word",
    "is_given",
    "known_names",
    "load_card",
    "load_pool",
    "name_learner",
    "pool_digest",
    "refuse_unsupported",
    "save_pool",
    "unwrap",
    "with_carried_state",
    "with_fresh_noise",
]
