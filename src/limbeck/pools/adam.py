"""Training networks on real data by Adam (Kingma and Ba 2015), several at once.

Shapes: G networks of a group, M images a step.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import one_hot

from limbeck.data import TaskData
from limbeck.engine import Adam, Batch, Learner


def adam_learner(module: nn.Module) -> Learner:
    """The network as Adam trains it on real data."""
    # Epsilon is inside the root: 1e-16 is torch's 1e-8.
    return Learner.of(module, Adam(epsilon=1e-16))


def adam_batch(data: TaskData, chosen_GM: Tensor, rate: float, weight_decay: float) -> Batch:
    """Training images (G, M, C, H, W) by number, for each of G networks its own, and what Adam needs for a step."""
    x_GMCHW = data.preprocessing.apply(data.train_x[chosen_GM])
    y_GMK = one_hot(data.train_y[chosen_GM], data.num_classes).to(x_GMCHW.dtype)
    values = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "weight_decay": weight_decay}
    return Batch(x_GMCHW, y_GMK, {name: x_GMCHW.new_full((len(chosen_GM),), value) for name, value in values.items()})
