"""Networks that repeat two small cells, which are written as text: those that architecture search looks for.

Like all learners here they go through `functional_call`, `vmap` and forward-mode AD and keep no statistics. Shapes:
N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import LimbeckError, unknown
from limbeck.models.blocks import SamePool, Sides, check_cells, conv, divide_sides, reduction, stem
from limbeck.models.nets import Norm, Shape, normalisation

Term: TypeAlias = tuple[str, int]
"""An operation, and what it is applied to: 0 and 1 are the cell before the previous one and the previous one, 2 the
cell's first node, and so on."""
Plan: TypeAlias = tuple[tuple[Term, Term], ...]
"""A cell: for each node the two terms that it adds."""
NODES: Final = 5
OPERATIONS: Final = (
    "identity",
    "conv1x1",
    "conv3x3",
    "conv1x3-3x1",
    "conv1x7-7x1",
    "maxpool2",
    "maxpool3",
    "maxpool5",
    "avgpool2",
    "avgpool3",
    "avgpool5",
)


@final
class CellNet(nn.Module):
    """A network of normal and reduction cells, the search space of Such et al. 2019 (arXiv 1912.07768) and, before
    them, of Luo et al. 2018 (NAO, arXiv 1808.07233).

    A 3 x 3 convolution, then ``cells`` normal cells, a reduction cell, ``cells`` normal ones, a reduction cell and
    ``cells`` normal ones, a rectifier, the mean over all pixels and one linear layer. A cell brings the outputs of the
    two cells before it to its number of channels by 1 x 1 convolutions; each of its five nodes adds two of these or of
    earlier nodes, each after an operation; the nodes that no other one reads are concatenated. In a reduction cell
    what is applied to the cell's inputs has stride 2. Convolutions follow a rectifier and are normalised.

    Where sides must be halved and no operation does it, for an identity of stride 2 and for the output of the cell
    before a reduction, it is by 2 x 2 average pooling and a 1 x 1 convolution.

    Args:
        shape: channels, height and width of an image, at least 4 x 4.
        num_classes: K, at least 1.
        arch: both cells in the form of `plans_text`.
        width: channels of the first convolution and the first cells' nodes, at least 1; doubled in each reduction.
        cells: normal cells in each of the three stages, at least 1.
        norm: normalisation, as for `ConvNet`; "batch" is the batch's own statistics, none kept.
    """

    def __init__(
        self, shape: Shape, num_classes: int, arch: str, width: int = 8, cells: int = 1, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        plans = dict(zip(("normal", "reduction"), read_plans(str(arch)), strict=True))
        channels, *sides = check_cells("CellNet", shape, num_classes, width, cells)
        self.stem = stem(channels, width, (sides[0], sides[1]), norm)
        sizes = [(width, (sides[0], sides[1]))] * 2
        self.cells = nn.ModuleList()
        for kind in cell_kinds(cells):
            stride = 2 if kind == "reduction" else 1
            width = width * stride
            self.cells.append(_Cell(plans[kind], sizes[-2:], width, stride, norm))
            sizes.append((width * len(loose_nodes(plans[kind])), divide_sides(sizes[-1][1], stride)))
        self.head = nn.Linear(sizes[-1][0], num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) images -> (N, K) logits."""
        before = last = self.stem(x_NCHW)
        for cell in self.cells:
            before, last = last, cell(before, last)
        logits: Tensor = self.head(F.relu(last).mean((-2, -1)))
        return logits


def cell_kinds(cells: int) -> tuple[str, ...]:
    """Which cells follow the first convolution of a `CellNet`.

    >>> cell_kinds(1)
    ('normal', 'reduction', 'normal', 'reduction', 'normal')
    """
    stage = ("normal",) * cells
    return (*stage, "reduction", *stage, "reduction", *stage)


def loose_nodes(plan: Plan) -> tuple[int, ...]:
    """The nodes of a cell, from 0, that no other one reads; the last one always is."""
    read = {source for terms in plan for _, source in terms}
    return tuple(node for node in range(len(plan)) if node + 2 not in read)


def read_inputs(plan: Plan) -> tuple[int, ...]:
    """Which of a cell's two inputs, 0 and 1, its nodes read."""
    return tuple(sorted({source for terms in plan for _, source in terms if source < 2}))


def term_name(node: int, side: int, operation: str) -> str:
    """What the module of a term is called within its cell."""
    return f"{node}{'ab'[side]}-{operation}"


def plans_text(normal: Plan, reduction: Plan) -> str:
    """A normal and a reduction cell as one word: ``normal@reduction``, nodes joined by +, their two terms by a dot.

    A term is ``operation~source``: ``conv3x3~0.identity~1+...``. No character means anything to a shell.
    """
    return "@".join(
        "+".join(".".join(f"{operation}~{source}" for operation, source in terms) for terms in plan)
        for plan in (normal, reduction)
    )


def read_plans(text: str) -> tuple[Plan, Plan]:
    """Inverse of `plans_text`; raises LimbeckError for anything else."""
    cells = text.split("@")
    if len(cells) != 2:
        raise LimbeckError(
            f"'{text}' is not a pair of cells; write normal@reduction, each of {NODES} nodes joined by +, a node as "
            "conv3x3~0.identity~1."
        )
    return _read_plan(cells[0]), _read_plan(cells[1])


def _read_plan(text: str) -> Plan:
    nodes = text.split("+")
    if len(nodes) != NODES:
        raise LimbeckError(f"The cell '{text}' has {len(nodes)} nodes joined by +; a cell has {NODES}.")
    return tuple(_read_node(node, index) for index, node in enumerate(nodes))


def _read_node(text: str, index: int) -> tuple[Term, Term]:
    match = re.fullmatch(r"([^.~]*)~([0-9])\.([^.~]*)~([0-9])", text)
    if match is None:
        raise LimbeckError(
            f"'{text}' is no node of a cell; write it as operation~source.operation~source, as conv3x3~0.identity~1."
        )
    first, second = ((match[1], int(match[2])), (match[3], int(match[4])))
    for operation, source in (first, second):
        if operation not in OPERATIONS:
            raise unknown("operation of a cell", operation, OPERATIONS)
        if source >= index + 2:
            raise LimbeckError(
                f"Node {index} of a cell reads {source} in '{text}'; it can read 0 to {index + 1}: the two cells "
                "before, and the nodes before it."
            )
    return first, second


@final
class _Cell(nn.Module):
    """A cell of a `CellNet`; ``inputs`` are the channels and sides of the outputs of the two cells before."""

    def __init__(self, plan: Plan, inputs: Sequence[tuple[int, Sides]], channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.plan = plan
        sides = inputs[-1][1]
        self.inputs = nn.ModuleDict()
        for source in read_inputs(plan):
            width, input_sides = inputs[source]
            reads_larger = input_sides != sides  # what is before a reduction cell
            adapted = reduction(width, channels, sides, norm) if reads_larger else conv(width, channels, 1, sides, norm)
            self.inputs[str(source)] = adapted
        self.terms = nn.ModuleDict()
        for node, terms in enumerate(plan):
            for side, (operation, source) in enumerate(terms):
                by = stride if source < 2 else 1
                module = _operation(operation, channels, by, divide_sides(sides, stride), norm)
                self.terms[term_name(node, side, operation)] = module

    def forward(self, before_NCHW: Tensor, last_NCHW: Tensor) -> Tensor:
        """Outputs of the two cells before -> (N, channels × loose nodes, H, W)."""
        given = (before_NCHW, last_NCHW)
        values = [self.inputs[str(i)](x) if str(i) in self.inputs else x for i, x in enumerate(given)]
        for node, terms in enumerate(self.plan):
            left, right = (
                self.terms[term_name(node, side, operation)](values[source])
                for side, (operation, source) in enumerate(terms)
            )
            values.append(left + right)
        return torch.cat([values[node + 2] for node in loose_nodes(self.plan)], dim=1)


def _operation(name: str, channels: int, stride: int, sides: Sides, norm: Norm) -> nn.Module:
    """An operation of a `CellNet`, with the sides that it gives."""
    match name:
        case "identity":
            return nn.Identity() if stride == 1 else reduction(channels, channels, sides, norm)
        case "conv1x1" | "conv3x3":
            return conv(channels, channels, int(name[-1]), sides, norm, stride=stride)
        case "conv1x3-3x1" | "conv1x7-7x1":
            size = int(name[-3])
            along, across = (1, size), (size, 1)
            first = nn.Conv2d(channels, channels, along, (1, stride), (0, size // 2), bias=norm == "none")
            second = nn.Conv2d(channels, channels, across, (stride, 1), (size // 2, 0), bias=norm == "none")
            return nn.Sequential(nn.ReLU(), first, second, *normalisation(norm, channels, sides))
        case _:
            return SamePool(name[:3], int(name[-1]), stride)
