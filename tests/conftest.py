"""Settings of every test: one thread, no deadlines, and the one warning of torch itself that is let through."""

from __future__ import annotations

import os
import tempfile

import hypothesis
import pytest

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # the suite has a process for each core already
# Torch keeps generated code under a key that does not tell the processor's vectors: made for AVX-512 and compiled for
# AVX2 it leaves half of each block unwritten. So each has a folder of its own.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR",
    f"{tempfile.gettempdir()}/limbeck-{os.getuid()}-{os.environ.get('ATEN_CPU_CAPABILITY', 'native')}",
)

import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("limbeck", deadline=None)  # a busy machine is not a wrong program
hypothesis.settings.load_profile("limbeck")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Torch 2.13 warns about its own use of torch.jit.script at the first forward-mode derivative of a process."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"))
