"""Learners by name, and the checks that refuse a learner which would train silently wrong."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from limbeck.common.naming import read_options, split_words
from limbeck.common.registry import Registry
from limbeck.engine import carried_names
from limbeck.errors import LimbeckError, unknown
from limbeck.models.cells import CellNet
from limbeck.models.generators import ConvGenerator
from limbeck.models.nasbench201 import NasBench201
from limbeck.models.nets import MLP, AlexCifarNet, ConvNet, LeNet, LinearClassifier, Shape, StridedNet
from limbeck.models.stateful import with_carried_state

LEARNERS: Final[Registry[Callable[..., nn.Module]]] = Registry(
    "learner",
    ("lenet", LeNet),
    ("alexcifarnet", AlexCifarNet),
    ("convnet3", ConvNet),
    ("stridednet", StridedNet),
    ("mlp", MLP),
    ("linear", LinearClassifier),
    ("cellnet", CellNet),
    ("nasbench201", NasBench201),
)
"""The learners by name; another one is a file of this package and a line here."""


def known_names() -> tuple[str, ...]:
    """Names that `build` knows besides `package.module:function`."""
    return LEARNERS.names


def build(
    name: str,
    *,
    shape: tuple[int, int, int],
    num_classes: int,
    make: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The learner of that name for images of `shape` (C, H, W) and `num_classes` logits, checked by `check`.

    `name` is one of `known_names()` or `package.module:function`, imported with the current working directory on the
    path. The function is called with those of the keyword arguments `shape`, `num_classes`, `in_channels` and
    `image_size` (height in pixels; square images only) that it accepts, and must return an `nn.Module`. Options of the
    learner may follow: `convnet3,width=32,depth=2,norm=batch`. With `make`, that is called in place of what the name
    stands for, with these `options`, and the name is only what an error calls it.

    The global random state is left alone, and the weights the module is born with are always the same.

    Raises:
        LimbeckError: unknown name, a function that cannot be imported or called, or a learner that does not fit.
    """
    if make is None:
        name, options = learner_options(name)
    options = dict(options or {})
    with _own_rng(0):
        if make is not None or ":" in name:
            module = _from_factory(name, shape, num_classes, options, make)
        else:
            module = _from_registry(name, shape, num_classes, options)
    _refuse_lazy(module)
    module = with_carried_state(module)
    refuse_unsupported(module)
    check(module, shape, num_classes)
    return module


def build_generator(
    name: str,
    *,
    shape: tuple[int, int, int],
    num_classes: int,
    batch: int,
    latent: int,
    hidden: int,
    width: int,
    scale: float,
    seed: int,
) -> nn.Module:
    """The generator of that name, with the weights that `seed` gives it; the global random state is left alone.

    `name` is "conv" or `package.module:function`; the function is called with the keyword arguments `shape` (C, H, W),
    `num_classes` and `latent`, and returns a module from noise (M, latent) and label distributions (M, num_classes) to
    images (M, C, H, W). It is tried on a batch of `batch`.

    Raises:
        LimbeckError: unknown name, a function that cannot be imported or called, or a module that does not fit or is
            not a function of its inputs: it draws random numbers or updates buffers.
    """
    with _own_rng(seed):
        if ":" in name:
            module = _own_generator(name, shape, num_classes, latent)
        elif name == "conv":
            module = ConvGenerator(shape, num_classes, latent, hidden=hidden, width=width, scale=scale)
        else:
            raise unknown("generator", name, ["conv", "package.module:function"])
    refuse_unsupported(module, "generator")
    if not any(True for _ in module.parameters()):
        raise LimbeckError(f"The generator '{name}' has no parameter to learn.")
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, latent, generator=rng), torch.full((batch, num_classes), 1 / num_classes)
    tried = []
    for other in (1, 2):
        buffers = {key: value.clone() for key, value in module.named_buffers()}
        with torch.no_grad(), _own_rng(other):
            try:
                tried.append(functional_call(module, buffers, inputs))
            except Exception as error:
                raise LimbeckError(
                    f"The generator '{name}' fails on noise ({batch}, {latent}) and labels ({batch}, {num_classes}): "
                    f"{describe_error(error)}."
                ) from error
        if not all(torch.equal(buffers[key], value) for key, value in module.named_buffers()):
            raise LimbeckError(f"The generator '{name}' updates a buffer; it must be a function of noise and labels.")
    images = tried[0]
    wanted = (batch, *shape)
    if not isinstance(images, Tensor) or images.shape != wanted:
        output = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise LimbeckError(f"The generator '{name}' gives {output} for {batch} images; the data needs {wanted}.")
    if not images.isfinite().all():
        raise LimbeckError(f"The generator '{name}' gives pixels that are not finite numbers.")
    if not torch.equal(*tried):
        raise LimbeckError(
            f"The generator '{name}' draws random numbers, so a batch would not be the same when it is made again for "
            "its gradient; let all noise come in as z."
        )
    return module


