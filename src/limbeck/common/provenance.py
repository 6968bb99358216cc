"""What a result depends on besides its configuration: versions, processor, threads."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def processor() -> str:
    """The processor's name, as the system reports it, such as "AMD EPYC 7B13"."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions(device: str) -> dict[str, Any]:
    """Versions of limbeck, torch and Python, the name of the device, and the number of torch's threads.

    Args:
        device: torch's name of it, such as "cpu" or "cuda:0".
    """
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()
    try:
        own = version("limbeck")
    except PackageNotFoundError:
        own = "unknown"  # run from its sources, without being installed
    return {
        "limbeck": own,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": name,
        "threads": torch.get_num_threads(),
    }
