"""Learners given in Python: a class, a function, a ``functools.partial`` or a network in place of a name."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

from limbeck.engine import copy_module
from limbeck.errors import LimbeckError
from limbeck.models.checks import describe_error
from limbeck.models.init import reset
from limbeck.models.origin import Origin, with_origin
from limbeck.models.prepare import settle
from limbeck.models.registry import build, cwd_on_path, learner_options

LearnerLike: TypeAlias = str | nn.Module | Callable[..., nn.Module]
"""A learner: its name, what makes it (a class or function), or a network, which is copied."""


def name_learner(learner: LearnerLike) -> str:
    """What a configuration calls a learner.

    A name is itself. A class or function is ``module:qualname`` where that name leads to it in another process, too,
    with the keyword arguments of a ``functools.partial`` as options; all else is ``<NAME given in Python>``.

    Raises:
        LimbeckError: neither a name, nor a network, nor anything that could make one.

    >>> name_learner(nn.Flatten)
    'torch.nn.modules.flatten:Flatten'
    >>> name_learner(functools.partial(nn.Flatten, start_dim=2))
    'torch.nn.modules.flatten:Flatten,start_dim=2'
    >>> name_learner(nn.Flatten())
    '<Flatten given in Python>'
    """
    if isinstance(learner, str):
        return learner
    if isinstance(learner, nn.Module):
        return _mark(type(learner).__name__)
    if not callable(learner):
        raise LimbeckError(
            f"The learner is {type(learner).__name__} ({learner!r:.60}); give a network (nn.Module), the class or "
            "function that makes it, or a name such as 'lenet' or 'package.module:function'."
        )
    function, options = _split_partial(learner)
    name = _importable_name(function)
    if name is not None:
        text = ",".join([name, *(f"{key}={value!r}" for key, value in options.items())])
        if _means(text, name, options):
            return text
    while isinstance(function, functools.partial):
        function = function.func
    return _mark(getattr(function, "__name__", type(function).__name__))


def is_given(name: str) -> bool:
    """Whether a name stands for something given in Python that no name leads to.

    >>> is_given("<MyNet given in Python>"), is_given("lenet")
    (True, False)
    """
    return given_word(name) is not None


def given_word(name: str) -> str | None:
    """``MyNet`` for ``<MyNet given in Python>``; None for other names."""
    match = re.fullmatch(r"<(.+) given in Python>", name)
    return None if match is None else match[1]


def refuse_given(name: str) -> None:
    """Raise LimbeckError for a name that stands for something given in Python: it leads nowhere."""
    word = given_word(name)
    if word is not None:
        raise LimbeckError(
            f"The learner is {name} and has no name to import it by: pass it (learner={word}), as in "
            f"limbeck.load(path, learner={word}), or name what makes it, learner='package.module:function'."
        )


def copy_learner(learner: LearnerLike) -> LearnerLike:
    """A network copied, so that what is done to it later changes nothing; all else as it is.

    Raises:
        LimbeckError: a network that cannot be copied.
    """
    if not isinstance(learner, nn.Module):
        return learner
    try:
        copied = copy_module(learner)
        if copied is learner:
            raise ValueError("its __deepcopy__ gives the network itself")
        return copied
    except Exception as error:
        raise LimbeckError(
            f"The learner {type(learner).__name__} cannot be copied ({describe_error(error)}); give its class or a "
            "function that makes it."
        ) from error


def build_learner(learner: LearnerLike, *, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network of a learner for images (C, H, W) and K logits, checked; see ``build`` for names.

    A class or function is called with those of ``shape``, ``num_classes``, ``in_channels`` and ``image_size`` that it
    takes, but for those that a ``functools.partial`` fixes. A network is copied, never changed.

    Raises:
        LimbeckError: as ``build``, and for a network that cannot be copied.
    """
    if isinstance(learner, str):
        refuse_given(learner)
        return build(learner, shape=shape, num_classes=num_classes)
    name = name_learner(learner)
    if isinstance(learner, nn.Module):
        module = build(name, shape=shape, num_classes=num_classes, make=lambda: copy_learner(learner))
        # There is no constructor to call again: layers draw their weights themselves, and the copy's own are never met.
        return with_origin(module, Origin(lambda: settle(reset(learner), shape)))
    function, options = _split_partial(learner)
    return build(name, shape=shape, num_classes=num_classes, make=function, options=options)


def _mark(word: str) -> str:
    return f"<{'function' if word == '<lambda>' else word} given in Python>"


def _split_partial(learner: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What is called, and the keyword arguments that are fixed."""
    if not isinstance(learner, functools.partial):
        return learner, {}
    return (functools.partial(learner.func, *learner.args) if learner.args else learner.func), dict(learner.keywords)


def _importable_name(function: Callable[..., Any]) -> str | None:
    """``module:qualname`` where that is this very object for whoever imports it; None elsewhere, as in a notebook."""
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not qualname or module in ("__main__", "builtins"):
        return None
    try:
        with cwd_on_path():
            found: object = functools.reduce(getattr, qualname.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return f"{module}:{qualname}" if found is function else None


def _means(text: str, name: str, options: dict[str, Any]) -> bool:
    """Whether a name with options is read as this name and these options."""
    try:
        return learner_options(text) == (name, options)
    except LimbeckError:
        return False
