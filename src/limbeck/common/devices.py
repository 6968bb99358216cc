"""Where to compute, as a caller may name it: text or a ``torch.device``."""

from __future__ import annotations

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
