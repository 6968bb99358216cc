"""Images shifted, turned, scaled and mirrored at random, as ordinary training shows them.

Shapes: M images, C channels, H x W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def transform_images(
    x_MCHW: Tensor,
    rng: torch.Generator,
    *,
    shift: float = 0.0,
    turn: float = 0.0,
    zoom: float = 0.0,
    flip: bool = False,
) -> Tensor:
    """Each image by a random affine map of its own; pixels from outside have the value of the nearest edge.

    Args:
        x_MCHW: images (M, C, H, W).
        rng: on the CPU; draws uniformly within the bounds.
        shift: up to so many pixels along each axis.
        turn: up to so many degrees.
        zoom: a factor of up to 1 ± so much, < 1.
        flip: mirror half of them.
    """
    count, _, height, width = x_MCHW.shape
    if flip:
        mirrored_M = torch.rand(count, generator=rng) < 0.5
        x_MCHW = torch.where(mirrored_M.to(x_MCHW.device)[:, None, None, None], x_MCHW.flip(-1), x_MCHW)
    if not (shift or turn or zoom):
        return x_MCHW
    draws_M4 = 2 * torch.rand(count, 4, generator=rng) - 1
    angle_M = draws_M4[:, 0] * math.radians(turn)
    scale_M = 1 / (1 + zoom * draws_M4[:, 1])
    cos_M, sin_M = scale_M * angle_M.cos(), scale_M * angle_M.sin()
    across_M, down_M = 2 * shift / width * draws_M4[:, 2], 2 * shift / height * draws_M4[:, 3]
    affine_M23 = torch.stack(
        [cos_M, -sin_M * height / width, across_M, sin_M * width / height, cos_M, down_M], dim=1
    ).view(count, 2, 3)
    grid = F.affine_grid(affine_M23.to(x_MCHW), list(x_MCHW.shape), align_corners=False)
    moved: Tensor = F.grid_sample(x_MCHW, grid, padding_mode="border", align_corners=False)
    return moved
