"""Functions of torch that write into a layer's buffers: here these are assigned, so that they can be carried."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import torch.nn.functional as F
from torch import Tensor

from limbeck.engine import Carrying


def _batch_norm(
    owner: Carrying,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    over_images: bool = True,
) -> Tensor:
    """Batch normalisation (Ioffe and Szegedy 2015) in plain operations, whose derivatives are right in every order."""
    others, shape = (*range(over_images), *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    if training or running_mean is None or running_var is None:
        mean = x.mean(others, keepdim=True)
        var = (x - mean).square().mean(others, keepdim=True)
    else:
        mean, var = running_mean.view(shape), running_var.view(shape)
    if training and running_mean is not None and running_var is not None:
        count = x.numel() // mean.numel()
        for kept, value in ((running_mean, mean), (running_var, var * (count / max(1, count - 1)))):
            value = value.mean(0).flatten()
            value = value if owner.carrying else value.detach()
            _assign(owner, kept, (1 - momentum) * kept + momentum * value)
    x = (x - mean) * (var + eps).rsqrt()
    x = x if weight is None else x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)


def _instance_norm(
    owner: Carrying,
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Instance normalisation (Ulyanov et al. 2016); running statistics move to the average over the images."""
    settings = (running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    return _batch_norm(owner, x, *settings, over_images=False)


def _normalize(
    owner: Carrying, x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """As a step of spectral normalisation's power iteration (Miyato et al. 2018), whose vectors are constants to torch.

    Outside such a layer it is torch's own.
    """
    if out is None:
        return F.normalize(x, p, dim, eps)
    value = F.normalize(x.detach(), p, dim, eps)  # forward derivatives heed no torch.no_grad
    return value if _assign(owner, out, value) else F.normalize(x, p, dim, eps, out)


def _assign(owner: Carrying, kept: Tensor, value: Tensor) -> bool:
    """Put a value in the place of a buffer; whether there is such a one."""
    for layer in owner.modules():
        for leaf, buffer in layer._buffers.items():
            if buffer is kept:
                layer._buffers[leaf] = value
                return True
    return False


ASSIGNED: Final = MappingProxyType[Any, Callable[..., Tensor]](
    {F.batch_norm: _batch_norm, F.instance_norm: _instance_norm, F.normalize: _normalize}
)
"""What takes the place of such a function: it takes the layer that carries what is within it, and then the same."""
