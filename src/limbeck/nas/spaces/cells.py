"""The space of Such et al. 2019: networks of a normal and a reduction cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from torch import nn

from limbeck.errors import LimbeckError, unknown
from limbeck.models import Norm, Shape
from limbeck.models.blocks import SMALLEST
from limbeck.models.cells import (
    NODES,
    OPERATIONS,
    Plan,
    cell_kinds,
    loose_nodes,
    plans_text,
    read_inputs,
    read_plans,
    term_name,
)
from limbeck.nas.spaces.base import Arch, Graph, own_names
from limbeck.nas.spaces.sized import Drawing, SizedSpace, refuse_sizes

_LEARNER: Final = "cellnet"
_KINDS: Final = ("normal", "reduction")


@final
class Cells(SizedSpace):
    """About 2 × 10³² networks of a normal and a reduction cell; see `limbeck.models.CellNet`.

    The space of Such et al. 2019 (arXiv 1912.07768), after Luo et al. 2018 (arXiv 1808.07233): each of a cell's five
    nodes chooses two inputs and, for each, one of eleven operations. The text of an architecture is the learner's
    name, ``cellnet,arch=...,width=8,cells=1,norm=batch``; what is left out there has the learner's default.

    Args:
        shape: (C, H, W) of the images, at least 4 x 4.
        num_classes: K, at least 1.
        width: channels of the first convolution, doubled in each reduction cell.
        cells: normal cells in each of the three stages.
        norm: normalisation, as for `limbeck.models.ConvNet`.
    """

    def __init__(self, *, shape: Shape, num_classes: int, width: int = 8, cells: int = 1, norm: Norm = "batch") -> None:
        refuse_sizes(self.name, width=width, cells=cells)
        self._options = {"width": width, "cells": cells, "norm": norm}
        choices = {
            f"{kind} {node}{side} {what}": options
            for kind in _KINDS
            for node in range(NODES)
            for side in "ab"
            for what, options in (("operation", OPERATIONS), ("source", tuple(map(str, range(node + 2)))))
        }
        super().__init__(shape=shape, num_classes=num_classes, smallest=SMALLEST, choices=choices)
        self.build(tuple(options[0] for options in choices.values()))  # refuses what does not fit at once

    @property
    def name(self) -> str:
        return "cells"

    @property
    def options(self) -> Mapping[str, Any]:
        return self._options

    def build(self, arch: Arch) -> nn.Module:
        return self.build_learner(self.text(arch))

    def text(self, arch: Arch) -> str:
        options = {"arch": plans_text(*self.plans(arch))} | self._options
        return ",".join((_LEARNER, *(f"{name}={value}" for name, value in options.items())))

    def read(self, text: str) -> Arch:
        options = {"width": 8, "cells": 1, "norm": "batch"} | self.options_of(_LEARNER, text)
        if "arch" not in options:
            raise LimbeckError(f"'{text}' has no arch=...; an architecture of the space {self.name} needs its cells.")
        plans = read_plans(str(options.pop("arch")))
        for name, value in options.items():
            if name not in self._options:
                raise unknown(f"option of the learner '{_LEARNER}'", name, ("arch", *self._options))
            if str(value) != str(self._options[name]):
                raise LimbeckError(
                    f"'{text}' has {name}={value}; the space {self.name} was made with {name}={self._options[name]}."
                )
        return tuple(
            choice
            for plan in plans
            for terms in plan
            for operation, source in terms
            for choice in (operation, str(source))
        )

    def plans(self, arch: Arch) -> tuple[Plan, Plan]:
        """The normal and the reduction cell; raises LimbeckError for what is no architecture of this space."""
        self.check(arch)
        terms = [(operation, int(source)) for operation, source in zip(arch[::2], arch[1::2], strict=True)]
        nodes = list(zip(terms[::2], terms[1::2], strict=True))
        return tuple(nodes[:NODES]), tuple(nodes[NODES:])

    def graph(self, arch: Arch) -> Graph:
        """A node for each operation, sum and concatenation; an operation owns its convolutions and normalisation."""
        drawing = Drawing()
        before = last = drawing.add("stem", drawing.add("input"), module="stem")
        for index, kind in enumerate(self._kinds):
            before, last = last, _draw_cell(drawing, self._plan(arch, kind), f"cells.{index}", (before, last))
        drawing.add("head", drawing.add("global_avgpool", last), module="head")
        return drawing.graph

    def shared(self, arch: Arch) -> dict[str, str]:
        """Stores by place and operation, whatever an operation is applied to.

        What reads a concatenation of nodes is shared among cells that concatenate the same nodes.
        """
        stores = own_names(self.build(arch))
        for name in stores:
            if (maker := self._maker(name)) is not None:
                nodes = "+".join(map(str, loose_nodes(self._plan(arch, maker))))
                stores[name] += f" of nodes {nodes}"
        return stores

    @property
    def _kinds(self) -> tuple[str, ...]:
        return cell_kinds(int(self._options["cells"]))

    def _plan(self, arch: Arch, kind: str) -> Plan:
        return self.plans(arch)[_KINDS.index(kind)]

    def _maker(self, parameter: str) -> str | None:
        """The kind of the cell whose output a parameter is applied to, if there is one."""
        place = parameter.split(".")
        if place[0] == "head":
            return self._kinds[-1]
        if place[0] != "cells" or place[2] != "inputs":
            return None
        source = int(place[1]) - 2 + int(place[3])
        return self._kinds[source] if source >= 0 else None


def _draw_cell(drawing: Drawing, plan: Plan, path: str, given: tuple[int, int]) -> int:
    """Draw a cell that reads two nodes; returns the node of its output."""
    values = list(given)
    for source in read_inputs(plan):
        values[source] = drawing.add("adapt", given[source], module=f"{path}.inputs.{source}")
    for node, terms in enumerate(plan):
        added = [
            drawing.add(operation, values[source], module=f"{path}.terms.{term_name(node, side, operation)}")
            for side, (operation, source) in enumerate(terms)
        ]
        values.append(drawing.add("add", *added))
    return drawing.add("concat", *(values[node + 2] for node in loose_nodes(plan)))
