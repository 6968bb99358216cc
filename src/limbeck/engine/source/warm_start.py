"""A generator that has first learned to reproduce real images starts its meta-learning from images that teach already.

Shapes: T steps, M images a step, K classes.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.engine.source.config import Materials
from limbeck.engine.state import Tensors

LEARNING_RATE = 3e-3
"""Adam's, falling to 0 along a cosine."""


class Autoencoder(Protocol):
    """A source that can reproduce images, as ``Generator`` with an encoder does; its members are described there."""

    encoder: nn.Module | None

    @property
    def images_at_once(self) -> int:
        """M, the images that it makes at a time."""

    @property
    def classes_TM(self) -> Tensor:
        """The class of each of its images."""

    def parameters(self) -> Tensors:
        """What is learned, by name."""

    def weights(self, params: Tensors) -> Tensors:
        """Those of them that are the network's, by its own names."""

    def reproduction_error(self, weights: Tensors, encoder: Tensors, x_MCHW: Tensor, y_MK: Tensor) -> Tensor:
        """Mean squared error per pixel, a scalar."""

    def start_from(self, x_TMCHW: Tensor, weights: Tensors, encoder: Tensors) -> None:
        """Start learning from these weights and from the codes of these images."""


def warm_start(source: Autoencoder, materials: Materials, iterations: int) -> float:
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
        x_MCHW, y_M = materials.sample(materials.rng, source.images_at_once)
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
