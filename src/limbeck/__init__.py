"""Limbeck learns tiny training sets: differentiate through a network's training and optimise the data."""

from limbeck.artefact import Distilled, export
from limbeck.attack.config import AttackSettings, attack_config
from limbeck.attack.report import AttackReport, attack_report
from limbeck.common.registry import Registry
from limbeck.data import Preprocessing, TaskData
from limbeck.data import load as load_data
from limbeck.engine import GeneratorConfig, InnerConfig, Learner, PixelConfig, RealConfig, Remat, SourceConfig, Unroll
from limbeck.errors import LimbeckError
from limbeck.evaluation import Evaluation, LearnedSchedule, OrdinaryTraining, TrainingRecipe, evaluate
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig, EngineConfig, InitConfig, OuterConfig
from limbeck.methods import MethodConfig, UnrolledConfig
from limbeck.models import GreyToColour, WeightNorm
from limbeck.outer.calling import distill
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
    "GreyToColour",
    "InitConfig",
    "InnerConfig",
    "LearnedSchedule",
    "Learner",
    "LimbeckError",
    "MethodConfig",
    "OrdinaryTraining",
    "OuterConfig",
    "PixelConfig",
    "Pool",
    "PoolConfig",
    "Preprocessing",
    "RealConfig",
    "Registry",
    "Remat",
    "SourceConfig",
    "TaskData",
    "TrainingRecipe",
    "Unroll",
    "UnrolledConfig",
    "WeightNorm",
    "adapt_config",
    "attack_config",
    "attack_report",
    "distill",
    "evaluate",
    "export",
    "load",
    "load_data",
    "make_pool",
    "open_pool",
    "recipe",
]
