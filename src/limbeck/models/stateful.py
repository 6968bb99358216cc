"""Batch normalisation, dropout and augmentation as layers whose state and noise an unrolled training can carry.

Torch's own layers write their statistics in place and draw from a global stream, so a step that is run again for its
gradient is not the same step; and the forward derivative of torch's batch normalisation takes the batch's mean and
variance for constants. These are written in plain operations. Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from limbeck.engine import Carrying, Noisy
from limbeck.errors import LimbeckError
from limbeck.models.replay import momentum_of


class BatchNorm(Carrying):
    """``nn.BatchNorm1d``, ``2d`` and ``3d`` with running statistics (Ioffe and Szegedy 2015), equal in every value.

    In training the batch's statistics normalise and move the running ones by ``momentum``; otherwise those normalise.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features, dtype=torch.float32)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features, dtype=torch.float32)) if affine else None
        self.register_buffer("running_mean", torch.zeros(features, dtype=torch.float32))
        self.register_buffer("running_var", torch.ones(features, dtype=torch.float32))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...)."""
        others = (0, *range(2, x_NCHW.ndim))
        shape = (-1, *[1] * (x_NCHW.ndim - 2))
        mean_C, var_C = self.running_mean, self.running_var
        if self.training:
            count = x_NCHW.numel() // x_NCHW.shape[1]
            mean_C = x_NCHW.mean(others)
            var_C = (x_NCHW - mean_C.view(shape)).square().mean(others)
            unbiased_C = var_C * (count / max(1, count - 1))
            self.running_mean = self._move(self.running_mean, mean_C)
            self.running_var = self._move(self.running_var, unbiased_C)
        scale_C = (var_C + self.eps).rsqrt()
        if self.weight is not None:
            scale_C = scale_C * self.weight
        shift_C = -mean_C * scale_C
        if self.bias is not None:
            shift_C = shift_C + self.bias
        return x_NCHW * scale_C.view(shape) + shift_C.view(shape)

    def reset_running_stats(self) -> None:
        """Statistics as at the start: mean 0 and variance 1."""
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def _move(self, running_C: Tensor, batch_C: Tensor) -> Tensor:
        batch_C = batch_C if self.carrying else batch_C.detach()
        return (1 - self.momentum) * running_C + self.momentum * batch_C


class Dropout(Noisy):
    """Dropout (Srivastava et al. 2014) of entries, or of whole channels, with probability ``p`` in [0, 1].

    Where ``unbatched`` is the number of an input's dimensions, its first one is the channels, as torch takes it.
    """

    def __init__(self, p: float, *, channels: bool = False, unbatched: int | None = None) -> None:
        super().__init__()
        self.p, self.channels, self.unbatched = p, channels, unbatched

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Any shape to the same; in training kept entries are divided by 1 - p."""
        if not self.training or self.p == 0:
            return x_NCHW
        whole = 1 if x_NCHW.ndim == self.unbatched else 2
        shape = (*x_NCHW.shape[:whole], *[1] * (x_NCHW.ndim - whole)) if self.channels else x_NCHW.shape
        mask = self.uniform(*shape) >= self.p
        return x_NCHW * mask / (1 - self.p) if self.p < 1 else x_NCHW * 0


