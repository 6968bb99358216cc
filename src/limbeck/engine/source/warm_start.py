"""A generator that has first learned to reproduce real images starts its meta-learning from images that teach already.

Shapes: T steps, M images a step, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.engine.source.config import Materials

if TYPE_CHECKING:
    from limbeck.engine.source.generator import Generator

LEARNING_RATE = 3e-3
"""Adam's, falling to 0 along a cosine."""


def warm_start(source: Generator, materials: Materials, iterations: int) -> float:
    """Train generator and encoder to reproduce real images and start ``source`` from there.

    Args:
        source: has an encoder.
        materials: the task, of which training images only are read, and what draws them.
        iterations: of Adam, on as many images as the generator makes at a time.

    Returns:
        The last mean squared error per pixel, averaged over a tenth of the iterations.
    """
    assert source.encoder is not None
    weights = {name: value.clone().requires_grad_() for name, value in source.weights(source.parameters()).items()}
    encoder = {name: value.detach().clone().requires_grad_() for name, value in source.encoder.named_parameters()}
    leaves = [*weights.values(), *encoder.values()]
    adam = torch.optim.Adam(leaves, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, iterations)
    errors = []
    for _ in range(iterations):
        x_MCHW, y_M = materials.sample(materials.rng, source.config.batch)
        y_MK = F.one_hot(y_M, materials.classes).to(x_MCHW.dtype)
        with torch.enable_grad():
            error = source.reproduction_error(weights, encoder, x_MCHW, y_MK)
            grads = torch.autograd.grad(error, leaves)
        for value, grad in zip(leaves, grads, strict=True):
            value.grad = grad
        adam.step()
        schedule.step()
        errors.append(error.item())
    last = errors[-max(1, len(errors) // 10) :]
    source.start_from(
        _real_images(source.classes_TM, materials),
        {name: value.detach() for name, value in weights.items()},
        {name: value.detach() for name, value in encoder.items()},
    )
    return sum(last) / len(last)


def _real_images(classes_TM: Tensor, materials: Materials) -> Tensor:
    """A real training image (T, M, C, H, W) of each of these classes."""
    classes_N = classes_TM.flatten()
    most = int(torch.bincount(classes_N, minlength=materials.classes).max())
    x_KnCHW = materials.per_class(materials.rng, most)
    images = x_KnCHW.new_empty(len(classes_N), *x_KnCHW.shape[2:])
    for k in range(materials.classes):
        rows = (classes_N == k).nonzero()[:, 0]
        images[rows] = x_KnCHW[k, : len(rows)]
    return images.view(*classes_TM.shape, *images.shape[1:])
