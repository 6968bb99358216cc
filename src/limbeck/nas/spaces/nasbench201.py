"""The space of NAS-Bench-201."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from torch import nn

from limbeck.models import Norm, Shape
from limbeck.models.blocks import SMALLEST
from limbeck.models.nasbench201 import EDGES_201, OPERATIONS_201, cell_201_text, edge_name, read_cell_201
from limbeck.nas.spaces.base import Arch, Graph, own_names
from limbeck.nas.spaces.sized import Drawing, SizedSpace, refuse_sizes

_STAGES: Final = 3


@final
class NasBench201Cells(SizedSpace):
    """The 15,625 cells of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326); see `limbeck.models.NasBench201`.

    Each of a cell's six edges has one of five operations. The text of an architecture is that of the paper,
    ``|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|``, and the learner
    is ``nasbench201,arch=TEXT,width=8,cells=1,norm=batch``. The defaults are small; the paper's are 16 and 5.

    Args:
        shape: (C, H, W) of the images, at least 4 x 4.
        num_classes: K, at least 1.
        width: channels of the first convolution, doubled in each residual block.
        cells: cells in each of the three stages.
        norm: normalisation, as for `limbeck.models.ConvNet`.
    """

    def __init__(self, *, shape: Shape, num_classes: int, width: int = 8, cells: int = 1, norm: Norm = "batch") -> None:
        refuse_sizes(self.name, width=width, cells=cells)
        self._options = {"width": width, "cells": cells, "norm": norm}
        self._cells = cells
        choices = {f"{source} to {target}": OPERATIONS_201 for source, target in EDGES_201}
        super().__init__(shape=shape, num_classes=num_classes, smallest=SMALLEST, choices=choices)
        self.build(("none",) * len(EDGES_201))  # refuses what does not fit at once

    @property
    def name(self) -> str:
        return "nasbench201"

    @property
    def options(self) -> Mapping[str, Any]:
        return self._options

    def build(self, arch: Arch) -> nn.Module:
        options = ",".join(f"{name}={value}" for name, value in self._options.items())
        return self.build_learner(f"nasbench201,arch={self.text(arch)},{options}")

    def text(self, arch: Arch) -> str:
        return cell_201_text(self.check(arch))

    def read(self, text: str) -> Arch:
        return read_cell_201(text)

    def graph(self, arch: Arch) -> Graph:
        """A node for each operation but none, and for each sum; an operation owns its convolution and normalisation.

        A sum of nothing reads nothing.
        """
        self.check(arch)
        drawing = Drawing()
        last = drawing.add("stem", drawing.add("input"), module="stem")
        block = 0
        for stage in range(_STAGES):
            if stage:
                last = drawing.add("residual", last, module=f"blocks.{block}")
                block += 1
            for _ in range(self._cells):
                last = _draw_cell(drawing, arch, f"blocks.{block}.edges", last)
                block += 1
        last = drawing.add("global_avgpool", drawing.add("norm", last, module="last"))
        drawing.add("head", last, module="head")
        return drawing.graph

    def shared(self, arch: Arch) -> dict[str, str]:
        """Stores by edge and operation."""
        return own_names(self.build(arch))


def _draw_cell(drawing: Drawing, arch: Arch, path: str, given: int) -> int:
    """Draw a cell that reads a node; returns the node of its output."""
    values = [given]
    for to in (1, 2, 3):
        terms = [
            drawing.add(operation, values[source], module=f"{path}.{edge_name(source, target, operation)}")
            for (source, target), operation in zip(EDGES_201, arch, strict=True)
            if target == to and operation != "none"
        ]
        values.append(drawing.add("add", *terms))
    return values[-1]
