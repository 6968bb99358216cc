"""What a module must be to be trained as a learner: refused is what would train silently wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from limbeck.common.seeds import own_state
from limbeck.engine import (
    Carrying,
    call_with,
    carried_names,
    copy_module,
    hidden_layers,
    is_simple,
    logits_of,
    trainable_parameters,
)
from limbeck.errors import LimbeckError
from limbeck.models.kept import kept_values
from limbeck.models.replay import Replayed, random_calls


def check(module: nn.Module, shape: tuple[int, int, int], num_classes: int) -> None:
    """Run two images through `module` in float32, in training; neither it nor the global random state is changed.

    Raises:
        LimbeckError: the module has nothing to train, hides layers or parameters, has weights that are not finite or
            fails on such images, its output is not (2, num_classes), or its forward pass draws random numbers, counts
            or updates buffers, which inner training could not differentiate.
    """
    refuse_lazy(module)
    for path in hidden_layers(module):
        raise LimbeckError(
            f"The learner keeps layers in a plain list or dict, '{path}', where torch does not see their parameters; "
            "put them into nn.ModuleList or nn.ModuleDict."
        )
    trainable = trainable_parameters(module)
    if not trainable:
        raise LimbeckError("The learner has no parameter to train; give it at least one with requires_grad=True.")
    for name, parameter in module.named_parameters():
        if parameter.is_complex() and parameter.requires_grad:
            raise LimbeckError(f"The learner's parameter '{name}' is complex, which is not supported; split it in two.")
        if parameter._backward_hooks:
            raise LimbeckError(
                f"The learner's parameter '{name}' has a hook on its gradient, which inner training does not run; "
                "change the gradient in the forward pass instead."
            )
        if parameter.is_floating_point() and not parameter.isfinite().all():
            raise LimbeckError(f"The learner's parameter '{name}' has values that are not finite numbers.")
    generator = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(2, *shape, generator=generator, dtype=torch.float32).to(next(iter(trainable.values())).device)
    kept, drawn = _plain_values(module), set[str]()
    simple = is_simple(module)
    other = module if simple else copy_module(module)
    with random_calls() as traced:
        logits, buffers = _dry_run(module, x_NCHW, seed=1, used=drawn)
        changed = [name for name, value in _plain_values(module).items() if value != kept.get(name, value)]
        if not drawn and not simple:
            predicted = _dry_run(copy_module(module).eval(), x_NCHW, seed=1, used=drawn)[0]
    if not simple and not changed:
        _dry_run(other, x_NCHW.flip(0) * 2 + 1, seed=2)
        before = kept_values(other)
        again = _dry_run(other, x_NCHW, seed=2)[0]
        changed = [name for name, value in kept_values(other).items() if value != before.get(name)]
    if changed:
        raise LimbeckError(
            f"The learner's forward pass changes '{changed[0]}', which inner training does not carry, so a step could "
            "not be computed again; leave that out."
        )
    for parameter in traced.parameters:  # the module's own have been replaced by copies that are none
        raise LimbeckError(
            f"The learner's forward pass uses a parameter that is not registered, of shape {tuple(parameter.shape)}, "
            "so it would not be trained; make its layer an attribute of the module, or put it into nn.ModuleList; "
            "or freeze it (requires_grad_(False)) if it is not to be trained."
        )
    if traced.names or drawn:
        raise LimbeckError(
            f"The learner's forward pass draws random numbers ({', '.join(sorted({*traced.names, *drawn}))}) in a way "
            "that cannot be replayed for a step's gradient; turn dropout and noise off (p=0), or draw with torch.rand, "
            "torch.randn or torch.nn.functional.dropout."
        )
    if not isinstance(logits, Tensor):
        raise LimbeckError(f"The learner returns {type(logits).__name__}, not a tensor of logits (images, classes).")
    if logits.shape != (2, num_classes):
        output = f"{logits.shape[1]} outputs" if logits.ndim == 2 else f"an output of shape {tuple(logits.shape)}"
        raise LimbeckError(
            f"The learner gives {output} for a batch of 2 images, but the data has {num_classes} classes, so its "
            f"output must have shape (2, {num_classes}); make its last layer {num_classes} wide."
        )
    carried = carried_names(module)
    for name, buffer in module.named_buffers():
        if name not in carried and not torch.equal(buffers[name], _float32(buffer)):
            raise LimbeckError(
                f"The learner's forward pass updates its buffer '{name}', which inner training does not carry; "
                "use a layer without running statistics."
            )
    if simple:
        return
    if _differ(logits, again):
        raise LimbeckError(
            "The learner gives two different outputs for the same images, so its forward pass draws random numbers or "
            "keeps something of earlier images; turn noise off (p=0), and keep statistics in buffers (register_buffer)."
        )
    if _differ(predicted, _dry_run(other.eval(), x_NCHW, seed=1)[0]):
        raise LimbeckError(
            "The learner keeps something of the images it is trained on in plain attributes, which inner training does "
            "not carry; keep it in buffers (register_buffer)."
        )


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.equal(one, other) and not (one.isnan().any() or other.isnan().any())


def _plain_values(module: nn.Module) -> dict[str, Any]:
    """Numbers and texts that layers keep, by their path."""
    return {
        f"{path}.{name}".lstrip("."): value
        for path, layer in module.named_modules()
        for name, value in vars(layer).items()
        if name != "training" and isinstance(value, bool | int | float | str)
    }


def _numpy_state() -> tuple[bytes, int]:
    state = np.random.get_state(legacy=False)
    return state["state"]["key"].tobytes(), state["state"]["pos"]


@contextmanager
def _watching(used: set[str]) -> Iterator[None]:
    """Within it, random states are noted that are used besides torch's operators: Python's, NumPy's, torch's seed."""
    seed_anew = torch.manual_seed

    def notice(seed: int) -> torch.Generator:
        used.add("torch.manual_seed")
        return seed_anew(seed)

    before = random.getstate(), _numpy_state()
    with mock.patch.object(torch, "manual_seed", notice):
        yield
    if random.getstate() != before[0]:
        used.add("random")
    if _numpy_state() != before[1]:
        used.add("numpy.random")


def refuse_blind(module: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raise LimbeckError for a learner to which all images are alike, whatever its weights.

    Not for architectures of a search space, some of which have no path from input to output.
    """
    rng = torch.Generator().manual_seed(0)
    device = next(iter(trainable_parameters(module).values())).device
    x_NCHW = torch.randn(2, *shape, generator=rng, dtype=torch.float32).to(device)
    # Away from the zeros in which the head of a network may start.
    weights = {
        name: p.detach() + 0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float32).to(p.device, p.dtype)
        for name, p in trainable_parameters(module).items()
    }
    one, other = (_dry_run(module, x, seed=1, weights=weights)[0] for x in (x_NCHW, x_NCHW.flip(0) * 2 + 1))
    if torch.equal(one, other):
        raise LimbeckError("The learner gives the same output for all images, so it ignores them; use its input.")


