"""What the spaces here have in common: each is made for images of one shape, and names learners of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import nn

from limbeck.errors import LimbeckError
from limbeck.models import Shape, build
from limbeck.models.registry import learner_options
from limbeck.nas.spaces.base import Arch, Graph, Node, Space, chain, own_names


class SizedSpace(Space):
    """A space of learners that `limbeck.models.build` knows, for images of one shape.

    Args:
        shape: (C, H, W) of the images.
        num_classes: K, at least 1.
        smallest: the least height and width in pixels with which every network of the space can be built.
        choices: the options of each choice, by its name.

    Raises:
        LimbeckError: there are no such images, or they are too small.
    """

    def __init__(
        self, *, shape: Shape, num_classes: int, smallest: int, choices: Mapping[str, tuple[str, ...]]
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise LimbeckError(f"An image shape is (channels, height, width), each at least 1, not {tuple(shape)}.")
        if num_classes < 1:
            raise LimbeckError(f"A space needs at least 1 class, not {num_classes}.")
        if min(shape[1:]) < smallest:
            raise LimbeckError(
                f"The space {self.name} needs images of at least {smallest} x {smallest} pixels, because its networks "
                f"halve them again and again; these have {shape[1]} x {shape[2]}. Use larger images or another space."
            )
        self._shape, self._num_classes, self._choices = shape, num_classes, choices

    @final
    @property
    def shape(self) -> Shape:
        return self._shape

    @final
    @property
    def num_classes(self) -> int:
        return self._num_classes

    @final
    @property
    def choices(self) -> Mapping[str, tuple[str, ...]]:
        return self._choices

    def __repr__(self) -> str:
        options = {"shape": self.shape, "num_classes": self.num_classes, **self.options}
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in options.items())})"

    @final
    def build_learner(self, learner: str) -> nn.Module:
        """The learner of that name for the images of the space."""
        return build(learner, shape=self.shape, num_classes=self.num_classes)

    @final
    def options_of(self, learner: str, text: str) -> dict[str, Any]:
        """The options in a learner's name; raises LimbeckError where it is the name of another learner."""
        name, options = learner_options(text)
        if name != learner:
            raise LimbeckError(
                f"'{text}' is no architecture of the space {self.name}; it has '{learner},option=value,...'."
            )
        return options


class PlainSpace(SizedSpace):
    """A space whose networks are plain sequences of layers.

    The text of an architecture is its options, joined by dashes. Networks share the parameters that have the
    same name and shape. ``name`` and ``build`` are left to be written.
    """

    @final
    def text(self, arch: Arch) -> str:
        return "-".join(self.check(arch))

    @final
    def read(self, text: str) -> Arch:
        return self.check(tuple(text.split("-")))

    @final
    def graph(self, arch: Arch) -> Graph:
        return chain(self.build(arch))

    @final
    def shared(self, arch: Arch) -> dict[str, str]:
        return own_names(self.build(arch))


@final
class Drawing:
    """A graph that grows: nodes in an order in which data flows."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._edges: list[tuple[int, int]] = []

    def add(self, op: str, *sources: int, module: str | None = None) -> int:
        """A node that reads earlier ones; returns its index."""
        self._nodes.append(Node(op=op, module=module))
        self._edges += [(source, len(self._nodes) - 1) for source in sources]
        return len(self._nodes) - 1

    @property
    def graph(self) -> Graph:
        """The nodes and edges so far."""
        return Graph(nodes=tuple(self._nodes), edges=tuple(self._edges))


def refuse_sizes(space: str, **sizes: object) -> None:
    """Raise LimbeckError for sizes that are not whole numbers of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise LimbeckError(f"{name} is {size!r}; the space {space} needs a whole number of at least 1.")
