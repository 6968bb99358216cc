"""Ordinary training on real data by Adam (Kingma and Ba 2015), of several networks at once.

Shapes: G networks of a group, M images a step, K classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import one_hot

from limbeck.data import TaskData
from limbeck.engine import Adam, Batch, Learner


def adam_learner(module: nn.Module) -> Learner:
    """The learner that trains ``module`` by Adam as torch does."""
    # Epsilon is inside the root: 1e-16 is torch's 1e-8.
    return Learner.of(module, Adam(epsilon=1e-16))


def adam_batch(data: TaskData, index_GM: Tensor, rate: float, weight_decay: float) -> Batch:
    """A step of Adam for each of G networks: normalised images (G, M, C, H, W), labels (G, M, K), settings (G,) each.

    Args:
        data: the task.
        index_GM: numbers of training images, on the data's device; each network has its own.
        rate: Adam's step size, the same for all.
        weight_decay: added to the gradient times the weights.
    """
    x_GMCHW = data.preprocessing.apply(data.train_x[index_GM])
    y_GMK = one_hot(data.train_y[index_GM], data.num_classes).to(x_GMCHW.dtype)
    values = {"lr": rate, "beta1": 0.9, "beta2": 0.999, "weight_decay": weight_decay}
    return Batch(x_GMCHW, y_GMK, {name: x_GMCHW.new_full((len(index_GM),), value) for name, value in values.items()})
