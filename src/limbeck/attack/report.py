"""What a batch does to trained networks: how many take one class for another after a step on it, and what else changes.

A robustness tool (Wang et al. 2018, arXiv 1811.10959, data poisoning): it tells whoever trains on data from others what
a single accepted batch can do, beside real images with the same false labels. Shapes: B networks, K classes, M images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from limbeck.artefact.distilled import Distilled
from limbeck.attack.difference import Difference, compare_with_honest
from limbeck.attack.effect import Effect, TrainedNetworks
from limbeck.attack.trial import DefenceResult, try_defences
from limbeck.common.devices import Device, usable_device
from limbeck.common.provenance import versions
from limbeck.common.seeds import generator
from limbeck.data import TaskData
from limbeck.engine import (
    Batch,
    Learner,
    Tensors,
)
from limbeck.errors import LimbeckError
from limbeck.evaluation.baselines import RANDOM_SETS, STEP_SIZES, Layout, baseline_names, check_baselines, make_baseline
from limbeck.experiment.config import Config
from limbeck.experiment.parts import AttackConfig
from limbeck.experiment.progress import once
from limbeck.experiment.recorded import code_among, importable
from limbeck.models import build, check_pool
from limbeck.pools.pool import open_card, open_pool


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class AttackRow:
    """One batch: ``learned``, a baseline at the learned step size or at one tuned for it, or another architecture."""

    row: str
    before: Effect
    after: Effect
    step_size: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "row": self.row,
            **self.after.to_json(),
            "before": self.before.to_json(),
            "step_size": self.step_size,
        }


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class AttackReport:
    """The attacker's numbers and the defender's, over networks that nothing was learned or chosen on."""

    attack: AttackConfig
    class_names: tuple[str, ...]
    rows: tuple[AttackRow, ...]
    defences: tuple[DefenceResult, ...]
    difference: Difference
    device: str
    info: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        after, before = self.learned_row.after, self.learned_row.before
        source, target = (self.class_names[k] for k in (self.attack.source, self.attack.target))
        return (
            f"AttackReport({source} taken for {target}: {float(after.rate_B.mean()):.2f} %, before "
            f"{float(before.rate_B.mean()):.2f}, n = {len(after.rate_B)}, {len(self.rows) - 1} more rows)"
        )

    @property
    def learned_row(self) -> AttackRow:
        """The row of the learned batch."""
        return self.rows[0]

    def to_json(self, run: str | None = None) -> dict[str, Any]:
        """Plain values, rates and accuracies in percent."""
        return {
            "from": self.class_names[self.attack.source],
            "to": self.class_names[self.attack.target],
            "rows": [row.to_json() for row in self.rows],
            "defences": [result.to_json() for result in self.defences],
            "difference": self.difference.to_json(),
            "device": self.device,
            "run": run,
            **self.info,
        }


def attack_report(
    run: Distilled,
    data: TaskData,
    *,
    n: int | None = None,
    seed: int = 0,
    baselines: Sequence[str] | None = None,
    transfer: Sequence[Path] = (),
    defended: bool = True,
    trust: bool = False,
    device: Device = "cpu",
    tell: Callable[[str], None] = lambda text: None,
) -> AttackReport:
    """Let held-out networks take the learned steps, and the same steps on real images with the same false labels.

    Args:
        run: what ``distill`` made of a configuration with an attack.
        data: the task that the networks were trained for.
        n: held-out networks, all that the pool holds out by default.
        seed: of the baselines' draws.
        baselines: real images to compare with, all by default; the source class gets the target's label. Each is tried
            at the learned step size and at one tuned for it on training images.
        transfer: pools of other architectures that take the same steps.
        defended: also try the defences.
        trust: import the code that a pool for ``transfer`` names as its learner, if it names any.
        device: where to compute.
        tell: is called with lines of progress.

    Raises:
        LimbeckError: a run without an attack, an unknown baseline, or a pool for other data.
    """
    device = usable_device(device)
    attack = run.config.attack
    if attack is None:
        raise LimbeckError("This run is no attack; judge it with 'limbeck evaluate'.")
    names = baseline_names() if baselines is None else tuple(baselines)
    check_report(run.config, data, n=n, baselines=names, transfer=transfer)
    tell, data = once(tell), data.to(device)
    learner = run.learner(device=device)
    count = 1 if run.weights else (n or run.config.init.held_out)
    networks = TrainedNetworks(learner, run.initial(learner, count, seed), attack, data, tell)
    transfers = [_open_transfer(path, run, attack, data, device, tell, trust) for path in transfer]
    before = networks.before
    batches = list(run.batches(device))
    tell(f"the learned steps, {networks.n} held-out networks")
    after = networks.after(batches)
    rows = [AttackRow(row="learned", before=before, after=after, step_size=None)]
    few = 1 if run.weights else min(8, run.config.outer.validate_inits)
    tuning = TrainedNetworks(learner, run.initial(learner, few, seed, selection=True), attack, data, tell, tuning=True)
    for name in names:
        rows += _baseline(name, run, data, networks, tuning, seed, device, tell)
    for name, other in transfers:
        tell(f"the learned steps, {other.n} networks {name}")
        rows.append(AttackRow(row=name, before=other.before, after=other.after(batches), step_size=None))
    tell("the defender's view")
    rng = generator(seed, "defences")

    def rate_of(states: Tensors) -> Tensor:
        return networks.evaluate(states).rate_B

    defences = try_defences(networks.kernels, networks.states, batches, data, rng, rate_of) if defended else ()
    return AttackReport(
        attack=attack,
        class_names=run.class_names,
        rows=tuple(rows),
        defences=tuple(defences),
        difference=compare_with_honest(networks.kernels, networks.states, batches, data, rng),
        device=str(versions(device)["device"]),
        info={"n": networks.n, "seed": seed, "data": data.name, "seconds": run.info["seconds"]},
    )


def check_report(
    config: Config, data: TaskData, *, n: int | None, baselines: Sequence[str], transfer: Sequence[Path]
) -> None:
    """Raise LimbeckError for what ``attack_report`` cannot report on, before anything is learned."""
    check_baselines(baselines)
    if config.attack is not None:
        source = config.attack.source
        for split, y_N in (("validation", data.val_y), ("test", data.test_y)):
            if not (y_N == source).any():
                raise LimbeckError(f"The {split} data has no image of the class {data.class_names[source]}.")
    if n is not None and not 1 <= n <= config.init.held_out:
        raise LimbeckError(
            f"n is {n}; the pool holds out {config.init.held_out} networks, so ask for 1 to "
            f"{config.init.held_out} of them."
        )
    for path in transfer:
        card = open_card(path)
        if card["data"]["sha256"] != data.sha256:
            raise LimbeckError(f"The pool {path} was trained on {card['data']['name']}, not on {data.name}.")
        if path.resolve() == config.init.pool.resolve():
            raise LimbeckError(f"The pool {path} is the one that the images are learned on; transfer needs another.")


def relabel(batches: Sequence[Batch], attack: AttackConfig) -> list[Batch]:
    """Batches of the same images, where those of the source class carry the target's label."""
    classes = batches[0].y_MK.shape[1]
    rename_KK = torch.eye(classes, device=batches[0].y_MK.device, dtype=batches[0].y_MK.dtype)
    rename_KK[attack.source] = rename_KK[attack.target]
    return [batch._replace(y_MK=batch.y_MK @ rename_KK) for batch in batches]


