"""Reference learners: plain modules that go through `functional_call`, `vmap` and forward-mode AD.

Nothing here works in place on activations, keeps statistics or draws random numbers in `forward`.
Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.common.registry import Registry
from limbeck.errors import LimbeckError, unknown
from limbeck.models.stateful import BatchNorm

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width of one image."""

Norm: TypeAlias = Literal["instance", "group", "layer", "batch", "running", "none"]
Pooling: TypeAlias = Literal["avg", "max", "none"]
Activation: TypeAlias = Literal["relu", "leaky-relu", "gelu", "silu", "softplus", "tanh", "sigmoid"]

_ACTIVATIONS: Final[Registry[Callable[[], nn.Module]]] = Registry(
    "activation",
    ("relu", nn.ReLU),
    ("leaky-relu", nn.LeakyReLU),
    ("gelu", nn.GELU),
    ("silu", nn.SiLU),
    ("softplus", nn.Softplus),
    ("tanh", nn.Tanh),
    ("sigmoid", nn.Sigmoid),
)
_GROUPS: Final = 4


@final
class MaxPool2x2(nn.Module):
    """Non-overlapping 2 x 2 max-pooling, equal in value to `F.max_pool2d(x, 2)`; odd sides lose their last line.

    It is the maximum of four strided slices. Compiled, a step's pull-back of LeNet takes 0.85 of the time that a
    reshape and an `amax` need, and 0.7 of `max_pool2d`'s, whose batching rule and forward-mode derivative are costly.
    The gradients differ only at ties: here equal maxima share the gradient, `max_pool2d` gives it all to the first.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        height, width = x_NCHW.shape[-2:]
        if height % 2 or width % 2:
            x_NCHW = x_NCHW[..., : height - height % 2, : width - width % 2]
        upper, lower = x_NCHW[..., ::2, :], x_NCHW[..., 1::2, :]
        left = torch.maximum(upper[..., ::2], lower[..., ::2])
        right = torch.maximum(upper[..., 1::2], lower[..., 1::2])
        return torch.maximum(left, right)


@final
class AvgPool2x2(nn.Module):
    """Non-overlapping 2 x 2 average pooling; odd sides lose their last row or column."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        return F.avg_pool2d(x_NCHW, 2)


