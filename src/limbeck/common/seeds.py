"""A generator of random numbers for each purpose."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, stream: str) -> torch.Generator:
    """A generator on the CPU for one purpose, so that streams never overlap however much each is used.

    Args:
        seed: of the whole run.
        stream: names the purpose, such as "evaluation test".
    """
    digest = hashlib.sha256(f"{seed}:{stream}".encode()).digest()
    # Below 2^31: torch's CPU generator reads 32 bits of a seed, and held-out draws own the upper half.
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little") & 0x7FFFFFFF)
