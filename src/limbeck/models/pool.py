"""Pools of saved network states: one safetensors file, nothing in it is a pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from limbeck.common.files import load_tensors
from limbeck.engine import carried_names, trainable_parameters
from limbeck.errors import LimbeckError
from limbeck.models.init import pool_size

_KIND: Final = "limbeck-pool"
_VERSION: Final = 1


def save_pool(path: str | os.PathLike[str], states: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write N states {name: (N, *shape)} and their card (anything that JSON can hold) to `path`.

    The file is written beside its place and then renamed, so that a crash never leaves half a pool.

    Raises:
        LimbeckError: states that disagree on N, a card that is not JSON, or a place that cannot be written.
    """
    pool_size(states)
    try:
        text = json.dumps(dict(card), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LimbeckError(f"The card of a pool must be plain JSON: {error}.") from error
    metadata = {"kind": _KIND, "version": str(_VERSION), "card": text}
    # Clones, because the format refuses tensors that share memory, such as expanded or tied ones.
    tensors = {name: state.detach().cpu().contiguous().clone() for name, state in states.items()}
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, beside, metadata=metadata)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    except (OSError, SafetensorError) as error:
        raise LimbeckError(f"The pool cannot be written to {target}: {error}.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def load_pool(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """States {name: (N, *shape)} on the CPU and the card that `save_pool` wrote.

    Raises:
        LimbeckError: no such file, a damaged one, one that is no pool, or one of a later version.
    """
    card = load_card(path)
    states, _ = load_tensors(Path(path))
    pool_size(states)
    return states, card


def load_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The card alone, without its networks; raises `LimbeckError` as `load_pool`."""
    target = Path(path)
    if not target.is_file():
        raise LimbeckError(f"There is no pool at {target}; expected a .safetensors file that holds trained states.")
    try:
        with safe_open(target, framework="pt", device="cpu") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise LimbeckError(f"The pool {target} is damaged ({error}); make it again.") from error
    if metadata.get("kind") != _KIND:
        raise LimbeckError(f"{target} is a safetensors file, but not a pool of network states.")
    if metadata.get("version") != str(_VERSION):
        raise LimbeckError(
            f"The pool {target} has format version {metadata.get('version')}, this program reads version {_VERSION}; "
            "update it."
        )
    try:
        card = json.loads(metadata["card"])
    except (KeyError, ValueError) as error:
        raise LimbeckError(f"The pool {target} is damaged: its card is not JSON; make it again.") from error
    if not isinstance(card, dict):
        raise LimbeckError(f"The pool {target} is damaged: its card is not a JSON object; make it again.")
    return card


def pool_digest(states: Mapping[str, Tensor]) -> str:
    """SHA-256 of the networks' names, shapes and numbers: the same where a pool was made again with the same result."""
    digest = hashlib.sha256()
    for name, state in sorted(states.items()):
        digest.update(f"{name} {state.dtype} {tuple(state.shape)};".encode())
        digest.update(state.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_pool(states: Mapping[str, Tensor], module: nn.Module) -> None:
    """Raise `LimbeckError` unless `states` are states {name: (N, *shape)} of networks like `module`."""
    expected = {name: tuple(parameter.shape) for name, parameter in trainable_parameters(module).items()}
    carried = {name: tuple(module.get_buffer(name).shape) for name in carried_names(module)}
    expected |= {name: shape for name, shape in carried.items() if name in states}  # running statistics may be there
    actual = {name: tuple(state.shape[1:]) for name, state in states.items()}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise LimbeckError(
                f"The pool does not fit the learner: parameter '{name}' has shape {actual.get(name, 'none')} in the "
                f"pool and {expected.get(name, 'none')} in the learner; use the learner that the pool was trained with."
            )
