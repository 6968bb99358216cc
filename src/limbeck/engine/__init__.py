"""The engine: Source → Learner → Objective, and the Adjoint that goes back. It knows tensors and modules only.

s_{t+1} = step(s_t, batch_t, h_t);  L(s_T);  the adjoint gives ∂L/∂batch_t and ∂L/∂h_t for every t.
"""

from limbeck.engine.adjoint import Adjoint, MetaGradient, RealBatch, Remat, Unroll, adjoint_names, make_adjoint
from limbeck.engine.carried import KEYS, Carrying, Noisy, carried_names
from limbeck.engine.kernels import Execution, Kernels
from limbeck.engine.learner import Learner, soft_cross_entropy
from limbeck.engine.objective import Objective, RealLoss, Relabelled
from limbeck.engine.optim import Adam, GradientDescent, InnerOptimizer, Momentum
from limbeck.engine.schedule import HYPERPARAMETERS, InnerConfig, Learned, Schedule
from limbeck.engine.source import (
    Generator,
    GeneratorConfig,
    Limits,
    Materialised,
    Pairs,
    PixelConfig,
    Pixels,
    Pullback,
    RealBatches,
    Source,
    images_per_class,
)
from limbeck.engine.state import Batch, State, Tensors, add, with_prefix

__all__ = [
    "HYPERPARAMETERS",
    "KEYS",
    "Adam",
    "Adjoint",
    "Batch",
    "Carrying",
    "Execution",
    "Generator",
    "GeneratorConfig",
    "GradientDescent",
    "InnerConfig",
    "InnerOptimizer",
    "Kernels",
    "Learned",
    "Learner",
    "Limits",
    "Materialised",
    "MetaGradient",
    "Momentum",
    "Noisy",
    "Objective",
    "Pairs",
    "PixelConfig",
    "Pixels",
    "Pullback",
    "RealBatch",
    "RealBatches",
    "RealLoss",
    "Relabelled",
    "Remat",
    "Schedule",
    "Source",
    "State",
    "Tensors",
    "Unroll",
    "add",
    "adjoint_names",
    "carried_names",
    "images_per_class",
    "make_adjoint",
    "soft_cross_entropy",
    "with_prefix",
]
