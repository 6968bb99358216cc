"""Limbeck learns tiny training sets: differentiate through a network's training and optimise the data."""

from limbeck.config import Config, EngineConfig, InitConfig, OuterConfig
from limbeck.data import Preprocessing, TaskData
from limbeck.data import load as load_data
from limbeck.distill import distill
from limbeck.distilled import Distilled
from limbeck.engine import GeneratorConfig, InnerConfig, Learner, PixelConfig, Remat, Unroll
from limbeck.errors import LimbeckError
from limbeck.evaluate import Evaluation, evaluate
from limbeck.models import WeightNorm
from limbeck.recipes import recipe

load = Distilled.load
"""Read a run directory: ``limbeck.load("runs/mnist")``."""

__all__ = [
    "Config",
    "Distilled",
    "EngineConfig",
    "Evaluation",
    "GeneratorConfig",
    "InitConfig",
    "InnerConfig",
    "Learner",
    "LimbeckError",
    "OuterConfig",
    "PixelConfig",
    "Preprocessing",
    "Remat",
    "TaskData",
    "Unroll",
    "WeightNorm",
    "distill",
    "evaluate",
    "load",
    "load_data",
    "recipe",
]
