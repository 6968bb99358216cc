"""Search spaces: which networks there are, and how to draw, change, build and describe one."""

from __future__ import annotations

from limbeck.nas.spaces.base import Arch, Graph, Node, Space, chain, own_names
from limbeck.nas.spaces.cells import Cells
from limbeck.nas.spaces.convnets import ConvNets
from limbeck.nas.spaces.named import SPACES, known_spaces, space_named
from limbeck.nas.spaces.nasbench201 import NasBench201Cells
from limbeck.nas.spaces.sized import PlainSpace

__all__ = [
    "SPACES",
    "Arch",
    "Cells",
    "ConvNets",
    "Graph",
    "NasBench201Cells",
    "Node",
    "PlainSpace",
    "Space",
    "chain",
    "known_spaces",
    "own_names",
    "space_named",
]
