"""Images shifted, turned, scaled and mirrored at random, as ordinary training shows them.

Shapes: M images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor


class Moves(NamedTuple):
    """How each of M images is moved: whether it is mirrored, degrees, factors, pixels to the left and upwards, (M,)."""

    mirrored: Tensor
    turn: Tensor
    zoom: Tensor
    left: Tensor
    up: Tensor

    def at(self, index_N: Tensor) -> Moves:
        """Those with these numbers, (N,): with the classes of images, all of a class move alike."""
        return Moves(*(value[index_N.to(value.device)] for value in self))

    def apply(self, x_MCHW: Tensor) -> Tensor:
        """The images (M, C, H, W), mirrored and then moved; differentiable in them."""
        if self.mirrored.any():
            mirrored_M111 = self.mirrored.to(x_MCHW.device)[:, None, None, None]
            x_MCHW = torch.where(mirrored_M111, x_MCHW.flip(-1), x_MCHW)
        still = not (self.turn.any() or self.left.any() or self.up.any() or (self.zoom != 1).any())
        if still:
            return x_MCHW
        return move_images(x_MCHW, turn_M=self.turn, zoom_M=self.zoom, left_M=self.left, up_M=self.up)


@final
@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Bounds within which images are changed at random.

    Args:
        shift: up to so many pixels along each axis.
        turn: up to so many degrees, either way.
        zoom: a factor of up to 1 ± so much, < 1.
        flip: mirror each image left to right with probability 1/2, before it is moved.
    """

    shift: float = 0.0
    turn: float = 0.0
    zoom: float = 0.0
    flip: bool = False

    @classmethod
    def suiting(cls, shape: tuple[int, int, int], strength: float = 1.0) -> Self:
        """What suits images of a shape (C, H, W) at strength 1; colour images are mirrored, too."""
        return cls(shift=strength * min(shape[1:]) / 14, turn=10 * strength, zoom=0.1 * strength, flip=shape[0] == 3)

    @property
    def idle(self) -> bool:
        """Whether nothing is changed."""
        return not (self.shift or self.turn or self.zoom or self.flip)

    def draw(self, count: int, rng: torch.Generator) -> Moves:
        """``count`` moves, uniform within the bounds; ``rng`` is on the CPU, and not used for what is not changed."""
        mirrored = torch.zeros(count, dtype=torch.bool)
        if self.flip:
            mirrored = torch.rand(count, generator=rng, dtype=torch.float32) < 0.5
        turn, zoom, left, up = torch.zeros(4, count, dtype=torch.float32)
        if self.shift or self.turn or self.zoom:
            turn, zoom, left, up = (2 * torch.rand(count, 4, generator=rng, dtype=torch.float32) - 1).unbind(1)
        return Moves(mirrored, self.turn * turn, 1 + self.zoom * zoom, self.shift * left, self.shift * up)

    def transform(self, x_MCHW: Tensor, rng: torch.Generator) -> Tensor:
        """The images (M, C, H, W), each mirrored and moved by a draw of its own."""
        return self.draw(len(x_MCHW), rng).apply(x_MCHW)


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
