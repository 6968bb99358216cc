"""What a network sees in images: the features that its last linear layer reads.

Shapes: N images, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.engine import Tensors, logits_of

Embed = Callable[[Tensors, Tensor], Tensor]
"""Parameters and buffers by name, and images (N, C, H, W), to features (N, F)."""


def make_embedding(module: nn.Module, network: Tensors, x_NCHW: Tensor) -> Embed:
    """The function to the features that a module's last linear layer reads; its logits where it has no such layer.

    Args:
        module: that is embedded with; its own weights are not read.
        network: some weights of it, to see which layer comes last.
        x_NCHW: some images for that.
    """
    called: list[nn.Module] = []
    handles = [
        layer.register_forward_pre_hook(lambda layer, _: called.append(layer))
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        with torch.no_grad():
            functional_call(module, network, (x_NCHW[:2].clone(),))
    finally:
        for handle in handles:
            handle.remove()
    last = called[-1] if called else None

    def embed(network: Tensors, x_NCHW: Tensor) -> Tensor:
        read: list[Tensor] = []

        def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            read.append(inputs[0])

        handle = None if last is None else last.register_forward_pre_hook(keep)
        try:
            logits = logits_of(functional_call(module, network, (x_NCHW,)))
        finally:
            if handle is not None:
                handle.remove()
        features: Tensor = read[-1] if read else logits
        return features.flatten(1)

    return embed
