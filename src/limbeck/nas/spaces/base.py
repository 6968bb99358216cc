"""A search space: which networks there are, and how to draw, change, build and describe one.

Shapes: D numbers of an encoding, C channels, H × W pixels of an image, K classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import LimbeckError
from limbeck.models import Shape

Arch: TypeAlias = tuple[str, ...]
"""An architecture: one option for each choice of its space, in the order of ``Space.choices``."""


@final
@dataclass(frozen=True, kw_only=True)
class Node:
    """A layer of a network: what it does, and the path of the submodule whose parameters it owns, if it has any."""

    op: str
    module: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Graph:
    """A network as a directed acyclic graph: nodes in an order in which data flows, edges from lower to higher."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]


class Space(ABC):
    """A finite set of architectures for images of one shape.

    A space of one's own derives from this class. ``choices``, ``build``, ``text`` and ``read`` are enough for a search
    with every proxy that only trains networks; ``graph`` and ``shared`` are what hypernetworks and weight sharing read,
    and ``chain`` and ``own_names`` below serve where networks are plain sequences.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What the command line calls it."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """(C, H, W) of the images."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """K."""

    @property
    @abstractmethod
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        """The options of each choice, by its name."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What else, as JSON, its networks depend on and their texts may not say, so that scores are not mixed up."""
        return {}

    @abstractmethod
    def build(self, arch: Arch) -> nn.Module:
        """The network, (N, C, H, W) images to (N, K) logits, ready for `torch.func`; its weights are always the same.

        Raises:
            LimbeckError: not of this space, or it cannot be built for images of this shape.
        """

    @abstractmethod
    def text(self, arch: Arch) -> str:
        """The architecture in one word, as published where there is such a form."""

    @abstractmethod
    def read(self, text: str) -> Arch:
        """Inverse of ``text``; raises LimbeckError for what is no architecture of this space."""

    @abstractmethod
    def graph(self, arch: Arch) -> Graph:
        """How data flows; every parameter of the network belongs to a submodule that exactly one node names."""

    @abstractmethod
    def shared(self, arch: Arch) -> dict[str, str]:
        """For each parameter the name of the store that it is cut from.

        Parameters of one store have the same number of dimensions, and each is its leading part: those of a narrow
        network are the first rows and columns of a wide one's (weight sharing, Pham et al. 2018; Cai et al. 2020).
        """

    @final
    @property
    def size(self) -> int:
        """How many architectures there are; different ones may build the same function."""
        return math.prod(len(options) for options in self.choices.values())

    @final
    def check(self, arch: Arch) -> Arch:
        """The architecture itself; raises LimbeckError if it is not of this space."""
        if len(arch) != len(self.choices):
            raise LimbeckError(
                f"An architecture of the space {self.name} makes {len(self.choices)} choices, not {len(arch)}."
            )
        for (name, options), choice in zip(self.choices.items(), arch, strict=True):
            if choice not in options:
                raise LimbeckError(f"{name} is '{choice}'; the space {self.name} has {', '.join(options)}.")
        return arch

    @final
    def sample(self, rng: np.random.Generator) -> Arch:
        """An architecture, each choice uniform and independent."""
        return tuple(options[int(rng.integers(len(options)))] for options in self.choices.values())

    @final
    def mutate(self, arch: Arch, rng: np.random.Generator) -> Arch:
        """The same but for one choice, drawn among those that have other options; so is its new option."""
        options_of = list(self.choices.values())
        open_ones = [index for index, options in enumerate(options_of) if len(options) > 1]
        if not open_ones:
            raise LimbeckError(f"The space {self.name} has a single architecture, which cannot be mutated.")
        index = open_ones[int(rng.integers(len(open_ones)))]
        others = [option for option in options_of[index] if option != arch[index]]
        return (*arch[:index], others[int(rng.integers(len(others)))], *arch[index + 1 :])

    @final
    def encode(self, arch: Arch) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """(D,) zeros and ones: a one-hot code of each choice, one after the other."""
        self.check(arch)
        return np.array(
            [
                float(option == choice)
                for choice, options in zip(arch, self.choices.values(), strict=True)
                for option in options
            ]
        )

    @final
    def parameters(self, arch: Arch) -> int:
        """Numbers that are trained."""
        return sum(p.numel() for p in self.build(arch).parameters() if p.requires_grad)

    @final
    def flops(self, arch: Arch) -> int:
        """Floating-point operations of the forward pass on one image, a multiply-add counted as two."""
        module = self.build(arch)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.zeros(2, *self.shape, dtype=torch.float32))  # two images: batch normalisation needs a variance
        return int(counter.get_total_flops()) // 2


def chain(module: nn.Module) -> Graph:
    """The graph of a network that is a sequence of its layers, in the order in which they were registered.

    >>> chain(nn.Sequential(nn.Linear(2, 3), nn.ReLU())).nodes
    (Node(op='Linear', module='0'), Node(op='ReLU', module='1'))
    """
    layers = [(path, layer) for path, layer in module.named_modules() if not any(True for _ in layer.children())]
    return Graph(
        nodes=tuple(Node(op=type(layer).__name__, module=path) for path, layer in layers),
        edges=tuple((index, index + 1) for index in range(len(layers) - 1)),
    )


def own_names(module: nn.Module) -> dict[str, str]:
    """Stores named like the parameters and their shapes: networks share what has the same name and shape."""
    return {name: f"{name} {tuple(p.shape)}" for name, p in module.named_parameters()}
