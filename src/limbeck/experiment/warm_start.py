"""A generator that has first learned to reproduce real images starts its meta-learning from images that teach already.

Shapes: T steps, M images a step, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data import TaskData
from limbeck.engine import Generator

LEARNING_RATE = 3e-3
"""Adam's, falling to 0 along a cosine."""


def warm_start(source: Generator, data: TaskData, iterations: int, rng: torch.Generator) -> float:
    """Train generator and encoder to reproduce real images and start ``source`` from there.

    Args:
        source: has an encoder.
        data: the task; training images only are read.
        iterations: of Adam, on as many images as the generator makes at a time.
        rng: draws the images.

    Returns:
        The last mean squared error per pixel, averaged over a tenth of the iterations.
    """
    assert source.encoder is not None
    weights = {name: value.clone().requires_grad_() for name, value in source.weights(source.parameters()).items()}
    encoder = {name: value.detach().clone().requires_grad_() for name, value in source.encoder.named_parameters()}
    learned = [*weights.values(), *encoder.values()]
    adam = torch.optim.Adam(learned, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, iterations)
    errors = []
    for _ in range(iterations):
        x_MCHW, y_M = data.sample(rng, source.config.batch)
        y_MK = F.one_hot(y_M, data.num_classes).to(x_MCHW.dtype)
        with torch.enable_grad():
            error = source.reproduction_error(weights, encoder, x_MCHW, y_MK)
            found = torch.autograd.grad(error, learned)
        for value, grad in zip(learned, found, strict=True):
            value.grad = grad
        adam.step()
        schedule.step()
        errors.append(error.item())
    last = errors[-max(1, len(errors) // 10) :]
    source.started_from(
        _real_images(source.classes_TM, data, rng),
        {name: value.detach() for name, value in weights.items()},
        {name: value.detach() for name, value in encoder.items()},
    )
    return sum(last) / len(last)


def _real_images(classes_TM: Tensor, data: TaskData, rng: torch.Generator) -> Tensor:
    """A real training image (T, M, C, H, W) of each of these classes."""
    classes_N = classes_TM.flatten()
    most = int(torch.bincount(classes_N, minlength=data.num_classes).max())
    x_KnCHW = data.per_class(rng, most)
    found = x_KnCHW.new_empty(len(classes_N), *x_KnCHW.shape[2:])
    for k in range(data.num_classes):
        rows = (classes_N == k).nonzero()[:, 0]
        found[rows] = x_KnCHW[k, : len(rows)]
    return found.view(*classes_TM.shape, *found.shape[1:])
