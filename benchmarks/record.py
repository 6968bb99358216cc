"""What every measurement records: the machine, the versions, the command, and rows; one JSON file a benchmark."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from limbeck.common.provenance import processor

RESULTS = Path(__file__).parent / "results"


def environment(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """The machine that a number was measured on; ``threads`` where the work was done in another process."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), "none")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "memory_gib": round(pages / 2**30, 1),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "limbeck": version("limbeck"),
        "compiler": compiler,
    }


def write(
    name: str,
    *,
    title: str,
    order: float,
    command: str,
    columns: list[str],
    rows: list[dict[str, Any]],
    notes: list[str],
    threads: int | None = None,
) -> Path:
    """Write ``results/NAME.json``."""
    values = {
        "title": title,
        "order": order,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "environment": environment(threads=threads),
        "columns": columns,
        "rows": rows,
        "notes": notes,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return path
