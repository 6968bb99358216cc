"""What a network sees in images: the features that its last linear layer reads.

Shapes: N images, F features.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from limbeck.engine import Tensors, call_with, logits_of


def embed_images(module: nn.Module, network: Tensors, x_NCHW: Tensor) -> Tensor:
    """The features (N, F) that a module's last linear layer reads; its logits where it has no such layer.

    Args:
        module: that is embedded with; neither it nor its own weights are changed.
        network: parameters and buffers by name.
        x_NCHW: images (N, C, H, W).
    """
    read: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        read.append(inputs[0])

    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    handles = [layer.register_forward_pre_hook(keep) for layer in linear]
    try:
        # Of its own: the module may work in place, and assigns to the buffers that it carries.
        logits: Tensor = logits_of(call_with(module, dict(network), (x_NCHW.clone(),)))
    finally:
        for handle in handles:
            handle.remove()
    return (read[-1] if read else logits).flatten(1)
