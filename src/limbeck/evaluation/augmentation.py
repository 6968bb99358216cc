"""Images shifted, turned, scaled and mirrored at random, as ordinary training shows them.

Shapes: M images, C channels, H x W pixels.
"""

from __future__ import annotations

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
    """The images (M, C, H, W), each mirrored or not and moved as ``move_images`` does, by draws of its own.

    Args:
        x_MCHW: images (M, C, H, W).
        rng: on the CPU; draws uniformly within the bounds.
        shift: up to so many pixels along each axis.
        turn: up to so many degrees, either way.
        zoom: a factor of up to 1 ± so much, < 1.
        flip: mirror each image left to right with probability 1/2, before it is moved.
    """
    count = len(x_MCHW)
    if flip:
        mirrored_M = torch.rand(count, generator=rng, dtype=torch.float32) < 0.5
        x_MCHW = torch.where(mirrored_M.to(x_MCHW.device)[:, None, None, None], x_MCHW.flip(-1), x_MCHW)
    if not (shift or turn or zoom):
        return x_MCHW
    turn_M, zoom_M, left_M, up_M = (2 * torch.rand(count, 4, generator=rng, dtype=torch.float32) - 1).unbind(1)
    return move_images(x_MCHW, turn_M=turn * turn_M, zoom_M=1 + zoom * zoom_M, left_M=shift * left_M, up_M=shift * up_M)


def move_images(x_MCHW: Tensor, *, turn_M: Tensor, zoom_M: Tensor, left_M: Tensor, up_M: Tensor) -> Tensor:
    """The images (M, C, H, W), each shifted and then turned and scaled about its centre, interpolated linearly.

    Pixels from outside have the value of the nearest edge.

    Args:
        x_MCHW: images (M, C, H, W).
        turn_M: degrees, counter-clockwise where positive.
        zoom_M: factors, > 0; above 1 enlarges.
        left_M: pixels to the left.
        up_M: pixels upwards.
    """
    count, _, height, width = x_MCHW.shape
    angle_M = torch.deg2rad(turn_M)
    cos_M, sin_M = angle_M.cos() / zoom_M, angle_M.sin() / zoom_M
    # In units of half the image's width and height, as ``affine_grid`` counts: from places of the result to the source.
    affine_M23 = torch.stack(
        [cos_M, -sin_M * height / width, 2 / width * left_M, sin_M * width / height, cos_M, 2 / height * up_M], dim=1
    ).view(count, 2, 3)
    grid_MHW2 = F.affine_grid(affine_M23.to(x_MCHW), list(x_MCHW.shape), align_corners=False)
    return F.grid_sample(x_MCHW, grid_MHW2, padding_mode="border", align_corners=False)