@final
class ChannelResponseNorm(nn.Module):
    """Local response normalisation over channels, equal to `F.local_response_norm`: x / (k + alpha * mean(x^2))^beta.

    The mean is over the `size` channels from c - size // 2 to c + (size - 1) // 2, zeros outside. It is written with
    shifted slices because the 3-D pooling of `F.local_response_norm` is slower in forward mode under `vmap`.
    """

    def __init__(self, size: int, *, alpha: float, beta: float, k: float) -> None:
        super().__init__()
        if size < 1:
            raise LimbeckError(f"A response norm needs a window of at least 1 channel, not {size}.")
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        channels = x_NCHW.shape[-3]
        square = F.pad(x_NCHW * x_NCHW, (0, 0, 0, 0, self.size // 2, (self.size - 1) // 2))
        total = square[..., :channels, :, :]
        for shift in range(1, self.size):
            total = total + square[..., shift : shift + channels, :, :]
        return x_NCHW / (total * (self.alpha / self.size) + self.k).pow(self.beta)


@final
class LeNet(nn.Module):
    """LeNet as in Wang et al. 2018 (arXiv 1811.10959): 61,706 parameters for 1 x 28 x 28 images and K = 10.

    The first convolution pads by 2, except for 32 x 32 images, which are not padded, so both sizes give 16 x 5 x 5
    features. Raises `LimbeckError` for images too small to leave a feature.
    """

    def __init__(self, shape: Shape = (1, 28, 28), num_classes: int = 10) -> None:
        super().__init__()
        channels, height, width = check_shape(shape, num_classes)
        padding = 0 if (height, width) == (32, 32) else 2
        rows, columns = (((side + 2 * padding - 4) // 2 - 4) // 2 for side in (height, width))
        _require_features("LeNet", shape, rows, columns)
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = MaxPool2x2()
        self.fc1 = nn.Linear(16 * rows * columns, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        # Pooling before the rectifier gives the same numbers with a quarter of the rectifier's work.
        x = F.relu(self.pool(self.conv1(x_NCHW)))
        x = F.relu(self.pool(self.conv2(x))).flatten(1)
        x = F.relu(self.fc1(x))
        return _tensor(self.fc3(F.relu(self.fc2(x))))


@final
class AlexCifarNet(nn.Module):
    """The CIFAR-10 network of Wang et al. 2018 (arXiv 1811.10959): 1,756,426 parameters for 3 x 32 x 32, K = 10.

    Two 5 x 5 convolutions of 64 channels with overlapping max-pooling and local response normalisation, in the order
    pool, norm and then norm, pool, and a three-layer head.
    """

    def __init__(self, shape: Shape = (3, 32, 32), num_classes: int = 10) -> None:
        super().__init__()
        channels, height, width = check_shape(shape, num_classes)
        rows, columns = ((side + 3) // 4 for side in (height, width))  # two poolings, each ceil(side / 2)
        self.conv1 = nn.Conv2d(channels, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 64, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm = ChannelResponseNorm(4, alpha=0.001 / 9.0, beta=0.75, k=1.0)
        self.fc1 = nn.Linear(64 * rows * columns, 384)
        self.fc2 = nn.Linear(384, 192)
        self.fc3 = nn.Linear(192, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        x = self.norm(self.pool(F.relu(self.conv1(x_NCHW))))
        x = self.pool(self.norm(F.relu(self.conv2(x)))).flatten(1)
        x = F.relu(self.fc1(x))
        return _tensor(self.fc3(F.relu(self.fc2(x))))


@final
class ConvNet(nn.Module):
    """The ConvNet of the dataset-condensation literature (Zhao et al. 2021, arXiv 2006.05929); depth 3 is "ConvNet-3".

    Each block is a 3 x 3 convolution, a normalisation, an activation and 2 x 2 pooling; then one linear layer. 28 x 28
    images are padded by 3 in the first convolution, so that they become 32 x 32, as that literature does.

    Args:
        shape: channels, height, width of an image.
        num_classes: K, at least 1.
        width: channels of every block, at least 1 (a multiple of 4 for `norm="group"`).
        depth: number of blocks, at least 1; pooling halves the sides this many times, and they must not vanish.
        norm: "instance" (one group a channel), "group" (4 groups), "layer" (over channels and pixels, affine
            elementwise), "batch" (the batch's own statistics, none kept), "running" (batch normalisation as usual: the
            batch's statistics in training, running ones after) or "none".
        pooling: "avg", "max" or "none"; without it the sides stay, and the last layer is wide.
        activation: "relu", "leaky-relu", "gelu", "silu", "softplus", "tanh" or "sigmoid".
    """

    def __init__(
        self,
        shape: Shape,
        num_classes: int,
        width: int = 128,
        depth: int = 3,
        norm: Norm = "instance",
        pooling: Pooling = "avg",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        channels, height, columns = check_shape(shape, num_classes)
        if width < 1 or depth < 1:
            raise LimbeckError(f"ConvNet needs width and depth of at least 1, not width {width} and depth {depth}.")
        make_activation = _ACTIVATIONS[activation]
        sides = (height, columns)
        blocks: list[nn.Module] = []
        for index in range(depth):
            padding = 3 if index == 0 and sides == (28, 28) else 1
            sides = (sides[0] + 2 * padding - 2, sides[1] + 2 * padding - 2)
            blocks += [
                nn.Conv2d(channels, width, 3, padding=padding),
                *normalisation(norm, width, sides),
                make_activation(),
                *_pool(pooling),
            ]
            channels, sides = width, sides if pooling == "none" else (sides[0] // 2, sides[1] // 2)
            _require_features(f"ConvNet of depth {depth}", shape, *sides)
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(width * sides[0] * sides[1], num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        return _tensor(self.head(self.features(x_NCHW).flatten(1)))


@final
class StridedNet(nn.Module):
    """The cheapest convolutional learner here: no pooling, and 2 x 2 pixels become channels before the first layer.

    A first convolution over a single channel has an input gradient that costs as much as all the rest; over four
    channels it does not. `depth` 3 x 3 convolutions, all but the first with stride 2 and twice `width` channels, leaky
    rectifiers, and one linear layer. Odd sides are padded by one.

    Args:
        shape: channels, height, width of an image.
        num_classes: K, at least 1.
        width: channels of the first convolution, at least 1.
        depth: number of convolutions, at least 1.
        norm: as for `ConvNet`.
        shrink: sides of the squares of pixels that are averaged before anything else, from 1 (none) to the image's
            shorter side; what is left over at the right and at the bottom is not seen.
    """

    def __init__(
        self,
        shape: Shape,
        num_classes: int,
        width: int = 16,
        depth: int = 3,
        norm: Norm = "none",
        shrink: int = 1,
    ) -> None:
        super().__init__()
        channels, height, columns = check_shape(shape, num_classes)
        if width < 1 or depth < 1:
            raise LimbeckError(f"StridedNet needs width and depth of at least 1, not width {width} and depth {depth}.")
        if not 1 <= shrink <= min(height, columns):
            raise LimbeckError(
                f"shrink is {shrink}; images of {height} x {columns} pixels can be averaged over squares of 1 to "
                f"{min(height, columns)}."
            )
        self.shrink = shrink
        height, columns = height // shrink, columns // shrink
        self.padding = (0, columns % 2, 0, height % 2)
        sides, features = (-(-height // 2), -(-columns // 2)), 4 * channels
        blocks: list[nn.Module] = []
        for index in range(depth):
            stride, out = (1, width) if index == 0 else (2, 2 * width)
            sides = (-(-sides[0] // stride), -(-sides[1] // stride))
            convolution = nn.Conv2d(features, out, 3, stride=stride, padding=1)
            blocks += [convolution, *normalisation(norm, out, sides), nn.LeakyReLU(0.1)]
            features = out
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(features * sides[0] * sides[1], num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        x_NCHW = F.avg_pool2d(x_NCHW, self.shrink) if self.shrink > 1 else x_NCHW
        x = F.pixel_unshuffle(F.pad(x_NCHW, self.padding) if any(self.padding) else x_NCHW, 2)
        return _tensor(self.head(self.features(x).flatten(1)))


@final
class MLP(nn.Module):
    """Fully connected network with a ReLU after each hidden layer; `hidden` holds their widths, each at least 1."""

    def __init__(self, shape: Shape, num_classes: int, hidden: tuple[int, ...] = (128, 128)) -> None:
        super().__init__()
        channels, height, width = check_shape(shape, num_classes)
        if any(size < 1 for size in hidden):
            raise LimbeckError(f"MLP needs hidden widths of at least 1, not {hidden}.")
        sizes = (channels * height * width, *hidden, num_classes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        x = x_NCHW.flatten(1)
        for index, layer in enumerate(self.layers):
            x = layer(F.relu(x) if index else x)
        return x


@final
class LinearClassifier(nn.Module):
    """One linear layer on the flattened image, with a bias."""

    def __init__(self, shape: Shape, num_classes: int) -> None:
        super().__init__()
        channels, height, width = check_shape(shape, num_classes)
        self.linear = nn.Linear(channels * height * width, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        return _tensor(self.linear(x_NCHW.flatten(1)))


def normalisation(name: str, channels: int, sides: tuple[int, int]) -> list[nn.Module]:
    """The normalisation of a block as a list of no or one module; see `ConvNet` for its names."""
    match name:
        case "instance":
            return [nn.GroupNorm(channels, channels)]
        case "group":
            if channels % _GROUPS:
                raise LimbeckError(f"Group norm needs a width that is a multiple of {_GROUPS}, not {channels}.")
            return [nn.GroupNorm(_GROUPS, channels)]
        case "layer":
            return [nn.LayerNorm([channels, *sides])]
        case "batch":
            return [nn.BatchNorm2d(channels, track_running_stats=False)]
        case "running":
            return [BatchNorm(channels)]
        case "none":
            return []
        case _:
            raise unknown("normalisation", name, ("instance", "group", "layer", "batch", "running", "none"))


def _pool(name: str) -> list[nn.Module]:
    """The pooling of a block as a list of no or one module."""
    match name:
        case "avg":
            return [AvgPool2x2()]
        case "max":
            return [MaxPool2x2()]
        case "none":
            return []
        case _:
            raise unknown("pooling", name, ("avg", "max", "none"))


def check_shape(shape: Shape, num_classes: int) -> Shape:
    """The shape itself; raises `LimbeckError` when it is not three positive sizes or there is no class."""
    if len(shape) != 3 or min(shape) < 1:
        raise LimbeckError(f"An image shape is (channels, height, width), each at least 1, not {tuple(shape)}.")
    if num_classes < 1:
        raise LimbeckError(f"A learner needs at least 1 class, not {num_classes}.")
    return shape


def _require_features(net: str, shape: Shape, rows: int, columns: int) -> None:
    if min(rows, columns) < 1:
        raise LimbeckError(
            f"{net} halves its input until nothing is left of images of {shape[1]} x {shape[2]} pixels; "
            "use larger images or a learner such as 'mlp'."
        )


def _tensor(value: Tensor) -> Tensor:
    """The value itself: `nn.Module.__call__` is typed as returning anything, this gives the type back."""
    return value
