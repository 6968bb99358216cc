"""The layers that networks of cells are built from.

Like all learners here they go through `functional_call`, `vmap` and forward-mode AD and keep no statistics. Shapes:
N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.models.nets import Norm, Shape, check_shape, normalisation

Sides: TypeAlias = tuple[int, int]
SMALLEST: Final = 4
"""Fewest pixels on a side that two reductions leave something of."""


@final
class SamePool(nn.Module):
    """Max- or average pooling over the pixels that are there: sides stay at stride 1 and are halved, upwards, at 2.

    Args:
        kind: "max" or "avg".
        kernel: side of the window in pixels: odd, or 2.
        stride: 1 or 2.
    """

    def __init__(self, kind: str, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride
        # A window of two is padded on both sides, and what starts outside is then left out; at stride 2 the last
        # window is cut short instead.
        self.padding = kernel // 2 if kernel % 2 else 2 - stride
        self.first = 1 if kernel % 2 == 0 and stride == 1 else 0

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""
        uneven = self.kernel % 2 == 0 and self.stride == 2
        if self.kind == "max":
            pooled = F.max_pool2d(x_NCHW, self.kernel, self.stride, self.padding, ceil_mode=uneven)
        else:
            pooled = F.avg_pool2d(
                x_NCHW, self.kernel, self.stride, self.padding, ceil_mode=uneven, count_include_pad=False
            )
        return pooled[..., self.first :, self.first :]


def conv(channels: int, out: int, kernel: int, sides: Sides, norm: Norm, *, stride: int = 1) -> nn.Sequential:
    """A rectifier, a convolution that keeps the sides at stride 1 (biased if not normalised), a normalisation."""
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=norm == "none")
    return nn.Sequential(nn.ReLU(), convolution, *normalisation(norm, out, sides))


def reduction(channels: int, out: int, sides: Sides, norm: Norm) -> nn.Sequential:
    """Half the sides and other channels: average pooling, so that every pixel counts, and a 1 x 1 convolution."""
    return nn.Sequential(SamePool("avg", 2, 2), *conv(channels, out, 1, sides, norm))


def stem(channels: int, width: int, sides: Sides, norm: Norm) -> nn.Sequential:
    """The first layers: a 3 x 3 convolution that keeps the sides (biased if not normalised), a normalisation."""
    convolution = nn.Conv2d(channels, width, 3, padding=1, bias=norm == "none")
    return nn.Sequential(convolution, *normalisation(norm, width, sides))


def divide_sides(sides: Sides, stride: int) -> Sides:
    """The sides after a stride, in pixels, rounded upwards."""
    return -(-sides[0] // stride), -(-sides[1] // stride)


def check_cells(net: str, shape: Shape, num_classes: int, width: int, cells: int) -> Shape:
    """The shape (C, H, W) itself; raises LimbeckError where a network ``net`` of such sizes cannot be built."""
    check_shape(shape, num_classes)
    if width < 1 or cells < 1:
        raise LimbeckError(f"{net} needs width and cells of at least 1, not width {width} and cells {cells}.")
    if min(shape[1:]) < SMALLEST:
        raise LimbeckError(
            f"{net} halves its input twice and needs images of at least {SMALLEST} x {SMALLEST} pixels, not "
            f"{shape[1]} x {shape[2]}; use larger images or a learner such as 'mlp'."
        )
    return shape
