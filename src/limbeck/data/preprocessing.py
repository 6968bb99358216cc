"""From stored pixels to what a network sees, and back.

Shapes: N images, C channels, H × W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from torch import Tensor

from limbeck.errors import LimbeckError

_MEASURE_IMAGES = 1024  # at a time, so that measuring needs no second copy of the data set,
_MEASURE_NUMBERS = 1 << 22  # nor of large pictures more than these take as doubles
_CONSTANT = 1e-6  # a channel whose spread is below this fraction of its level is constant but for rounding


@final
@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Per-channel normalisation ``(x * scale - mean) / std``; part of every artefact.

    Attributes:
        scale: brings stored pixels to about [0, 1]; 1/255 for bytes, 1 for floats. Positive.
        mean: C means of the scaled pixels.
        std: C standard deviations of the scaled pixels, each positive.

    Raises:
        LimbeckError: on construction, if the values are not finite, not positive, or of different length.

    >>> pre = Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,))
    >>> pre.apply(torch.full((1, 1, 1, 2), 255, dtype=torch.uint8)).tolist()
    [[[[2.0, 2.0]]]]
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what would give NaN later."""
        if not self.mean or len(self.mean) != len(self.std):
            raise LimbeckError(
                f"Preprocessing needs one mean and one std for each channel, got {len(self.mean)} and {len(self.std)}."
            )
        if not all(math.isfinite(value) for value in (self.scale, *self.mean, *self.std)):
            raise LimbeckError("Preprocessing needs finite numbers for scale, mean and std.")
        if self.scale <= 0 or min(self.std) <= 0:
            raise LimbeckError("Preprocessing needs a positive scale and a positive std for every channel.")

    def apply(self, x_NCHW: Tensor) -> Tensor:
        """Normalised float32 images on the same device.

        Args:
            x_NCHW: stored pixels (..., C, H, W), of any real dtype.

        Raises:
            LimbeckError: if C is not the number of channels this was made for.
        """
        mean_C11, std_C11 = self._constants(x_NCHW, torch.float32)
        # A copy, so working in place never touches the caller's data; its rows are one after the other, since a single
        # channel can pass for channels last, which group normalisation then asks for and vmap cannot give.
        fresh_NCHW = x_NCHW.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        return fresh_NCHW.mul_(self.scale).sub_(mean_C11).div_(std_C11)

    def invert(self, x_NCHW: Tensor) -> Tensor:
        """Images in the units of a picture, ``x * std + mean``: about [0, 1], not clipped.

        Args:
            x_NCHW: normalised floating-point images (..., C, H, W).

        Raises:
            LimbeckError: if C is not the number of channels this was made for.
        """
        dtype = x_NCHW.dtype if x_NCHW.is_floating_point() else torch.float32
        mean_C11, std_C11 = self._constants(x_NCHW, dtype)
        return x_NCHW * std_C11 + mean_C11

    def _constants(self, x_NCHW: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        channels = x_NCHW.shape[-3] if x_NCHW.dim() >= 3 else 0
        # One mean would broadcast over three channels without a word, hence the check.
        if channels != len(self.mean):
            raise LimbeckError(
                f"This preprocessing is for images (..., {len(self.mean)}, H, W), got shape {tuple(x_NCHW.shape)}."
            )
        mean = torch.tensor(self.mean, dtype=dtype, device=x_NCHW.device)
        std = torch.tensor(self.std, dtype=dtype, device=x_NCHW.device)
        return mean[:, None, None], std[:, None, None]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``distilled.json``."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            LimbeckError: if a field is missing or not a number.
        """
        try:
            return cls(
                scale=float(saved["scale"]),
                mean=tuple(float(value) for value in saved["mean"]),
                std=tuple(float(value) for value in saved["std"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LimbeckError(
                f"Damaged preprocessing {saved!r}: expected numbers for 'scale', 'mean' and 'std'."
            ) from error

    @classmethod
    def measure(cls, x_NCHW: Tensor) -> Self:
        """Mean and std of training images (N, C, H, W): scale 1/255 for bytes, 1 for everything else.

        A constant channel gets std 1: it carries nothing, and dividing by its rounding error would make noise of it.

        Raises:
            LimbeckError: if there are no images.
        """
        if x_NCHW.dim() != 4 or x_NCHW.numel() == 0:
            raise LimbeckError(f"Measuring needs images (N, C, H, W), got shape {tuple(x_NCHW.shape)}.")
        scale = 1 / 255 if x_NCHW.dtype == torch.uint8 else 1.0
        count = x_NCHW.numel() // x_NCHW.shape[1]
        # Sums about a first guess of the mean: one pass, without the cancellation of E[x²] - E[x]².
        chunk = min(_MEASURE_IMAGES, max(1, _MEASURE_NUMBERS // x_NCHW[0].numel()))
        guess_C = x_NCHW[:chunk].double().mean((0, 2, 3)) * scale
        sum_C, square_C = torch.zeros_like(guess_C), torch.zeros_like(guess_C)
        for start in range(0, len(x_NCHW), chunk):
            d_NCHW = x_NCHW[start : start + chunk].double() * scale - guess_C[:, None, None]
            sum_C += d_NCHW.sum((0, 2, 3))
            square_C += d_NCHW.square_().sum((0, 2, 3))
        mean_C = guess_C + sum_C / count
        std_C = (square_C / count - (sum_C / count) ** 2).clamp_min(0).sqrt()
        floor_C = _CONSTANT * mean_C.abs()
        std_C = torch.where(std_C > floor_C, std_C, torch.ones_like(std_C))
        return cls(scale=scale, mean=tuple(mean_C.tolist()), std=tuple(std_C.tolist()))
