"""Settings of every test: one thread, and the one warning of torch itself that is let through."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Torch 2.13 warns about its own use of torch.jit.script at the first forward-mode derivative of a process."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"))
