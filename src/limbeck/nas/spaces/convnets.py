"""The grid of ConvNets that dataset condensation is judged on."""

from __future__ import annotations

import inspect
from typing import Final, final

from torch import nn

from limbeck.errors import unknown
from limbeck.models import ConvNet, Shape
from limbeck.nas.spaces.base import Arch, Graph, chain
from limbeck.nas.spaces.sized import SizedSpace

_LEARNER: Final = "convnet3"
_DEPTHS: Final = ("1", "2", "3", "4")
_WIDTHS: Final = ("32", "64", "128", "256")
_NARROW: Final = ("4", "8", "16", "32")


@final
class ConvNets(SizedSpace):
    """720 ConvNets: 1 to 4 blocks of one of four widths, five normalisations, three poolings, three activations.

    The grid on which Zhao et al. 2021 (arXiv 2006.05929) compare architectures by training them on a learned set.
    Batch normalisation is by the batch's own statistics, in training and after. The text of an architecture is the
    learner's name, ``convnet3,width=8,depth=2,norm=batch,pooling=max,activation=relu``; what is left out has the
    learner's default.

    Args:
        shape: (C, H, W) of the images, at least 16 x 16.
        num_classes: K, at least 1.
        narrow: widths 4, 8, 16 and 32 in place of 32, 64, 128 and 256.
    """

    def __init__(self, *, shape: Shape, num_classes: int, narrow: bool = False) -> None:
        self._narrow = narrow
        choices = {
            "width": _NARROW if narrow else _WIDTHS,
            "depth": _DEPTHS,
            "norm": ("none", "batch", "layer", "instance", "group"),
            "pooling": ("none", "max", "avg"),
            "activation": ("sigmoid", "relu", "leaky-relu"),
        }
        super().__init__(shape=shape, num_classes=num_classes, smallest=16, choices=choices)

    @property
    def name(self) -> str:
        return "convnets-narrow" if self._narrow else "convnets"

    def build(self, arch: Arch) -> nn.Module:
        return self.build_learner(self.text(arch))

    def text(self, arch: Arch) -> str:
        pairs = zip(self.choices, self.check(arch), strict=True)
        return ",".join((_LEARNER, *(f"{name}={option}" for name, option in pairs)))

    def read(self, text: str) -> Arch:
        options = self.options_of(_LEARNER, text)
        for name in options:
            if name not in self.choices:
                raise unknown(f"option of the learner '{_LEARNER}'", name, self.choices)
        defaults = {name: inspect.signature(ConvNet).parameters[name].default for name in self.choices}
        return self.check(tuple(str(value) for value in (defaults | options).values()))

    def graph(self, arch: Arch) -> Graph:
        return chain(self.build(arch))

    def shared(self, arch: Arch) -> dict[str, str]:
        """Stores by place and kind: a width's channels are the first ones of a wider network.

        A layer normalisation is shared among feature maps of the same height and width. So is the last layer, after
        as many blocks: its columns go channel by channel.
        """
        module = self.build(arch)
        assert isinstance(module, ConvNet)
        norm = arch[2]
        stores = {}
        block = -1
        for path, layer in module.features.named_children():
            kind = "conv" if isinstance(layer, nn.Conv2d) else norm
            block += kind == "conv"
            for leaf, parameter in layer.named_parameters():
                rest = "x".join(map(str, parameter.shape[1:])) if kind == "layer" else ""
                stores[f"features.{path}.{leaf}"] = f"block {block} {kind} {leaf} {rest}".rstrip()
        pixels = module.head.in_features // int(arch[0])
        head = {f"head.{leaf}": f"head {leaf} after {arch[1]} blocks, {pixels} pixels" for leaf in ("weight", "bias")}
        return stores | head
