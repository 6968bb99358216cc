"""A proxy: what gives an architecture a score without training it to the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

from limbeck.common.devices import Device, usable_device
from limbeck.data import TaskData
from limbeck.errors import LimbeckError
from limbeck.nas.proxies.scale import RANK, Scale
from limbeck.nas.spaces.base import Arch, Space

Tell: TypeAlias = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is searched for: networks of a space that do well on data. Nothing here reads the test split.

    Args:
        space: for images of the data's shape.
        data: with its validation split, on which architectures are compared.
        seed: of everything random.
        device: where to compute.
    """

    space: Space
    data: TaskData
    seed: int = 0
    device: Device = "cpu"

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", usable_device(self.device))


class Scorer(ABC):
    """What a proxy has prepared. It can be pickled, and is sent to every worker."""

    @abstractmethod
    def score(self, task: Task, arch: Arch) -> float:
        """A number that is higher for a better architecture; NaN or −∞ for one that failed.

        It depends on the task's seed and the architecture alone, never on what was scored before.
        """


class Proxy(ABC):
    """A way of scoring, as a frozen dataclass of its settings."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What tables and charts call it."""

    @property
    def scale(self) -> Scale:
        """What its scores say; an order and nothing else by default."""
        return RANK

    @abstractmethod
    def prepare(self, task: Task, tell: Tell = lambda text: None) -> Scorer:
        """Do what is done once, such as training a supernet.

        Raises:
            LimbeckError: it does not fit the task.
        """

    def at(self, fraction: float) -> Proxy:
        """The same with so much less training, 0 < fraction ≤ 1, for strategies that train the better ones longer.

        Raises:
            LimbeckError: it has no training that could be shortened.
        """
        raise LimbeckError(
            f"The proxy {self.name} cannot be shortened, which successive halving needs; choose one that trains on a "
            "learned set or on real data, or another strategy."
        )
