"""Weight normalisation (Salimans and Kingma 2016): W = g·V/‖V‖, a length and a direction for each output of a layer."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from limbeck.engine import call_with

_SMALLEST = 1e-12
"""Added to ‖V‖², so that a direction of zeros has a gradient that is merely large."""


@final
class WeightNorm(nn.Module):
    """Another module with the weights of its linear and convolution layers written as g·V/‖V‖, for each output.

    It is composed of plain operations, since torch's own parametrisation has no forward-mode derivative. Parameters are
    those of the module under ``module.``, V in the place of each such weight, and ``length.I``, the g of the I-th. g
    starts at √(2·fan_in/(fan_in + fan_out)), the length that a weight drawn as Glorot and Bengio (2010) propose has on
    average; so initial weights depend neither on data nor on the size of V.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.outputs: dict[str, int] = {}  # the dimension that is the layer's output, by the weight's name
        named = dict(module.named_parameters())  # a weight that several layers share is there once
        for path, layer in module.named_modules():
            name = f"{path}.weight".lstrip(".")
            if isinstance(layer, (nn.Linear, _ConvNd)) and name in named:
                self.outputs[name] = int(isinstance(layer, _ConvTransposeNd))
        weights = [(module.get_parameter(name), dim) for name, dim in self.outputs.items()]
        self.length = nn.ParameterList([_glorot_length(weight, dim) for weight, dim in weights])

    def forward(self, *inputs: Tensor) -> Tensor:
        """The module's output for the inputs, with its weights composed from lengths and directions."""
        weights: dict[str, Tensor] = dict(self.module.named_parameters())
        for (name, dim), length in zip(self.outputs.items(), self.length, strict=True):
            direction = weights[name]
            others = tuple(d for d in range(direction.ndim) if d != dim)
            norm = (direction.square().sum(others, keepdim=True) + _SMALLEST).sqrt()
            weights[name] = length.view(norm.shape) * direction / norm
        output: Tensor = call_with(self.module, weights, inputs)
        return output


def _glorot_length(weight: nn.Parameter, dim: int) -> nn.Parameter:
    receptive = math.prod(weight.shape[2:])
    fan_out, fan_in = weight.shape[dim] * receptive, weight.shape[1 - dim] * receptive
    length = torch.full((weight.shape[dim],), math.sqrt(2 * fan_in / (fan_in + fan_out)), dtype=weight.dtype)
    return nn.Parameter(length.to(weight.device))
