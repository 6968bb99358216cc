"""The proxy by a graph hypernetwork: a network is judged with the weights that the hypernetwork emits for its graph.

Zhang, Ren and Urtasun 2019, "Graph HyperNetworks for Neural Architecture Search" (arXiv 1810.05749).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch

from limbeck.engine import Batch
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.blueprint import Blueprint
from limbeck.nas.proxies.common import descend, fit, on, require_one_network, require_positive, validate_as_is
from limbeck.nas.proxies.hypernetwork import HyperNetwork
from limbeck.nas.proxies.scale import Scale, scale_of
from limbeck.nas.spaces.base import Arch
from limbeck.nas.training import Measure, Schedule


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

    @property
    def scale(self) -> Scale:
        return scale_of(self.measure)

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        network = HyperNetwork(self.hidden, self.rounds, task.seed).to(task.device)
        optimizer = torch.optim.Adam(network.parameters(), weight_decay=self.schedule.weight_decay)
        blueprint_of = functools.lru_cache(maxsize=512)(functools.partial(Blueprint.of, task))

        def step(architectures: np.random.Generator, batch: Batch, rate: float) -> float:
            blueprint = blueprint_of(task.space.sample(architectures))
            new = network.meet(blueprint)
            if new:
                optimizer.add_param_group({"params": new})
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
    network: HyperNetwork

    @torch.no_grad()
    def score(self, task: Task, arch: Arch) -> float:
        blueprint = Blueprint.of(task, arch)
        weights = on(task.device, self.network.emit(blueprint))
        return validate_as_is(task, blueprint.module, weights, self.config.images, self.config.measure)
