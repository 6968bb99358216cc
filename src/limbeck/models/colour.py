"""Grey images for networks that take coloured ones."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.errors import LimbeckError


@final
class GreyToColour(nn.Module):
    """Repeats the single channel of grey images: ``nn.Sequential(limbeck.GreyToColour(), model)`` takes them.

    Args:
        channels: how often; three by default.

    Raises:
        LimbeckError: on construction, fewer than one channel; when called, images that are not grey.

    >>> import torch
    >>> GreyToColour()(torch.ones(2, 1, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        if channels < 1:
            raise LimbeckError(f"channels is {channels}; it must be at least 1.")
        self.channels = channels

    def forward(self, x_N1HW: Tensor) -> Tensor:
        """(N, 1, H, W) to (N, channels, H, W)."""
        if x_N1HW.shape[1] != 1:
            raise LimbeckError(f"GreyToColour takes images (N, 1, H, W), got {tuple(x_N1HW.shape)}; leave it out.")
        return x_N1HW.repeat(1, self.channels, 1, 1)
