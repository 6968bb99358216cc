"""The networks of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326).

Like all learners here they go through `functional_call`, `vmap` and forward-mode AD and keep no statistics. Shapes:
N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import LimbeckError, unknown
from limbeck.models.blocks import SamePool, Sides, check_cells, conv, divide_sides, stem
from limbeck.models.nets import Norm, Shape, normalisation

OPERATIONS_201: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES_201: Final = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""From which node to which, in the order in which NAS-Bench-201's text names their operations."""
_FORM_201: Final = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"


@final
class NasBench201(nn.Module):
    """A network of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326), by default of its size there.

    A 3 x 3 convolution, ``cells`` cells, a residual block of stride 2, ``cells`` cells, another such block, ``cells``
    cells, normalisation and a rectifier, the mean over all pixels and one linear layer. A cell has four nodes; each
    but the first, which is the input, adds all earlier ones, each after an operation, and the last is the output.

    Args:
        shape: channels, height and width of an image, at least 4 x 4.
        num_classes: K, at least 1.
        arch: the cell as that paper writes it, such as
            ``|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|``.
        width: channels of the first convolution, at least 1; doubled in each residual block.
        cells: cells in each of the three stages, at least 1.
        norm: normalisation, as for `ConvNet`; "batch" is the batch's own statistics, none kept.
    """

    def __init__(
        self, shape: Shape, num_classes: int, arch: str, width: int = 16, cells: int = 5, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        operations = read_cell_201(str(arch))
        channels, *rest = check_cells("NasBench201", shape, num_classes, width, cells)
        sides = rest[0], rest[1]
        self.stem = stem(channels, width, sides, norm)
        self.blocks = nn.ModuleList()
        for stage in range(3):
            if stage:
                sides = divide_sides(sides, 2)
                self.blocks.append(_Residual(width, sides, norm))
                width = 2 * width
            self.blocks.extend(_Cell201(operations, width, sides, norm) for _ in range(cells))
        self.last = nn.Sequential(*normalisation(norm, width, sides))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        x = self.stem(x_NCHW)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(F.relu(self.last(x)).mean((-2, -1)))
        return logits


def edge_name(source: int, target: int, operation: str) -> str:
    """What the module of an edge is called within its cell of NAS-Bench-201."""
    return f"{source}-{target}-{operation}"


def cell_201_text(operations: Sequence[str]) -> str:
    """A cell of NAS-Bench-201, the operations of `EDGES_201`, as that paper writes it."""
    return _FORM_201.format(*operations)


def read_cell_201(text: str) -> tuple[str, ...]:
    """Inverse of `cell_201_text`; raises LimbeckError for anything else."""
    match = re.fullmatch(re.escape(_FORM_201).replace(re.escape("{}"), "([^|~]*)"), text)
    if match is None:
        raise LimbeckError(f"'{text}' is no cell of NAS-Bench-201; write one as {_FORM_201.format(*['none'] * 6)}.")
    for operation in match.groups():
        if operation not in OPERATIONS_201:
            raise unknown("operation of NAS-Bench-201", operation, OPERATIONS_201)
    return match.groups()


@final
class _Cell201(nn.Module):
    """A cell of NAS-Bench-201 of one width."""

    def __init__(self, operations: Sequence[str], channels: int, sides: Sides, norm: Norm) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.edges = nn.ModuleDict(
            {
                edge_name(source, target, operation): _operation_201(operation, channels, sides, norm)
                for (source, target), operation in zip(EDGES_201, operations, strict=True)
                if operation != "none"
            }
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        values = [x_NCHW]
        for target in (1, 2, 3):
            terms = [
                self.edges[edge_name(source, target, operation)](values[source])
                for (source, to), operation in zip(EDGES_201, self.operations, strict=True)
                if to == target and operation != "none"
            ]
            values.append(sum(terms[1:], terms[0]) if terms else torch.zeros_like(x_NCHW))
        return values[-1]


@final
class _Residual(nn.Module):
    """The residual block of NAS-Bench-201: half the pixels, twice the channels."""

    def __init__(self, channels: int, sides: Sides, norm: Norm) -> None:
        super().__init__()
        out = 2 * channels
        self.first = conv(channels, out, 3, sides, norm, stride=2)
        self.second = conv(out, out, 3, sides, norm)
        self.shortcut = nn.Sequential(SamePool("avg", 2, 2), nn.Conv2d(channels, out, 1, bias=norm == "none"))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2 C, ceil(H / 2), ceil(W / 2))."""
        block: Tensor = self.shortcut(x_NCHW) + self.second(self.first(x_NCHW))
        return block


def _operation_201(name: str, channels: int, sides: Sides, norm: Norm) -> nn.Module:
    match name:
        case "skip_connect":
            return nn.Identity()
        case "avg_pool_3x3":
            return SamePool("avg", 3)
        case _:
            return conv(channels, channels, int(name[-1]), sides, norm)
