"""A graph hypernetwork: it reads an architecture's graph and emits the weights of the network.

Zhang, Ren and Urtasun 2019, "Graph HyperNetworks for Neural Architecture Search" (arXiv 1810.05749). Shapes: V nodes,
D hidden numbers of a node.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.common.seeds import generator
from limbeck.engine import Batch, Learner, Tensors
from limbeck.errors import LimbeckError
from limbeck.models import draw
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.common import descend, fit, on, require_one_network, require_positive, validated_as_is
from limbeck.nas.spaces.base import Arch
from limbeck.nas.training import Measure, Schedule

_Module = TypeVar("_Module", bound=nn.Module)

_SIZES: Final = 4  # dimensions of a parameter that its node is told
_CHANNELS: Final = 16  # rows and columns of an emitted tile; wider layers repeat it
_FEATURES: Final = 64  # columns of a linear layer's tile, and of a vector's
_KERNEL: Final = 8
_OFFSET: Final = 0.1  # how far norms and biases are from their usual values at first


@final
@dataclass(frozen=True, kw_only=True)
class GraphHyperNetwork(Proxy):
    """Score by validation accuracy with weights that a hypernetwork emits for the architecture's graph.

    It is trained over random architectures by the loss, on real batches, of the network with the emitted weights.

    Args:
        schedule: of the hypernetwork's training by Adam; a seconds budget makes it depend on the machine.
        hidden: D, at least 1.
        rounds: passes of messages along the graph and back, at least 1 (T in the paper).
        clip: largest norm of a step's gradient.
        images: validation images; all by default.
        measure: of the network on validation images.
        label: the proxy's name; ``ghn`` by default.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(steps=2000, lr=0.001))
    hidden: int = 32
    rounds: int = 2
    clip: float = 5.0
    images: int | None = None
    measure: Measure = "accuracy"
    label: str = "ghn"

    def __post_init__(self) -> None:
        require_one_network(self.schedule)
        require_positive(self, "hidden", "rounds", "clip", "images")

    @property
    def name(self) -> str:
        return self.label

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        network = _HyperNetwork(self.hidden, self.rounds, task.seed).to(task.device)
        optimizer = torch.optim.Adam(network.parameters(), weight_decay=self.schedule.weight_decay)
        blueprint_of = functools.lru_cache(maxsize=512)(functools.partial(_blueprint, task))

        def step(architectures: np.random.Generator, batch: Batch, rate: float) -> float:
            blueprint = blueprint_of(task.space.sample(architectures))
            fresh = network.learn_of(blueprint)
            if fresh:
                optimizer.add_param_group({"params": fresh})
            optimizer.zero_grad()
            learner = blueprint.learner
            state = learner.init(network.emit(blueprint))
            loss, _ = learner.inner_loss(state.params, state.buffers, batch.x_MCHW, batch.y_MK)
            loss.backward()  # type: ignore[no-untyped-call]
            descend(optimizer, rate, self.clip)
            return float(loss.detach())

        fit(task, self.schedule, "ghn", step, tell)
        network.zero_grad()
        return _Emitter(config=self, network=network.cpu())


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Emitter(Scorer):
    config: GraphHyperNetwork
    network: _HyperNetwork

    @torch.no_grad()
    def score(self, task: Task, arch: Arch) -> float:
        blueprint = _blueprint(task, arch)
        weights = on(task.device, self.network.emit(blueprint))
        return validated_as_is(task, blueprint.module, weights, self.config.images, self.config.measure)


