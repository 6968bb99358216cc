"""What a hypernetwork reads of an architecture: its nodes, their neighbours, and the parameters to be filled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

from limbeck.common.seeds import generator
from limbeck.engine import Learner, Tensors
from limbeck.errors import LimbeckError
from limbeck.models import draw
from limbeck.nas.proxies.base import Task
from limbeck.nas.spaces.base import Arch

SIZES: Final = 4
"""Dimensions of its largest parameter that a node's state starts from."""

_CHANNELS: Final = 16  # rows and columns of an emitted tile; wider layers repeat it
_FEATURES: Final = 64  # columns of a linear layer's tile, and of a vector's
_KERNEL: Final = 8


@final
@dataclass(frozen=True, kw_only=True)
class Slot:
    """A parameter that the hypernetwork emits.

    Attributes:
        name: in the network.
        kind: name of the decoder that emits it.
        shape: of the parameter.
        tile: shape of what the decoder emits, which is repeated to the parameter's shape.
        around: for norms and biases the constant that they usually start with; None for weights.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    around: float | None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Blueprint:
    """What the hypernetwork reads of an architecture with V nodes.

    Attributes:
        module: the network.
        learner: its training.
        ops: what each node does.
        slots: parameters of each node.
        before: for each node the nodes that it reads.
        after: for each node the nodes that read it.
    """

    module: nn.Module
    learner: Learner
    ops: tuple[str, ...]
    slots: tuple[tuple[Slot, ...], ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, task: Task, arch: Arch) -> Blueprint:
        """The blueprint of an architecture; raises LimbeckError unless each parameter belongs to exactly one node."""
        module = task.space.build(arch).to(task.device)
        graph = task.space.graph(arch)
        initial = draw(module, "kaiming", 1, generator(task.seed, "hypernetwork"))
        slots = []
        for node in graph.nodes:
            owned = [] if node.module is None else list(module.get_submodule(node.module).named_parameters())
            slots.append(tuple(slot_of(node.module or "", own, initial, task.space.num_classes) for own, _ in owned))
        slot_names = sorted(slot.name for of_node in slots for slot in of_node)
        parameter_names = sorted(name for name, _ in module.named_parameters())
        if slot_names != parameter_names:
            raise LimbeckError(
                f"The graph of {task.space.text(arch)} in the space {task.space.name} must give every parameter to "
                f"exactly one node; its nodes have {', '.join(slot_names)} and the network "
                f"{', '.join(parameter_names)}."
            )
        before: list[list[int]] = [[] for _ in graph.nodes]
        after: list[list[int]] = [[] for _ in graph.nodes]
        for source, target in graph.edges:
            before[target].append(source)
            after[source].append(target)
        return cls(
            module=module,
            learner=Learner.of(module),
            ops=tuple(node.op for node in graph.nodes),
            slots=tuple(slots),
            before=tuple(map(tuple, before)),
            after=tuple(map(tuple, after)),
        )


def slot_of(path: str, own: str, initial: Tensors, classes: int) -> Slot:
    """How a parameter of a node's submodule is filled, from its initial value (1, *shape)."""
    name = f"{path}.{own}".lstrip(".")
    value = initial[name][0]
    shape = tuple(value.shape)
    first = value.flatten()[0]
    if len(shape) == 2:  # the last layer's rows are the classes, no two of which may be alike
        tile: tuple[int, ...] = (max(_CHANNELS, classes), _FEATURES)
    elif len(shape) < 2:
        tile = (max(_FEATURES, classes),) * len(shape)
    else:
        tile = (_CHANNELS, _CHANNELS, *(min(size, _KERNEL) for size in shape[2:]))
    around = float(first) if bool((value == first).all()) else None
    return Slot(name=name, kind=module_key(f"{own} {'x'.join(map(str, tile))}"), shape=shape, tile=tile, around=around)


def log_sizes(slots: Sequence[Slot]) -> Tensor:
    """Logarithms of the dimensions of a node's largest parameter, (SIZES,), 0 where there are none."""
    largest = max((slot.shape for slot in slots), key=math.prod, default=())
    logs = [math.log(size) for size in largest[:SIZES]]
    return torch.tensor([*logs, *[0.0] * (SIZES - len(logs))], dtype=torch.float32)


def module_key(name: str) -> str:
    """A name that containers of modules accept: no dots, and none of their methods."""
    return f"of {name}".replace(".", "/")
