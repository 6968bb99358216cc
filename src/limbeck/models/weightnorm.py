"""Weight normalisation (Salimans and Kingma 2016): W = g·V/‖V‖, a length and a direction for each output of a layer."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call


@final
class WeightNorm(nn.Module):
    """Another module with each weight of two or more dimensions written as g·V/‖V‖, the norm taken for each output.

    It is composed of plain operations, since torch's own parametrisation has no forward-mode derivative. Parameters are
    those of the module under ``module.``, V in the place of each weight, and a ``length.NAME`` g for each. g starts at
    √(2·fan_in/(fan_in + fan_out)), the length that a weight drawn as Glorot and Bengio (2010) propose has on average;
    so initial weights depend neither on data nor on the size of V.

    Args:
        module: any module; its weights' first dimension must be that of their outputs, as in linear and convolution
            layers.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.names = {name.replace(".", "/"): name for name, p in module.named_parameters() if p.ndim >= 2}
        self.length = nn.ParameterDict(
            {flat: _glorot_length(module.get_parameter(name)) for flat, name in self.names.items()}
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the module makes of the inputs with its weights composed."""
        weights: dict[str, Tensor] = dict(self.module.named_parameters())
        for flat, name in self.names.items():
            direction = weights[name]
            inner = tuple(range(1, direction.ndim))
            norm = (direction.square().sum(inner, keepdim=True) + torch.finfo(direction.dtype).tiny).sqrt()
            weights[name] = self.length[flat].view(-1, *[1] * len(inner)) * direction / norm
        output: Tensor = functional_call(self.module, weights, inputs)
        return output


def _glorot_length(weight: nn.Parameter) -> nn.Parameter:
    fan_out, fan_in = weight.shape[0] * math.prod(weight.shape[2:]), math.prod(weight.shape[1:])
    length = torch.full((len(weight),), math.sqrt(2 * fan_in / (fan_in + fan_out)), dtype=weight.dtype)
    return nn.Parameter(length.to(weight.device))
