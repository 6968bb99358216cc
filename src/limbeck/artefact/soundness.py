"""Whether what a run directory says is of the types and sizes that an artefact has; any file may be damaged.

Shapes: S batches, M images a batch, K classes; C, H, W of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from limbeck.common.typed import fit_value
from limbeck.engine import Tensors, carried_names, trainable_parameters
from limbeck.errors import LimbeckError
from limbeck.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from limbeck.artefact.distilled import Distilled

PROVENANCE: Final[Mapping[str, Any]] = MappingProxyType({
    "data": {"name": str, "sha256": str},
    "validation": {"accuracy": float, "iteration": int},
    "finished": bool,
    "iterations": int,
    "seconds": float,
    "versions": {"limbeck": str, "torch": str, "device": str},
})  # fmt: skip
"""What is said of how a set was made, wherever it is shown: types by name."""


PICTURES: Final[Mapping[str, Any]] = MappingProxyType({"read_size": tuple[int, int] | None, "deep": bool | None})
"""What is said of the data's images as they were read; sets from before it was do without."""


def check_sound(run: Distilled, folder: Path) -> None:
    """Raise LimbeckError, which says what is wrong, for a set that was read from a folder and is none."""
    used = {name: value for name, value in run.training.tensors().items() if name != "order"}
    for name, value in {"images": run.images, "labels": run.labels, **used, **run.weights, **run.generator}.items():
        counter = value.dtype == torch.long and (name in run.weights or name in run.generator)  # of normalisation
        if not (value.is_floating_point() or counter):
            raise LimbeckError(
                f"{folder / 'distilled.safetensors'} is damaged: {name} are of {value.dtype}, not of floating-point "
                "numbers; restore it from a copy."
            )
        if value.isnan().any():
            raise LimbeckError(
                f"{folder / 'distilled.safetensors'} is damaged: {name} are not all numbers (NaN); restore it from a "
                "copy."
            )
    if not _fit_together(run):
        raise LimbeckError(f"{folder} is damaged: images, labels, step sizes and order do not fit together.")
    try:
        _check_recorded(PROVENANCE, run.info)
        _check_recorded(PICTURES, dict.fromkeys(PICTURES) | run.info["data"])
        if run.info.get("verdict") is not None:
            _check_verdict(run.info["verdict"])
    except LimbeckError as error:
        raise LimbeckError(f"{folder / 'distilled.json'} is damaged: {error} Restore it from a copy.") from None


def class_names(values: Any) -> tuple[str, ...]:
    """The K names as they were recorded; raises TypeError for anything but a list of texts."""
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise TypeError("the names of the classes are no list of texts")
    return tuple(values)


def check_start(module: nn.Module, weights: Tensors, learner: str) -> None:
    """Raise LimbeckError unless a fixed θ₀, by name, is all that training changes in a network, in its shapes."""
    wanted: dict[str, Tensor] = dict(trainable_parameters(module))
    wanted |= {name: module.get_buffer(name) for name in carried_names(module)}
    odd = sorted(wanted.keys() ^ weights.keys())
    odd += [name for name in sorted(wanted.keys() & weights.keys()) if wanted[name].shape != weights[name].shape]
    if odd:
        raise LimbeckError(
            f"The network is another than the one of {learner} that the set was learned for: its fixed initialisation "
            f"has other names or shapes ({', '.join(odd[:3])}{', ...' if len(odd) > 3 else ''}); pass that network, or "
            "restore the run from a copy."
        )


def _fit_together(run: Distilled) -> bool:
    """Whether images, labels, preprocessing and training are of sizes that belong together."""
    if run.images.dim() != 5 or run.images.numel() == 0 or len(run.preprocessing.mean) != run.images.shape[2]:
        return False
    batches, images, *_ = run.images.shape
    return run.labels.shape == (batches, images, len(run.class_names)) and run.training.fits(batches)


def _check_recorded(wanted: Mapping[str, Any], values: Any) -> None:
    for name, kind in wanted.items():
        if name not in values:
            raise LimbeckError(f"{name} is missing.")
        if not isinstance(kind, Mapping):
            fit_value(name, values[name], kind)
        elif isinstance(values[name], Mapping):
            _check_recorded(kind, values[name])
        else:
            raise LimbeckError(f"{name} is {values[name]!r:.60}; it must be values by name.")


def _check_verdict(values: Any) -> None:
    try:
        _ = Verdict.from_json(values).sentence
    except (TypeError, KeyError, ValueError, AttributeError):
        raise LimbeckError(f"verdict is {values!r:.60}; it must be what a run said of itself.") from None
