"""What a study of architecture search is made on: samples of a space, the set learned for others of it, the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from limbeck.engine import InnerConfig, PixelConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.parts import InitConfig, OuterConfig
from limbeck.experiment.task import task_of
from limbeck.nas.proxies.base import Task
from limbeck.nas.proxies.common import numpy_generator
from limbeck.nas.spaces import space_named
from limbeck.nas.spaces.base import Arch, Space


def set_config(data: str, learners: Sequence[str], seed: int, *, iterations: int, real_batch: int) -> Config:
    """Of a set for networks that are to be told apart.

    Steps are Adam's, and small: with larger ones the set teaches better and tells architectures apart worse, because
    then narrow and shallow networks are ahead.
    """
    return Config(
        data=data,
        learner=learners[0],
        family=tuple(learners[1:]),
        init=InitConfig(distribution="kaiming"),
        source=PixelConfig(steps=10, epochs=1, ipc=1, start="real", labels="soft"),
        inner=InnerConfig(optimizer="adam", lr=0.0015),
        outer=OuterConfig(
            iterations=iterations,
            inits=1,
            real_batch=real_batch,
            lr_images=0.05,
            lr_steps=0.0005,
            clip_init=0.1,
            validate_every=192,
            validate_inits=1,
        ),
        seed=seed,
    )


def learners_for(space: Space, sample: int, count: int, seed: int) -> list[str]:
    """So many learners, drawn like the ``sample`` architectures that are ranked, but others."""
    ranked_archs = set(draw_sample(space, sample, seed))
    archs = draw_sample(space, sample + count, seed, "learned for")
    return [space.text(arch) for arch in archs if arch not in ranked_archs][:count]


def task_for(config: Config, space: str, device: str = "cpu", data_dir: Path | None = None) -> Task:
    """A space on the data of a learned set, split as it is there, so that the set has seen no validation image."""
    data = task_of(config, data_dir=data_dir, device=device)
    networks = space_named(space, shape=data.image_shape, num_classes=data.num_classes)
    return Task(space=networks, data=data, seed=config.seed, device=device)


def draw_sample(space: Space, n: int, seed: int, stream: str = "ranking") -> tuple[Arch, ...]:
    """Distinct architectures that can be built, drawn uniformly; the first ones of a larger sample are a smaller one.

    Raises:
        LimbeckError: the space does not seem to have so many.
    """
    if n < 1:
        raise LimbeckError(f"--n is {n}; at least one architecture is needed.")
    rng, archs, refused = numpy_generator(seed, stream), dict[Arch, None](), set[Arch]()
    for _ in range(100 + 50 * n):
        if len(archs) == n:
            break
        arch = space.sample(rng)
        if arch in archs or arch in refused:
            continue
        try:
            space.build(arch)
        except LimbeckError:
            refused.add(arch)
        else:
            archs[arch] = None
    if len(archs) < n:
        raise LimbeckError(
            f"The space {space.name} has {space.size} architectures, of which {len(archs)} different ones that can be "
            f"built were drawn; that is fewer than {n}."
        )
    return tuple(archs)


def draw_sample_for(task: Task, config: Config, n: int) -> tuple[Arch, ...]:
    """The first n of ``draw_sample`` for which no set was learned."""
    count = n
    while True:
        others = [a for a in draw_sample(task.space, count, task.seed) if task.space.text(a) not in config.learners]
        if len(others) >= n:
            return tuple(others[:n])
        count += n - len(others)