def _own_generator(name: str, shape: Shape, num_classes: int, latent: int) -> nn.Module:
    with cwd_on_path():
        function = load_function(name, "generator")
        try:
            module = function(shape=shape, num_classes=num_classes, latent=latent)
        except LimbeckError:
            raise
        except Exception as error:
            raise LimbeckError(
                f"The generator '{name}' failed when called with shape={shape}, num_classes={num_classes} and "
                f"latent={latent}: {describe_error(error)}."
            ) from error
    if not isinstance(module, nn.Module):
        raise LimbeckError(
            f"The generator '{name}' returned {type(module).__name__}; it must return a torch.nn.Module."
        )
    return module


def check(module: nn.Module, shape: tuple[int, int, int], num_classes: int) -> None:
    """Run two images through `module` in float32, in training; neither it nor the global random state is changed.

    Raises:
        LimbeckError: the module has nothing to train or fails on such images, its output is not (2, num_classes), or
            its forward pass draws random numbers or updates buffers, which inner training could not differentiate.
    """
    _refuse_lazy(module)
    tensors = [*module.parameters(), *module.buffers()]
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise LimbeckError("The learner has no parameter to train; give it at least one with requires_grad=True.")
    generator = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(2, *shape, generator=generator).to(tensors[0].device)
    logits, buffers = _dry_run(module, x_NCHW, seed=1)
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
    again, _ = _dry_run(module, x_NCHW, seed=2)
    if not torch.equal(logits, again) and not (logits.isnan().any() or again.isnan().any()):
        raise LimbeckError(
            "The learner gives two different outputs for the same images, so its forward pass draws random numbers; "
            "turn dropout and noise off (p=0)."
        )


def _refuse_lazy(module: nn.Module) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors) or any(isinstance(m, LazyModuleMixin) for m in module.modules()):
        raise LimbeckError("The learner has lazy layers without shapes; run one batch through it before returning it.")


def refuse_unsupported(module: nn.Module, kind: str = "learner") -> None:
    """Refuse layers that inner training would get silently wrong: dropout and running statistics that are not carried.

    Those of a learner have been replaced by `limbeck.models.stateful`; dropout inside recurrent and attention layers
    has not, nor has any of a generator.

    Raises:
        LimbeckError: with the path of the first such layer and how to replace it.
    """
    for path, layer in module.named_modules():
        where = f"The {kind}'s layer '{path or '(itself)'}' ({type(layer).__name__})"
        if layer.training and _dropout(layer) > 0:
            raise LimbeckError(
                f"{where} drops activations at random, so a training step would not be the same when it is replayed "
                "for its gradient; set its dropout to p=0 or leave it out."
            )
        if isinstance(layer, nn.SyncBatchNorm) or (isinstance(layer, _NormBase) and layer.track_running_stats):
            raise LimbeckError(
                f"{where} keeps running statistics that inner training cannot carry; use nn.BatchNorm1d, 2d or 3d in "
                "training mode, track_running_stats=False, or nn.GroupNorm instead."
            )


def _dropout(layer: nn.Module) -> float:
    if isinstance(layer, _DropoutNd):
        return float(layer.p)
    if isinstance(layer, (nn.RNNBase, nn.MultiheadAttention)):
        return float(layer.dropout)
    return 0.0


