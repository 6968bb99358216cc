"""Layers that keep something from one training step to the next: running statistics, or the key of their noise.

In training such a layer *assigns* its buffers, never writes into them. The learner runs it as a pure function from
buffers to buffers, so what it keeps is part of the state that is stored, recomputed and differentiated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

KEYS = 2**24
"""Number of keys: integers that float32 holds exactly."""

_MASK = 0xFFFFFFFF


class Carrying(nn.Module):
    """A layer whose buffers its forward pass replaces in training, by assignment; all of them are floating-point.

    ``carrying`` is set where a learner runs it, and what it assigns is differentiated. Otherwise, as in a training loop
    of the user's, it must detach that.
    """

    carrying = False
    statistics: tuple[str, ...] = ()
    """Names of buffers of layers within, which its forward pass replaces, too."""


class Noisy(Carrying):
    """A layer that draws random numbers in training, from its buffer ``key``: the same key, the same numbers.

    Each pass leaves another key behind. A key is an integer in [0, 2^24) kept as a floating-point number, so that it
    passes through differentiation like the rest of the state, with a gradient of 0.
    """

    key: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("key", torch.zeros((), dtype=torch.float32))

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of the key's precision; replaces the key."""
        key = self.key.long()
        counter = torch.arange(1, 1 + math.prod(shape), device=key.device)
        bits = _mix_bits(_mix_bits(key * 0x9E3779B1 + 0x7F4A7C15) + counter * 0x9E3779B1) >> 8
        # A linear congruential step (Knuth 1997, section 3.2.1.2) goes through all keys before it comes to one again,
        # and never from two keys to the same.
        self.key = ((key * 1664525 + 1013904223) % KEYS).to(self.key.dtype)
        return (bits.to(self.key.dtype) / KEYS).view(shape)


def _mix_bits(bits: Tensor) -> Tensor:
    """The finaliser of MurmurHash3 on 32 bits kept in int64, whose products wrap around without harm to these bits."""
    bits = bits & _MASK
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & _MASK
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & _MASK
    return bits ^ (bits >> 16)


def carried_names(module: nn.Module) -> tuple[str, ...]:
    """Names of the buffers that a module's layers carry from step to step."""
    return tuple(
        f"{path}.{name}".lstrip(".")
        for path, layer in module.named_modules()
        if isinstance(layer, Carrying)
        for name in (*(name for name, _ in layer.named_buffers(recurse=False)), *layer.statistics)
    )
