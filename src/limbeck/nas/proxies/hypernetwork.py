"""A graph hypernetwork: it reads an architecture's graph and emits the weights of the network.

Zhang, Ren and Urtasun 2019, "Graph HyperNetworks for Neural Architecture Search" (arXiv 1810.05749). Shapes: V nodes,
D hidden numbers of a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.common.seeds import generator, own_state
from limbeck.engine import Tensors
from limbeck.models import draw
from limbeck.nas.proxies.blueprint import SIZES, Blueprint, Slot, log_sizes, module_key

_Module = TypeVar("_Module", bound=nn.Module)

_OFFSET: Final = 0.1  # how far norms and biases are from their usual values at first


@final
class HyperNetwork(nn.Module):
    """Embeddings of operations, messages along the graph by gated recurrent units, and decoders to weights.

    Operations and kinds of parameters are met as they come (``meet``): each gets its embedding or decoder by its name
    and the seed, so that their order does not matter.
    """

    def __init__(self, hidden: int, rounds: int, seed: int) -> None:
        super().__init__()
        self.hidden, self.rounds, self.seed = hidden, rounds, seed
        self.embeddings = nn.ParameterDict()
        self.decoders = nn.ModuleDict()
        self.sizes = self._make("sizes", lambda: nn.Linear(SIZES, hidden, bias=False))
        self.messages = nn.ModuleList(
            self._make(f"messages {way}", lambda: nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())) for way in (0, 1)
        )
        self.units = nn.ModuleList(self._make(f"unit {way}", lambda: nn.GRUCell(hidden, hidden)) for way in (0, 1))

    def meet(self, blueprint: Blueprint) -> list[nn.Parameter]:
        """Add an embedding for each new operation and a decoder for each new kind of parameter of an architecture.

        Returns:
            The parameters that were added, to be trained.
        """
        new: list[nn.Parameter] = []
        for op in blueprint.ops:
            if module_key(op) not in self.embeddings:
                self.embeddings[module_key(op)] = self._embedding(op)
                new.append(self.embeddings[module_key(op)])
        for slot in (slot for of_node in blueprint.slots for slot in of_node):
            if slot.kind not in self.decoders:
                self.decoders[slot.kind] = self._decoder(slot)
                new += self.decoders[slot.kind].parameters()
        return new

    def emit(self, blueprint: Blueprint) -> Tensors:
        """The network's parameters by name; what was never met is decoded by the weights that it would start with."""
        h_VD = self.node_states(blueprint)
        return {
            slot.name: self.fill(slot, h_D)
            for of_node, h_D in zip(blueprint.slots, h_VD, strict=True)
            for slot in of_node
        }

    def node_states(self, blueprint: Blueprint) -> list[Tensor]:
        """V states (D,), one for each node, after all rounds of messages, each along the graph in order and back."""
        states = []
        for op, slots in zip(blueprint.ops, blueprint.slots, strict=True):
            embedding = self.embeddings[module_key(op)] if module_key(op) in self.embeddings else self._embedding(op)
            states.append(embedding + self.sizes(log_sizes(slots).to(embedding)))
        order = range(len(states))
        for _ in range(self.rounds):
            self.pass_messages(0, order, blueprint.before, states)
            self.pass_messages(1, order[::-1], blueprint.after, states)
        return states

    def pass_messages(
        self, way: int, order: Sequence[int], neighbours: Sequence[Sequence[int]], states: list[Tensor]
    ) -> None:
        """Renew every state in place from the messages of its neighbours, which come before it in ``order``.

        ``way`` is 0 along the graph and 1 back.
        """
        sent: dict[int, Tensor] = {}
        for node in order:
            message_D = sum((sent[other] for other in neighbours[node]), torch.zeros_like(states[node]))
            states[node] = self.units[way](message_D[None], states[node][None])[0]
            sent[node] = self.messages[way](states[node])

    def fill(self, slot: Slot, h_D: Tensor) -> Tensor:
        """A parameter in the slot's shape, decoded from the state (D,) of its node."""
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
        return nn.Parameter(
            torch.randn(self.hidden, generator=generator(self.seed, f"op {op}"), dtype=torch.float32).to(like)
        )

    def _decoder(self, slot: Slot) -> nn.Module:
        """From a normalised state to a tile, whose numbers have a variance of 1 at first."""
        width = 2 * self.hidden
        decoder = self._make(
            f"decoder {slot.kind}",
            lambda: nn.Sequential(nn.Linear(self.hidden, width), nn.ReLU(), nn.Linear(width, math.prod(slot.tile))),
        )
        weights = draw(decoder, "kaiming", 1, generator(self.seed, f"weights of {slot.kind}"))
        decoder.load_state_dict({name: value[0] for name, value in weights.items()})
        with torch.no_grad():
            decoder.get_parameter("2.weight").div_(math.sqrt(2))
        return decoder.to(self.sizes.weight)

    def _make(self, stream: str, make: Callable[[], _Module]) -> _Module:
        """A module with the weights that the seed gives it; the global random state is left alone."""
        with own_state(generator(self.seed, stream).initial_seed()):
            return make()