def _dry_run(module: nn.Module, x_NCHW: Tensor, *, seed: int) -> tuple[Any, dict[str, Tensor]]:
    """Output for `x_NCHW` and the buffers afterwards, all on copies of the module's tensors."""
    parameters = {name: _float32(p) for name, p in module.named_parameters()}
    buffers = {name: _float32(b) for name, b in module.named_buffers()}
    with _own_rng(seed), torch.no_grad():
        try:
            output = functional_call(module, (parameters, buffers), (x_NCHW,))
        except Exception as error:
            raise LimbeckError(
                f"The learner fails on images of shape {tuple(x_NCHW.shape[1:])} (channels, height, width): "
                f"{describe_error(error)}."
            ) from error
    return output, buffers


def _float32(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.float() if copy.is_floating_point() else copy


def learner_options(name: str) -> tuple[str, dict[str, Any]]:
    """`NAME,option=value,...` in parts; values are Python literals, or strings where they are none.

    Raises:
        LimbeckError: an option without a value, or twice.
    """
    name, *words = split_words(name)
    return name, read_options(name, words, "learner")


def _from_registry(name: str, shape: Shape, num_classes: int, options: dict[str, Any]) -> nn.Module:
    make = LEARNERS[name]
    known = [key for key in inspect.signature(make).parameters if key not in ("shape", "num_classes")]
    for key in options:
        if key not in known:
            raise unknown(f"option of the learner '{name}'", key, known)
    try:
        return make(shape, num_classes, **options)
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise LimbeckError(f"The learner '{name}' cannot be made with {given}: {describe_error(error)}.") from error


def _from_factory(
    name: str, shape: Shape, num_classes: int, options: dict[str, Any], make: Callable[..., Any] | None = None
) -> nn.Module:
    with cwd_on_path():  # while the function runs, too: it may import its neighbours late
        function = load_function(name) if make is None else make
        arguments = _arguments(name, function, shape, num_classes, options)
        try:
            module = function(**arguments)
        except LimbeckError:
            raise
        except Exception as error:
            called = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise LimbeckError(
                f"The learner '{name}' failed when called with ({called}): {describe_error(error)}."
            ) from error
    if not isinstance(module, nn.Module):
        raise LimbeckError(f"The learner '{name}' returned {type(module).__name__}; it must return a torch.nn.Module.")
    return module


def load_function(name: str, kind: str = "learner") -> Callable[..., Any]:
    """The callable that `package.module:function` names; `kind` is what it makes, in an error.

    Raises:
        LimbeckError: it cannot be imported, is not there or is no function.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise LimbeckError(f"'{name}' is not a {kind}; write it as package.module:function.")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise LimbeckError(
            f"The {kind} '{name}' cannot be loaded, because importing '{module_name}' failed: {describe_error(error)}. "
            "It is looked for in the current directory and the installed packages."
        ) from error
    try:
        function = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown(f"function of '{module_name}'", attribute, public) from None
    if not callable(function):
        raise LimbeckError(f"'{name}' is {type(function).__name__}, not a function that makes a {kind}.")
    return function


def _arguments(
    name: str, function: Callable[..., Any], shape: Shape, num_classes: int, options: dict[str, Any]
) -> dict[str, Any]:
    """The options, and those of our keyword arguments that `function` accepts."""
    offered: dict[str, Any] = {"shape": shape, "num_classes": num_classes, "in_channels": shape[0]}
    if shape[1] == shape[2]:
        offered["image_size"] = shape[1]
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some builtins have no signature
        return {"shape": shape, "num_classes": num_classes, **options}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return offered | options
    by_name = {key for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    required = [
        key for key, p in parameters.items() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    for key in options:
        if key not in by_name:
            raise unknown(f"option of the learner '{name}'", key, sorted(by_name - offered.keys()))
    missing = [key for key in required if key not in by_name or key not in offered | options]
    if missing:
        raise LimbeckError(
            f"The learner '{name}' asks for {', '.join(missing)}; it is given only the keyword arguments "
            f"{', '.join(offered)}, so give the others a default."
        )
    return {key: value for key, value in offered.items() if key in by_name} | options


def describe_error(error: BaseException) -> str:
    """An exception as a part of a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def cwd_on_path() -> Iterator[None]:
    """With modules in the current working directory importable."""
    entry = os.getcwd()
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


@contextmanager
def _own_rng(seed: int) -> Iterator[None]:
    """The processor's global random state, seeded inside and restored after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