def refuse_lazy(module: nn.Module) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors) or any(isinstance(m, LazyModuleMixin) for m in module.modules()):
        raise LimbeckError("The learner has lazy layers without shapes; run one batch through it before returning it.")


def refuse_unsupported(module: nn.Module, kind: str = "learner") -> None:
    """Refuse layers that inner training would get silently wrong: dropout and running statistics that are not carried.

    Those of a learner have been replaced by `limbeck.models.stateful` or are replayed; those of a generator are not.

    Raises:
        LimbeckError: with the path of the first such layer and how to replace it.
    """
    replayed = any(isinstance(layer, Replayed) for layer in module.modules())
    for path, layer in module.named_modules():
        if isinstance(layer, Carrying) or "forward" in vars(layer):  # that may do anything
            continue
        where = f"The {kind}'s layer '{path or '(itself)'}' ({type(layer).__name__})"
        if layer.training and _dropout(layer) > 0 and not replayed:
            raise LimbeckError(
                f"{where} drops activations at random, so a training step would not be the same when it is replayed "
                "for its gradient; set its dropout to p=0 or leave it out."
            )
        statistics = isinstance(layer, _NormBase) and layer.track_running_stats and layer.training
        if isinstance(layer, nn.SyncBatchNorm) or (statistics and not replayed):
            raise LimbeckError(
                f"{where} keeps running statistics that inner training cannot carry; use nn.BatchNorm1d, 2d or 3d in "
                "training mode, track_running_stats=False, or nn.GroupNorm instead."
            )


def _dropout(layer: nn.Module) -> float:
    if isinstance(layer, _DropoutNd):
        return float(layer.p)
    if isinstance(layer, nn.RNNBase):
        return float(layer.dropout)
    return 0.0


def _dry_run(
    module: nn.Module,
    x_NCHW: Tensor,
    *,
    seed: int,
    weights: dict[str, Tensor] | None = None,
    used: set[str] | None = None,
) -> tuple[Any, dict[str, Tensor]]:
    """Logits for `x_NCHW` and the buffers afterwards, all on copies of the module's tensors and of the images.

    What it draws by other means than torch's operators goes to ``used``.
    """
    buffers = dict(module.named_buffers())
    own = dict(module.named_parameters()) | buffers | (weights or {})
    tensors = {name: _float32(value) for name, value in own.items()}
    with own_state(seed), torch.no_grad(), _watching(set() if used is None else used):
        try:
            output = call_with(module, tensors, (x_NCHW.clone(),))
        except (Exception, SystemExit) as error:
            raise LimbeckError(
                f"The learner fails on images of shape {tuple(x_NCHW.shape[1:])} (channels, height, width): "
                f"{describe_error(error)}."
            ) from error
    return logits_of(output), {name: tensors[name] for name in buffers}


def _float32(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.float() if copy.is_floating_point() else copy


def describe_error(error: BaseException) -> str:
    """An exception as a part of a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
