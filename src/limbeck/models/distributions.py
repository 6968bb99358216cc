"""Distributions of a layer's weights, drawn for many networks at once.

Shapes: n networks, stacked in front of each weight's own shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

Draw = Callable[[tuple[int, ...], float, torch.Generator], Tensor]
"""(n, *shape) of a weight, gain, generator -> the n weights in float32."""


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out of a weight (n, out, in, *kernel)."""
    receptive = math.prod(shape[3:])
    return shape[2] * receptive, shape[1] * receptive


def _xavier(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).mul_(gain * math.sqrt(2.0 / sum(_fans(shape))))


def _xavier_uniform(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    bound = gain * math.sqrt(6.0 / sum(_fans(shape)))
    return torch.empty(shape, dtype=torch.float32).uniform_(-bound, bound, generator=generator)


def _kaiming(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).mul_(gain * math.sqrt(2.0 / _fans(shape)[0]))


def _orthogonal(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    n, rows, columns = shape[0], shape[1], math.prod(shape[2:])
    gauss = torch.randn((n, rows, columns), generator=generator, dtype=torch.float32)
    q, r = torch.linalg.qr(gauss if rows >= columns else gauss.mT)
    # QR is unique, and q uniform among orthogonal matrices, only with r's diagonal made positive.
    q = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q).unsqueeze(-2)
    weights: Tensor = q if rows >= columns else q.mT
    return weights.reshape(shape).mul(gain)


def _normal(shape: tuple[int, ...], gain: float, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float32).mul_(0.02 * gain)


DISTRIBUTIONS: Final[Mapping[str, Draw]] = MappingProxyType(
    {
        "xavier": _xavier,
        "xavier-uniform": _xavier_uniform,
        "kaiming": _kaiming,
        "orthogonal": _orthogonal,
        "normal": _normal,
    }
)
