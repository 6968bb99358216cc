"""Limbeck learns tiny training sets: differentiate through a network's training and optimise the data."""

from limbeck.artefact.distilled import Distilled
from limbeck.attack.config import AttackSettings, attack_config
from limbeck.attack.report import AttackReport, attack_report
from limbeck.data import Preprocessing, TaskData
from limbeck.data import load as load_data
from limbeck.engine import GeneratorConfig, InnerConfig, Learner, PixelConfig, Remat, Unroll
from limbeck.errors import LimbeckError
from limbeck.evaluation.judge import Evaluation, evaluate
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, EngineConfig, InitConfig, OuterConfig
from limbeck.models import WeightNorm
from limbeck.outer.loop import distill
from limbeck.pools.adapt import AdaptSettings, adapt_config
from limbeck.pools.config import PoolConfig
from limbeck.pools.pool import Pool, open_pool
from limbeck.pools.train import make_pool
from limbeck.studies.recipes import recipe

load = Distilled.load
"""Read a run directory: ``limbeck.load("runs/mnist")``."""

__all__ = [
    "AdaptSettings",
    "AttackConfig",
    "AttackReport",
    "AttackSettings",
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
    "Pool",
    "PoolConfig",
    "Preprocessing",
    "Remat",
    "TaskData",
    "Unroll",
    "WeightNorm",
    "adapt_config",
    "attack_config",
    "attack_report",
    "distill",
    "evaluate",
    "load",
    "load_data",
    "make_pool",
    "open_pool",
    "recipe",
]
