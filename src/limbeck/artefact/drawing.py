"""Batches and networks that nobody has seen: what a set leaves to chance, drawn anew.

Shapes: S batches, M images a batch, N images, Z entries of the noise, K classes; C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limbeck.artefact.soundness import check_start
from limbeck.common.typed import fit_value
from limbeck.engine import GeneratorConfig, call_with
from limbeck.errors import LimbeckError
from limbeck.experiment.build import generator_for, initial_weights, network_for

if TYPE_CHECKING:
    from limbeck.artefact.distilled import Distilled


def refuse_without_pictures(run: Distilled) -> None:
    """Raise LimbeckError if the examples of a set are no images, which a picture could show."""
    if run.kind != "images":
        what = "rows of a table" if run.kind == "table" else "series"
        raise LimbeckError(
            f"This set is made of {what}, which no picture shows; export it as arrays, to a file whose name "
            "ends in .npz."
        )


def make_network(run: Distilled, seed: int) -> nn.Module:
    """A new network with the fixed initialisation of a set, or with weights from ``seed``; see ``Distilled.network``.

    Raises:
        LimbeckError: the network has other parameters than the fixed initialisation.
    """
    seed = fit_value("seed", seed, int)
    module = network_for(run.config, run.shape, run.num_classes)
    if run.weights:
        weights = run.weights
        check_start(module, weights, run.config.learner)
    else:
        draws = initial_weights(run.config, module).held_out(1, seed)
        weights = {name: value[0] for name, value in draws.items()}
    module.load_state_dict(weights, strict=False)  # what is frozen in it is not among them
    return module


def draw_batches(run: Distilled, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (M, C, H, W) and labels (M, K) of each learned step, with what is left to chance drawn from ``seed``.

    Raises:
        LimbeckError: a set that leaves nothing to chance, or whose noise is not recorded.
    """
    source, steps = run.config.source, len(run.order)
    if not isinstance(source, GeneratorConfig) or source.curriculum not in ("none", "shuffled-batches"):
        raise LimbeckError(
            "Only a generator without a curriculum, or with shuffled batches, has something to draw anew; leave "
            "out the seed for the batches that are recorded."
        )
    rng = torch.Generator().manual_seed(seed)
    if source.curriculum == "shuffled-batches":
        order = torch.randperm(steps, generator=rng).tolist()
        return ((run.images[index], run.labels[index]) for index in order)
    classes_N = torch.arange(steps * source.batch) % run.num_classes
    if source.classes == "random":
        classes_N = torch.randint(run.num_classes, classes_N.shape, generator=rng)
    return make_batches(run, source, classes_N, rng)


def generate(run: Distilled, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """New images (n, C, H, W) of a generator and their class indices (n,), balanced; see ``Distilled.generate``."""
    n, seed = fit_value("n", n, int), fit_value("seed", seed, int)
    if n < 1:
        raise LimbeckError(f"n is {n}; at least one image must be asked for.")
    source = run.config.source
    if not run.generator or not isinstance(source, GeneratorConfig):
        raise LimbeckError("This set was not made by a generator; its images are all in run.images.")
    if source.curriculum != "none":
        raise LimbeckError(
            f"The generator was learned with noise of its own (curriculum {source.curriculum}), and what it "
            "makes of that is in run.images. Learn one with --curriculum=none for images without limit."
        )
    rng = torch.Generator().manual_seed(seed)
    y_N = torch.arange(-(-n // source.batch) * source.batch) % run.num_classes
    images = [x_MCHW for x_MCHW, _ in make_batches(run, source, y_N, rng)]
    return torch.cat(images)[:n], y_N[:n]


def make_batches(
    run: Distilled, source: GeneratorConfig, classes_N: Tensor, rng: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of these classes from fresh noise, one at a time: images (M, C, H, W), one-hot labels (M, K)."""
    run.config.importable(source.generator)
    module = generator_for(source, run.shape, run.num_classes)
    for y_M in torch.split(classes_N, source.batch):
        z_MZ = torch.randn(len(y_M), source.latent, generator=rng)
        y_MK = torch.nn.functional.one_hot(y_M, run.num_classes).float()
        with torch.no_grad():
            yield call_with(module, run.generator, (z_MZ, y_MK)), y_MK
