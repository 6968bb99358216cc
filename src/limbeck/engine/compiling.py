"""``torch.compile`` that never ends a run: what cannot be compiled is computed as it is, with a warning."""

from __future__ import annotations

import contextlib
import re
import subprocess
import warnings
from collections.abc import Callable
from typing import Any, final

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@final
class Compiled:
    """A function compiled at its first call, or the function itself where torch cannot compile it.

    A module of the user's may hold what the compiler does not know; and forward mode fails in compiled code on a linear
    layer whose input differs from init to init without depending on the parameters, as augmented images may.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        # All kernels share the code of vmap's wrapper, and torch counts compilations per code: without this the
        # ninth kernel in a process (another learner, another batch size) would be refused.
        dynamo = torch._dynamo.config
        dynamo.recompile_limit = max(dynamo.recompile_limit, 1000)
        dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 1000)
        self._plain = function
        self._function: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *args: Any) -> Any:
        try:
            return self._function(*args)
        except torch._dynamo.exc.TorchDynamoException as error:
            if self._function is self._plain:
                raise
            if was_killed(error):  # once more: a network that torch cannot compile fails otherwise
                with contextlib.suppress(torch._dynamo.exc.TorchDynamoException):
                    return self._function(*args)
            reason = str(error).splitlines()[0]
            warnings.warn(f"torch cannot compile this network ({reason}); it is run uncompiled, slower.", stacklevel=2)
            self._function = self._plain
            FakeTensorMode.cache_clear()  # what the failed attempt left there makes the next compilation fail, too
        return self._function(*args)


def was_killed(error: BaseException | None) -> bool:
    """Whether the compiler was ended by a signal, such as the Ctrl-C that asks a run to stop after its iteration."""
    while error is not None:
        if isinstance(error, subprocess.CalledProcessError) and error.returncode < 0:
            return True
        if re.search(r"signal terminated program|Interrupt|Terminated|Killed", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
