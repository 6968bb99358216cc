"""From the network that someone brings to one that can be trained step by step, as often as need be alike."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from limbeck.common.seeds import own_state
from limbeck.engine import Carrying, carried_names, copy_module, is_simple
from limbeck.models.replay import Replayed, random_calls
from limbeck.models.stateful import with_carried_state


def unwrap(module: nn.Module) -> nn.Module:
    """The network within ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``, in any order."""
    while True:
        inner = module.module if isinstance(module, DataParallel | DistributedDataParallel) else None
        inner = inner or getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def settle(module: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """The network itself, in float32 and in the plain memory format, its lazy layers with shapes from images (C, H, W).

    What its forward pass fails on is left to ``checks.check``.
    """
    module = unwrap(module)
    if any(isinstance(layer, LazyModuleMixin) for layer in module.modules()):
        with contextlib.suppress(Exception, SystemExit), torch.no_grad():
            module(_images(shape))
    elif any(p.is_floating_point() and p.dtype != torch.float32 for p in module.parameters()):
        module = module.float()
    for parameter in module.parameters():
        if not is_lazy(parameter) and parameter.ndim > 3:  # what comes out with channels last could not be viewed
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    for layer in list(module.modules()):
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            layer.sparse = False  # the same gradient, in a form that can be differentiated again
        if type(layer).train is not nn.Module.train:
            layer.train(layer.training)  # some keep parts in evaluation mode so
    return module


def prepare(module: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """A settled network in a form that can be trained step by step.

    Statistics and dropout are carried (``with_carried_state``); what else is drawn at random is replayed, and buffers
    that the forward pass assigns are carried (``replay.Replayed``).

    Raises:
        LimbeckError: as ``with_carried_state``.
    """
    module = with_carried_state(module)
    if is_simple(module):
        return module
    kept = any(
        isinstance(m, _NormBase) and m.training and m.track_running_stats and not isinstance(m, Carrying)
        for m in module.modules()
    )
    traced = random_calls()
    with contextlib.suppress(Exception, SystemExit), torch.no_grad(), own_state(0):
        tried = copy_module(module).cpu()
        before = dict(tried.named_buffers())
        versions = {name: buffer._version for name, buffer in before.items()}
        with traced:
            tried(_images(shape))
        # Assigned, or written in place: as spectral normalisation does, whose vectors are assigned when it is replayed.
        kept = kept or any(
            value is not before.get(name) or value._version != versions[name]
            for name, value in _own_buffers(tried).items()
        )
        with traced:  # some draw only then
            copy_module(module).cpu().eval()(_images(shape))
    if not kept and not traced.names and not traced.replaceable:
        return module
    replayed = Replayed(module)
    with contextlib.suppress(Exception, SystemExit):  # named by the checks that follow, too
        replayed.find_statistics(_images(shape))
    return replayed


def _own_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Floating-point buffers of layers whose state is not carried anyway."""
    carried = carried_names(module)
    return {name: b for name, b in module.named_buffers() if name not in carried and b.is_floating_point()}


def _images(shape: tuple[int, int, int]) -> Tensor:
    return torch.zeros(2, *shape, dtype=torch.float32)
