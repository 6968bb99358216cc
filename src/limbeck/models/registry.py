"""Learners by name, and the checks that refuse a learner which would train silently wrong."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from limbeck.common.naming import read_options, split_words
from limbeck.common.registry import Registry
from limbeck.common.seeds import own_state
from limbeck.engine import call_with
from limbeck.errors import LimbeckError, unknown
from limbeck.models.cells import CellNet
from limbeck.models.checks import check, describe_error, refuse_blind, refuse_unsupported
from limbeck.models.generators import ConvGenerator
from limbeck.models.nasbench201 import NasBench201
from limbeck.models.nets import MLP, AlexCifarNet, ConvNet, LeNet, LinearClassifier, Shape, StridedNet
from limbeck.models.origin import Origin, origins, with_origin
from limbeck.models.prepare import prepare, settle
from limbeck.models.sequences import Conv1d, Gru, Rnn
from limbeck.models.zoo import ZOOS, found_elsewhere, zoo_function

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
    ("conv1d", Conv1d),
    ("rnn", Rnn),
    ("gru", Gru),
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
    settings = dict(options or {})
    if make is not None or ":" in name:
        origin = Origin(lambda: settle(_from_factory(name, shape, num_classes, settings, make), shape))
        module = with_origin(prepare(origin.make(0), shape), origin)
    else:
        with own_state(0):
            module = prepare(_from_registry(name, shape, num_classes, settings), shape)
    refuse_unsupported(module)
    check(module, shape, num_classes)
    if origins(module):
        refuse_blind(module, shape)
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
    with own_state(seed):
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
    inputs = (
        torch.randn(batch, latent, generator=rng, dtype=torch.float32),
        torch.full((batch, num_classes), 1 / num_classes, dtype=torch.float32),
    )
    tried = []
    for other in (1, 2):
        buffers = {key: value.clone() for key, value in module.named_buffers()}
        with torch.no_grad(), own_state(other):
            try:
                tried.append(call_with(module, buffers, inputs))
            except (Exception, SystemExit) as error:
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
        except (Exception, SystemExit) as error:
            raise LimbeckError(
                f"The generator '{name}' failed when called with shape={shape}, num_classes={num_classes} and "
                f"latent={latent}: {describe_error(error)}."
            ) from error
    if not isinstance(module, nn.Module):
        raise LimbeckError(
            f"The generator '{name}' returned {type(module).__name__}; it must return a torch.nn.Module."
        )
    return module


def learner_options(name: str) -> tuple[str, dict[str, Any]]:
    """`NAME,option=value,...` in parts; values are Python literals, or strings where they are none.

    Raises:
        LimbeckError: an option without a value, or twice.
    """
    name, *words = split_words(name)
    return name, read_options(name, words, "learner")


def _from_registry(name: str, shape: Shape, num_classes: int, options: dict[str, Any]) -> nn.Module:
    if name not in LEARNERS.names and (elsewhere := found_elsewhere(name)):
        raise LimbeckError(
            f"Unknown learner '{name}'; did you mean {elsewhere}? Known: {', '.join(sorted(LEARNERS.names))}."
        )
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
            module = _call(function, arguments, optional=arguments.keys() - options.keys())
        except LimbeckError:
            raise
        except (Exception, SystemExit) as error:
            called = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise LimbeckError(
                f"The learner '{name}' failed when called with ({called}): {describe_error(error)}."
            ) from error
    if not isinstance(module, nn.Module):
        raise LimbeckError(f"The learner '{name}' returned {type(module).__name__}; it must return a torch.nn.Module.")
    return module


def _call(function: Callable[..., Any], arguments: dict[str, Any], optional: Collection[str]) -> Any:
    """The function's result, without those optional arguments that what it passes them on to does not know."""
    try:
        return function(**arguments)
    except TypeError as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if refused is None or refused[1] not in optional or refused[1] not in arguments:
            raise
    rest = {key: value for key, value in arguments.items() if key != refused[1]}
    return _call(function, rest, optional)


def load_function(name: str, kind: str = "learner") -> Callable[..., Any]:
    """The callable that `package.module:function` names; `kind` is what it makes, in an error.

    Raises:
        LimbeckError: it cannot be imported, is not there or is no function.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        dotted = ".".join(Path(module_name).with_suffix("").parts)
        raise LimbeckError(f"'{name}' names a file; write the module that it is: {dotted}:{attribute}.")
    if kind == "learner" and module_name in ZOOS and attribute:
        return zoo_function(module_name, attribute)
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