@final
class Augmented(Noisy):
    """Another module that sees, in training, each image shifted and mirrored at random.

    Args:
        module: the learner.
        shift: largest shift in pixels, in each direction; what comes in is 0.
        flip: mirror half of the images left to right.
    """

    def __init__(self, module: nn.Module, *, shift: int = 0, flip: bool = False) -> None:
        super().__init__()
        if shift < 0:
            raise LimbeckError(f"augment_shift is {shift}; it must not be negative.")
        self.module, self.shift, self.flip = module, shift, flip

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The module's output for the images (N, C, H, W), in training for shifted and mirrored ones."""
        if self.training:
            count, _, rows, columns = x_NCHW.shape
            draws_3N = self.uniform(3, count).to(x_NCHW.dtype)
            # Products with permutation-like matrices: linear in the pixels, and plain under every transformation.
            if self.shift:
                x_NCHW = (
                    self._shift_matrices(draws_3N[0], rows) @ x_NCHW @ self._shift_matrices(draws_3N[1], columns).mT
                )
            if self.flip:
                x_NCHW = torch.where(draws_3N[2].view(-1, 1, 1, 1) < 0.5, x_NCHW.flip(-1), x_NCHW)
        output: Tensor = self.module(x_NCHW)
        return output

    def _shift_matrices(self, draws_N: Tensor, size: int) -> Tensor:
        """Matrices (N, 1, size, size) that move by a whole number in [-shift, shift], each equally likely."""
        by_N = (draws_N * (2 * self.shift + 1)).floor() - self.shift
        place = torch.arange(size, device=draws_N.device, dtype=draws_N.dtype)
        moved: Tensor = (place[:, None] - place == by_N.view(-1, 1, 1, 1)).to(draws_N.dtype)
        return moved


class CarriedBatchNorm1d(BatchNorm, nn.BatchNorm1d):  # type: ignore[misc]
    """``nn.BatchNorm1d`` as it is carried."""


class CarriedBatchNorm2d(BatchNorm, nn.BatchNorm2d):  # type: ignore[misc]
    """``nn.BatchNorm2d`` as it is carried."""


class CarriedBatchNorm3d(BatchNorm, nn.BatchNorm3d):  # type: ignore[misc]
    """``nn.BatchNorm3d`` as it is carried."""


class CarriedDropout(Dropout, nn.Dropout):
    """``nn.Dropout`` as it is carried."""

    channels, unbatched = False, None


class CarriedDropout1d(Dropout, nn.Dropout1d):
    """``nn.Dropout1d`` as it is carried."""

    channels, unbatched = True, 2


class CarriedDropout2d(Dropout, nn.Dropout2d):
    """``nn.Dropout2d`` as it is carried."""

    channels, unbatched = True, None


class CarriedDropout3d(Dropout, nn.Dropout3d):
    """``nn.Dropout3d`` as it is carried."""

    channels, unbatched = True, 4


_BATCH_NORMS: Final = MappingProxyType[type, type](
    {nn.BatchNorm1d: CarriedBatchNorm1d, nn.BatchNorm2d: CarriedBatchNorm2d, nn.BatchNorm3d: CarriedBatchNorm3d}
)
_DROPOUTS: Final = MappingProxyType[type, type](
    {
        nn.Dropout: CarriedDropout,
        nn.Dropout1d: CarriedDropout1d,
        nn.Dropout2d: CarriedDropout2d,
        nn.Dropout3d: CarriedDropout3d,
    }
)


def with_carried_state(module: nn.Module) -> nn.Module:
    """The module, whose batch normalisations that keep statistics, and whose dropout, are from now on carried.

    They stay the same objects, with their hooks and attributes, and become instances of a class derived from theirs.
    Layers that are in evaluation mode are left alone: that is how a user turns dropout off. So are layers of derived
    classes or with a ``forward`` of their own, which may do more than their class does, and dropout in place.

    Raises:
        LimbeckError: a batch normalisation that averages over all batches (``momentum=None``).
    """
    for layer in module.modules():
        kind = type(layer)
        if not layer.training or "forward" in vars(layer):
            continue
        if isinstance(layer, _BatchNorm) and kind in _BATCH_NORMS and layer.track_running_stats:
            momentum_of(layer)
            layer.num_batches_tracked = None  # counted in place, and of use only without a momentum
            layer.__class__ = _BATCH_NORMS[kind]
        elif isinstance(layer, _DropoutNd) and kind in _DROPOUTS and layer.p > 0 and not layer.inplace:
            layer.register_buffer("key", torch.zeros((), dtype=torch.float32))
            layer.__class__ = _DROPOUTS[kind]
    return module
