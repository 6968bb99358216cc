"""What learned images may be: valid pixels, and no further than a bound from the real ones that they started as.

Shapes: S batches, M images a batch, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

Norm: TypeAlias = Literal["linf", "l2"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Limits:
    """A convex set of images in normalised space, onto which they are put back after every outer step.

    Args:
        low_C11, high_C11: normalised values of the smallest and the largest pixel, (C, 1, 1).
        unit_C11: normalised length of one unit of pixels, whose range is 1, (C, 1, 1).
        centre_SMCHW: valid images that the others stay near, (S, M, C, H, W); None if they may go anywhere.
        epsilon: how far, in units of pixels: of each pixel, or of the Euclidean norm of an image's change.
        norm: ``linf`` or ``l2``.
    """

    low_C11: Tensor
    high_C11: Tensor
    unit_C11: Tensor
    centre_SMCHW: Tensor | None = None
    epsilon: float = 0.0
    norm: Norm = "linf"

    def nearest(self, images_SMCHW: Tensor) -> Tensor:
        """Images (S, M, C, H, W) of the set near these: the nearest for ``linf``.

        For ``l2`` they are the nearest within the ball, with pixels clipped to the range.
        """
        if self.centre_SMCHW is not None:
            change = images_SMCHW - self.centre_SMCHW
            if self.norm == "linf":
                bound_C11 = self.epsilon * self.unit_C11
                change = change.clamp(-bound_C11, bound_C11)
            else:
                length = (change / self.unit_C11).square().sum((-3, -2, -1), keepdim=True).sqrt()
                change = change * (self.epsilon / length.clamp_min(1e-12)).clamp_max(1.0)
            images_SMCHW = self.centre_SMCHW + change
        # The centre is valid, so what this moves comes nearer to it: both bounds hold.
        return torch.minimum(torch.maximum(images_SMCHW, self.low_C11), self.high_C11)
