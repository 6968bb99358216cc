"""Weight sharing: one supernet is trained, and every architecture is scored with the weights that it inherits.

Pham et al. 2018 (ENAS, arXiv 1802.03268) share the weights of all architectures; sampling them uniformly and scoring
them without training is the single-path one-shot method of Guo et al. 2020 (arXiv 1904.00420); narrow networks take
the leading channels of wide ones' as in Cai et al. 2020 (Once-for-All, arXiv 1908.09791).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from torch import nn

from limbeck.engine import Batch
from limbeck.nas.proxies.base import Proxy, Scorer, Task, Tell
from limbeck.nas.proxies.common import descend, fit, numpy_generator, require_one_network, require_positive
from limbeck.nas.proxies.scale import Scale, scale_of
from limbeck.nas.proxies.supernet import Child, Supernet, new_stores
from limbeck.nas.training import Measure, Schedule


@final
@dataclass(frozen=True, kw_only=True)
class WeightSharing(Proxy):
    """Score by validation accuracy with weights inherited from a supernet.

    The supernet is one tensor for each name in ``Space.shared``. A step draws architectures uniformly and follows the
    mean of their gradients, each on the same real batch.

    Args:
        schedule: of the supernet's training by Adam; a seconds budget makes it depend on the machine.
        paths: architectures a step, at least 1.
        clip: largest norm of a step's gradient.
        images: validation images; all by default.
        measure: of the network on validation images.
        label: the proxy's name; ``sharing`` by default.
    """

    schedule: Schedule = field(default_factory=lambda: Schedule(steps=2000))
    paths: int = 1
    clip: float = 5.0
    images: int | None = None
    measure: Measure = "accuracy"
    label: str = "sharing"

    def __post_init__(self) -> None:
        require_one_network(self.schedule)
        require_positive(self, "paths", "clip", "images")

    @property
    def name(self) -> str:
        return self.label

    @property
    def scale(self) -> Scale:
        return scale_of(self.measure)

    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        child_of = functools.lru_cache(maxsize=512)(functools.partial(Child.of, task))
        first = child_of(task.space.sample(numpy_generator(task.seed, "first architecture of a supernet")))
        stores = {name: nn.Parameter(value) for name, value in new_stores({}, first, task).items()}
        groups = [{"params": [store]} for store in stores.values()]
        optimizer = torch.optim.Adam(groups, weight_decay=self.schedule.weight_decay)

        def step(architectures: np.random.Generator, batch: Batch, rate: float) -> float:
            children = [child_of(task.space.sample(architectures)) for _ in range(self.paths)]
            for child in children:
                for name, value in new_stores(stores, child, task).items():
                    if name in stores:
                        _forget(optimizer, stores[name])
                    stores[name] = nn.Parameter(value)
                    optimizer.add_param_group({"params": [stores[name]]})
            optimizer.zero_grad()
            total = 0.0
            for child in children:
                state = child.learner.init(child.cut(stores))
                loss, _ = child.learner.inner_loss(state.params, state.buffers, batch.x_MCHW, batch.y_MK)
                (loss / self.paths).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach()) / self.paths
            descend(optimizer, rate, self.clip)
            return total

        fit(task, self.schedule, "sharing", step, tell)
        weights = {name: value.detach().cpu() for name, value in stores.items()}
        return Supernet(stores=weights, images=self.images, measure=self.measure)


def _forget(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    """Let the optimiser go on without a parameter."""
    optimizer.state.pop(parameter, None)
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"][0] is not parameter]
