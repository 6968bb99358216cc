"""What can be done to whole sets of images. Bytes stay bytes and floats stay floats, in the same range.

All of it is computed in double precision and rounded to the nearest byte, so that the result does not depend on the
number of threads. Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_GRID = 4  # random colours along each side of a background
_TIE = 1e-6  # a value this close below a half is a half but for the order of summation


def to_bytes(x_NCHW: Tensor) -> Tensor:
    """To the nearest byte, halves up."""
    return (x_NCHW + (0.5 + _TIE)).floor_().clamp_(0, 255).to(torch.uint8)


def _store_like(x_NCHW: Tensor, like: Tensor) -> Tensor:
    return to_bytes(x_NCHW) if like.dtype == torch.uint8 else x_NCHW.to(like.dtype)


def invert(x_NCHW: Tensor) -> Tensor:
    """255 − x for bytes, 1 − x for floats."""
    return (255 if x_NCHW.dtype == torch.uint8 else 1) - x_NCHW


def rotate(x_NCHW: Tensor, degrees: float) -> Tensor:
    """Counter-clockwise about the centre: quarter turns exactly, other angles bilinearly in the same H × W, 0 outside.

    A quarter turn of images that are not square exchanges H and W.
    """
    if degrees % 90 == 0:
        return torch.rot90(x_NCHW, int(degrees // 90), (2, 3))
    height, width = x_NCHW.shape[2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # From a place in the result to where it comes from; both run from -1 to 1 along each axis, whatever its length.
    affine = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], dtype=torch.float64)
    grid = F.affine_grid(affine[None], [1, 1, height, width], align_corners=False)
    floats_NCHW = F.grid_sample(x_NCHW.double(), grid.expand(len(x_NCHW), -1, -1, -1), align_corners=False)
    return _store_like(floats_NCHW, x_NCHW)


def resize(x_NCHW: Tensor, size: int) -> Tensor:
    """Bilinear to size × size; smoothed as far as needed where that is smaller."""
    return _store_like(interpolate(x_NCHW.double(), (size, size)), x_NCHW)


def resample(x_NCHW: Tensor, size: int) -> Tensor:
    """Averaged over the areas of size × size pixels, then bilinear to H × W as before."""
    height, width = x_NCHW.shape[2:]
    small = _areas(height, size) @ x_NCHW.double() @ _areas(width, size).T
    return _store_like(interpolate(small, (height, width)), x_NCHW)


def interpolate(x_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Floats at another size (H, W), smoothed as far as needed where that is smaller."""
    return F.interpolate(x_NCHW, size=size, mode="bilinear", align_corners=False, antialias=True)


def _areas(length: int, size: int) -> Tensor:
    """(size, length): the part of each new pixel that each old one covers."""
    old, new = torch.arange(length, dtype=torch.float64), torch.arange(size, dtype=torch.float64)[:, None]
    scale = length / size
    return (torch.minimum((new + 1) * scale, old + 1) - torch.maximum(new * scale, old)).clamp_min(0) / scale


def repeat_channel(x_NCHW: Tensor) -> Tensor:
    """(N, 1, H, W) repeated to (N, 3, H, W)."""
    return x_NCHW.repeat(1, 3, 1, 1)


def backgrounds(seed: int, start: int, count: int, height: int, width: int) -> Tensor:
    """Smooth fields of random colours, (count, 3, H, W) in [0, 1], those of the images from ``start`` on.

    Each is bilinear between 4 × 4 colours, uniformly random, whose corners are the corners of the image. They depend on
    ``seed`` and the image's number alone.
    """
    each = 3 * _GRID * _GRID
    colours = _uniform(seed, start * each, count * each).view(count, 3, _GRID, _GRID)
    return F.interpolate(colours, size=(height, width), mode="bilinear", align_corners=True)


def _uniform(seed: int, start: int, count: int) -> Tensor:
    """Numbers ``start``, ``start + 1``, ... of a sequence in [0, 1): SplitMix64, which can begin anywhere."""
    first = (seed << 40) + start + 1
    z = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # modulo 2⁶⁴, as are the next
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return torch.tensor((z >> np.uint64(11)).astype(np.float64) / 2**53)  # a copy, at an address of torch's choice


def put_on(x_NCHW: Tensor, background_N3HW: Tensor) -> Tensor:
    """|background − x| as (N, 3, H, W), C being 1 or 3; backgrounds in [0, 1]."""
    if x_NCHW.dtype == torch.uint8:
        return (to_bytes(background_N3HW * 255).short() - x_NCHW.short()).abs_().to(torch.uint8)
    return (background_N3HW.to(x_NCHW.dtype) - x_NCHW).abs_()
