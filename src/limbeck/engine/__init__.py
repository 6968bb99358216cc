"""The engine: Source → Learner → Objective, and the Adjoint that goes back. It knows tensors and modules only.

s_{t+1} = step(s_t, batch_t, h_t);  L(s_T);  the adjoint gives ∂L/∂batch_t and ∂L/∂h_t for every t.
"""

from limbeck.engine.adjoint import ADJOINTS, Adjoint, MetaGradient, RealBatch, Remat, Unroll
from limbeck.engine.carried import KEYS, Carrying, Noisy, carried_names
from limbeck.engine.forward import (
    call_with,
    copy_module,
    detach_all,
    differentiable,
    hidden_layers,
    is_simple,
    logits_of,
    trainable_parameters,
)
from limbeck.engine.kernels import Execution, Kernels
from limbeck.engine.learner import Learner, soft_cross_entropy
from limbeck.engine.objective import Objective, RealLoss, Relabelled
from limbeck.engine.optim import Adam, GradientDescent, InnerOptimizer, Momentum
from limbeck.engine.schedule import HYPERPARAMETERS, InnerConfig, Learned, Schedule
from limbeck.engine.source import (
    SOURCES,
    Generator,
    GeneratorConfig,
    Group,
    LabelKind,
    Limits,
    Materialised,
    Materials,
    Pairs,
    Parametrised,
    PixelConfig,
    Pixels,
    Pull,
    Pullback,
    RealBatches,
    RealConfig,
    Source,
    SourceConfig,
    images_per_class,
)
from limbeck.engine.state import Batch, State, Tensors, add, with_prefix

__all__ = [
    "ADJOINTS",
    "HYPERPARAMETERS",
    "KEYS",
    "SOURCES",
    "Adam",
    "Adjoint",
    "Batch",
    "Carrying",
    "Execution",
    "Generator",
    "GeneratorConfig",
    "GradientDescent",
    "Group",
    "InnerConfig",
    "InnerOptimizer",
    "Kernels",
    "LabelKind",
    "Learned",
    "Learner",
    "Limits",
    "Materialised",
    "Materials",
    "MetaGradient",
    "Momentum",
    "Noisy",
    "Objective",
    "Pairs",
    "Parametrised",
    "PixelConfig",
    "Pixels",
    "Pull",
    "Pullback",
    "RealBatch",
    "RealBatches",
    "RealConfig",
    "RealLoss",
    "Relabelled",
    "Remat",
    "Schedule",
    "Source",
    "SourceConfig",
    "State",
    "Tensors",
    "Unroll",
    "add",
    "call_with",
    "carried_names",
    "copy_module",
    "detach_all",
    "differentiable",
    "hidden_layers",
    "images_per_class",
    "is_simple",
    "logits_of",
    "soft_cross_entropy",
    "trainable_parameters",
    "with_prefix",
]