def _baseline(
    name: str,
    run: Distilled,
    data: TaskData,
    networks: TrainedNetworks,
    tuning: TrainedNetworks,
    seed: int,
    device: str,
    tell: Callable[[str], None],
) -> list[AttackRow]:
    """A baseline at the learned step sizes, and at one that is tuned for it."""
    assert run.config.attack is not None
    attack = run.config.attack
    tell(f"baseline {name}, at the learned step size and at its own")
    layout = Layout(
        batches=run.images.shape[0],
        ipc=max(1, run.images.shape[1] // run.num_classes),
        order=tuple(run.order.tolist()),
    )
    learned_h = [batch.h for batch in run.batches(device)]

    def arrange(x_KnCHW: Tensor, step_size: float | None) -> list[Batch]:
        batches = layout.arrange(x_KnCHW, step_size or 1.0)
        own = [{**h, "lr": batch.h["lr"]} for h, batch in zip(learned_h, batches, strict=True)]
        hyperparameters = learned_h if step_size is None else own
        return relabel([batch._replace(h=h) for h, batch in zip(hyperparameters, batches, strict=True)], attack)

    make, rng = make_baseline(name), generator(seed, f"baseline {name}")
    sets = [make(data, layout.per_class, rng) for _ in range(RANDOM_SETS if "random" in name else 1)]
    best = max(STEP_SIZES, key=lambda lr: tuning.after(arrange(sets[0], lr)).balance)
    rows = []
    for label, step_size in (("same step size", None), ("own step size", best)):
        tried = sets
        if name == "best-random":
            tried = [max(sets, key=lambda x: tuning.after(arrange(x, step_size)).balance)]
        after = networks.after(*(arrange(x, step_size) for x in tried))
        rows.append(AttackRow(row=f"{name}, {label}", before=networks.before, after=after, step_size=step_size))
    return rows


def _open_transfer(
    path: Path,
    run: Distilled,
    attack: AttackConfig,
    data: TaskData,
    device: str,
    tell: Callable[[str], None],
    trust: bool,
) -> tuple[str, TrainedNetworks]:
    """The networks of another pool: at most as many as the attack's own pool holds out."""
    pool = open_pool(path)
    name = pool.card["config"]["learner"]
    importable(name, () if trust else code_among(name))
    module = build(name, shape=data.image_shape, num_classes=data.num_classes).to(device)
    check_pool(pool.states, module)
    learner = Learner.of(module, run.config.inner.make())
    states = {key: value[: run.config.init.held_out].to(device) for key, value in pool.states.items()}
    return f"{name} (transfer)", TrainedNetworks(learner, states, attack, data, tell)
