"""How to differentiate through T inner steps: an object with its own settings, never an ``if`` in the loop."""

from __future__ import annotations

from typing import Final

from limbeck.common.registry import Registry
from limbeck.engine.adjoint.base import Adjoint, MetaGradient, RealBatch
from limbeck.engine.adjoint.remat import Remat
from limbeck.engine.adjoint.unroll import Unroll

ADJOINTS: Final[Registry[type[Adjoint]]] = Registry("adjoint", ("remat", Remat), ("unroll", Unroll))
"""The adjoints by name; another one is a file and a line here."""

__all__ = ["ADJOINTS", "Adjoint", "MetaGradient", "RealBatch", "Remat", "Unroll"]
