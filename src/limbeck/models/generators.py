"""Networks that make training data, from noise and a label to an image, and one that goes back.

Shapes: M images, Z latent entries, K classes, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.models.nets import Shape

_SLOPE = 0.1


@final
class ConvGenerator(nn.Module):
    """The generator of Such et al. 2019 (arXiv 1912.07768, appendix): two fully connected layers, then upsampling and
    two convolutions, leaky rectifiers, and a hyperbolic tangent times ``scale`` at the end.

    Every layer before the last is normalised over its batch, as it was there; no statistics outlive it, so a batch is
    a function of its own noise and labels.

    Args:
        shape: of the images, C x H x W.
        num_classes: K.
        latent: Z, entries of the noise.
        hidden: units of the first layer.
        width: channels of the first feature map, an even number.
        scale: largest absolute pixel value, in units of the normalised pixels.
    """

    def __init__(
        self,
        shape: Shape,
        num_classes: int,
        latent: int = 128,
        *,
        hidden: int = 1024,
        width: int = 128,
        scale: float = 2.0,
    ) -> None:
        super().__init__()
        channels, height, width_px = shape
        if min(latent, hidden, num_classes) < 1 or width < 2 or width % 2:
            raise LimbeckError(
                f"A generator needs at least one latent entry and hidden unit and an even width of at least 2, not "
                f"{latent}, {hidden} and {width}."
            )
        self.shape = shape
        self.scale = scale
        self.rows, self.columns = -(-height // 4), -(-width_px // 4)
        self.width = width
        self.fc1 = nn.Linear(latent + num_classes, hidden)
        self.norm1 = nn.BatchNorm1d(hidden, track_running_stats=False)
        self.fc2 = nn.Linear(hidden, width * self.rows * self.columns)
        self.norm2 = nn.BatchNorm2d(width, track_running_stats=False)
        self.conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(width // 2, track_running_stats=False)
        self.conv2 = nn.Conv2d(width // 2, channels, 3, padding=1)

    def forward(self, z_MZ: Tensor, y_MK: Tensor) -> Tensor:
        """Noise (M, Z) and label distributions (M, K) -> images (M, C, H, W), between -scale and scale."""
        x = torch.cat([z_MZ, y_MK], dim=1)
        x = F.leaky_relu(self.norm1(self.fc1(x)), _SLOPE)
        x = self.fc2(x).unflatten(1, (self.width, self.rows, self.columns))
        x = F.leaky_relu(self.norm2(x), _SLOPE)
        x = F.leaky_relu(self.norm3(self.conv1(_twice(x))), _SLOPE)
        x = self.conv2(_twice(x))[..., : self.shape[1], : self.shape[2]]
        return self.scale * torch.tanh(x)


@final
class ConvEncoder(nn.Module):
    """From an image to the noise that a generator would make it from: two strided convolutions and one linear layer.

    Its outputs are standardised over the batch, as the noise is that a generator is fed otherwise.

    Args:
        shape: of the images, C x H x W.
        latent: Z, entries of the noise.
        width: channels of the second convolution, an even number.
    """

    def __init__(self, shape: Shape, latent: int, *, width: int = 32) -> None:
        super().__init__()
        channels, height, columns = shape
        self.conv1 = nn.Conv2d(channels, width // 2, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width // 2, width, 3, stride=2, padding=1)
        self.head = nn.Linear(width * -(-height // 4) * -(-columns // 4), latent)
        self.norm = nn.BatchNorm1d(latent, affine=False, track_running_stats=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W), N >= 2 -> (N, Z)."""
        x = F.leaky_relu(self.conv1(x_NCHW), _SLOPE)
        x = F.leaky_relu(self.conv2(x), _SLOPE)
        encoded: Tensor = self.norm(self.head(x.flatten(1)))
        return encoded


def _twice(x_NCHW: Tensor) -> Tensor:
    return F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
