"""Where to compute, as a caller may name it: text or a ``torch.device``."""

from __future__ import annotations

import os
from typing import TypeAlias

import torch

from limbeck.errors import LimbeckError

Device: TypeAlias = str | torch.device


def usable_device(device: Device) -> str:
    """A device's name, after a tensor was made there.

    >>> usable_device(torch.device("cpu"))
    'cpu'

    Raises:
        LimbeckError: there is no such device, or it cannot be used on this machine.
    """
    try:
        name = str(torch.device(device))
        torch.zeros(1, dtype=torch.float32, device=name).cpu()
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise LimbeckError(f"The device '{device}' cannot be used here ({reason}); 'cpu' always can.") from None
    return name


def describe_load(threads: int) -> str | None:
    """What is said where others keep the processors busy, so that several threads would wait for each other.

    Args:
        threads: that are used here.

    Returns:
        A sentence; None where there is room for the threads, one is used only, or nobody can tell.
    """
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
    cores = os.cpu_count() or 1
    if threads < 2 or load < cores + 0.5:  # what ran here before alone leaves a load of at most its processors
        return None
    return (
        f"this machine is busy (a load of {load:.1f} on {cores} processors), and threads wait for each other: one "
        "(--threads 1, torch.set_num_threads(1)) may be several times as fast"
    )
