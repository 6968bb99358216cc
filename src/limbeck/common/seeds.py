"""Random numbers: a generator for each purpose, and a state of its own for what draws from the global one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
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


@contextmanager
def own_state(seed: int) -> Iterator[None]:
    """The global random states of torch (the processor's), NumPy and Python, seeded inside and restored after; what is
    made inside is float32.

    Modules draw their weights from these states, in the default dtype, which the caller may have changed.
    """
    before, numpy_state, python_state = torch.get_default_dtype(), np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
            np.random.set_state(numpy_state)
            random.setstate(python_state)