@final
@dataclass(frozen=True, kw_only=True)
class _Slot:
    """A parameter to be filled: of which shape, by which decoder, around which value.

    ``around`` is None for weights that break symmetry, and the usual start for what starts as a constant.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    tile: tuple[int, ...]
    around: float | None


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Blueprint:
    """What the hypernetwork reads of an architecture: V nodes with their neighbours and their parameters."""

    module: nn.Module
    learner: Learner
    ops: tuple[str, ...]
    slots: tuple[tuple[_Slot, ...], ...]
    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]


def _blueprint(task: Task, arch: Arch) -> _Blueprint:
    module = task.space.build(arch).to(task.device)
    graph = task.space.graph(arch)
    initial = draw(module, "kaiming", 1, generator(task.seed, "hypernetwork"))
    slots = []
    for node in graph.nodes:
        owned = [] if node.module is None else list(module.get_submodule(node.module).named_parameters())
        slots.append(tuple(_slot(node.module or "", own, initial, task.space.num_classes) for own, _ in owned))
    emitted = sorted(slot.name for of_node in slots for slot in of_node)
    wanted = sorted(name for name, _ in module.named_parameters())
    if emitted != wanted:
        raise LimbeckError(
            f"The graph of {task.space.text(arch)} in the space {task.space.name} must give every parameter to exactly "
            f"one node; its nodes have {', '.join(emitted)} and the network {', '.join(wanted)}."
        )
    before: list[list[int]] = [[] for _ in graph.nodes]
    after: list[list[int]] = [[] for _ in graph.nodes]
    for source, target in graph.edges:
        before[target].append(source)
        after[source].append(target)
    return _Blueprint(
        module=module,
        learner=Learner.of(module),
        ops=tuple(node.op for node in graph.nodes),
        slots=tuple(slots),
        before=tuple(map(tuple, before)),
        after=tuple(map(tuple, after)),
    )


def _slot(path: str, own: str, initial: Tensors, classes: int) -> _Slot:
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
    return _Slot(name=name, kind=_key(f"{own} {'x'.join(map(str, tile))}"), shape=shape, tile=tile, around=around)


@final
class _HyperNetwork(nn.Module):
    """Embeddings of operations, messages along the graph by gated recurrent units, and decoders to weights.

    Operations and kinds of parameters are met as they come: each gets its embedding or decoder by its name and the
    seed, so that their order does not matter.
    """

    def __init__(self, hidden: int, rounds: int, seed: int) -> None:
        super().__init__()
        self.hidden, self.rounds, self.seed = hidden, rounds, seed
        self.embeddings = nn.ParameterDict()
        self.decoders = nn.ModuleDict()
        self.sizes = self._made("sizes", lambda: nn.Linear(_SIZES, hidden, bias=False))
        self.messages = nn.ModuleList(
            self._made(f"messages {way}", lambda: nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())) for way in (0, 1)
        )
        self.units = nn.ModuleList(self._made(f"unit {way}", lambda: nn.GRUCell(hidden, hidden)) for way in (0, 1))

    def learn_of(self, blueprint: _Blueprint) -> list[nn.Parameter]:
        """Keep an embedding and a decoder for what is new in an architecture; their parameters, to be trained."""
        fresh: list[nn.Parameter] = []
        for op in blueprint.ops:
            if _key(op) not in self.embeddings:
                self.embeddings[_key(op)] = self._embedding(op)
                fresh.append(self.embeddings[_key(op)])
        for slot in (slot for of_node in blueprint.slots for slot in of_node):
            if slot.kind not in self.decoders:
                self.decoders[slot.kind] = self._decoder(slot)
                fresh += self.decoders[slot.kind].parameters()
        return fresh

    def emit(self, blueprint: _Blueprint) -> Tensors:
        """The network's parameters by name; what was never learned of is decoded by what it would start with."""
        h_VD = self._embedded(blueprint)
        return {
            slot.name: self._fill(slot, h_D)
            for of_node, h_D in zip(blueprint.slots, h_VD, strict=True)
            for slot in of_node
        }

    def _embedded(self, blueprint: _Blueprint) -> list[Tensor]:
        """h_v after T rounds, each along the graph in order and back."""
        states = []
        for op, slots in zip(blueprint.ops, blueprint.slots, strict=True):
            known = self.embeddings[_key(op)] if _key(op) in self.embeddings else self._embedding(op)
            states.append(known + self.sizes(_log_sizes(slots).to(known)))
        order = range(len(states))
        for _ in range(self.rounds):
            self._pass(0, order, blueprint.before, states)
            self._pass(1, order[::-1], blueprint.after, states)
        return states

    def _pass(self, way: int, order: Sequence[int], neighbours: Sequence[Sequence[int]], states: list[Tensor]) -> None:
        """Renew every state from the messages of its neighbours, which were renewed before it."""
        sent: dict[int, Tensor] = {}
        for node in order:
            message_D = sum((sent[other] for other in neighbours[node]), torch.zeros_like(states[node]))
            states[node] = self.units[way](message_D[None], states[node][None])[0]
            sent[node] = self.messages[way](states[node])

    def _fill(self, slot: _Slot, h_D: Tensor) -> Tensor:
        decoder = self.decoders[slot.kind] if slot.kind in self.decoders else self._decoder(slot)
        raw = decoder(F.layer_norm(h_D, h_D.shape)).view(slot.tile)
        times = [-(-size // length) for size, length in zip(slot.shape, slot.tile, strict=True)]
        whole: Tensor = raw.repeat(times)[tuple(slice(size) for size in slot.shape)]
        if slot.around is not None:
            return slot.around + _OFFSET * whole
        if max(times) > 1:
            # Copies of a tile would be channels that compute the same; signs, fixed at random, make them differ.
            stream = generator(self.seed, f"signs {slot.kind} {slot.shape}")
            signs = torch.randint(2, slot.shape, generator=stream).to(whole) * 2 - 1
            signs[tuple(slice(length) for length in slot.tile)] = 1
            whole = whole * signs
        return whole * math.sqrt(2 / math.prod(slot.shape[1:]))  # as He et al. 2015 scale initial weights

    def _embedding(self, op: str) -> nn.Parameter:
        like = self.sizes.weight
        return nn.Parameter(torch.randn(self.hidden, generator=generator(self.seed, f"op {op}")).to(like))

    def _decoder(self, slot: _Slot) -> nn.Module:
        """From a normalised state to a tile, whose numbers have a variance of 1 at first."""
        width = 2 * self.hidden
        decoder = self._made(
            f"decoder {slot.kind}",
            lambda: nn.Sequential(nn.Linear(self.hidden, width), nn.ReLU(), nn.Linear(width, math.prod(slot.tile))),
        )
        weights = draw(decoder, "kaiming", 1, generator(self.seed, f"weights of {slot.kind}"))
        decoder.load_state_dict({name: value[0] for name, value in weights.items()})
        with torch.no_grad():
            decoder.get_parameter("2.weight").div_(math.sqrt(2))
        return decoder.to(self.sizes.weight)

    def _made(self, stream: str, make: Callable[[], _Module]) -> _Module:
        """A module with the weights that the seed gives it; the global random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator(self.seed, stream).initial_seed())
            return make()


def _log_sizes(slots: Sequence[_Slot]) -> Tensor:
    """Logarithms of the dimensions of a node's largest parameter, (4,), 0 where there are none."""
    largest = max((slot.shape for slot in slots), key=math.prod, default=())
    logs = [math.log(size) for size in largest[:_SIZES]]
    return torch.tensor([*logs, *[0.0] * (_SIZES - len(logs))])


def _key(name: str) -> str:
    """A name that containers of modules accept: no dots, and none of their methods."""
    return f"of {name}".replace(".", "/")
