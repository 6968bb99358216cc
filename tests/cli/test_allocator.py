"""The allocator's settings: they take effect where they can, and are refused quietly elsewhere."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli import allocator
from limbeck.cli.allocator import tune_allocator

GLIBC = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"

# The file alone, without the package: the settings hold for a process, and importing torch takes seconds.
SCRIPT = """
import importlib.util, json, sys

spec = importlib.util.spec_from_file_location("memory", sys.argv[1])
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))

done = memory.tune_allocator(lean=sys.argv[2] == "lean")
before = resident()
blocks = [bytearray(b"x") * (4 << 20) for _ in range(25)]
held = resident() - before
del blocks
print(json.dumps({"done": done, "held": held, "kept": resident() - before}))
"""


def measure(mode: str) -> dict[str, Any]:
    """What the setting returned, and the resident MiB above the start with 100 MiB allocated and after freeing them."""
    words = [sys.executable, "-c", SCRIPT, allocator.__file__, mode]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    values: dict[str, Any] = json.loads(done.stdout)
    return values


@pytest.mark.skipif(not GLIBC, reason="the settings are glibc's")
def test_lean_returns_what_is_freed_and_fast_keeps_it() -> None:
    lean, fast = measure("lean"), measure("fast")
    assert lean["done"] is True
    assert fast["done"] is True
    assert min(lean["held"], fast["held"]) > 90
    assert lean["kept"] < 10
    assert fast["kept"] > 80


@pytest.mark.parametrize("lean", [False, True])
def test_another_platform_is_left_alone(lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail(f"loaded {name}"))
    assert tune_allocator(lean) is False


class Without:
    """A C library that has no mallopt."""


class Refusing:
    """A C library whose mallopt takes no setting."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def mallopt(self, option: int, value: int) -> int:
        self.asked.append((option, value))
        return 0


def test_a_c_library_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")

    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert tune_allocator() is False
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Without())
    assert tune_allocator() is False
    library = Refusing()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert tune_allocator() is False
    assert library.asked


def test_importing_the_library_does_not_touch_the_allocator() -> None:
    """Only the command line may: a process that imports limbeck has an allocator of its own to look after."""
    sources = Path(allocator.__file__).parents[1]
    users = [path.name for path in sources.rglob("*.py") if "tune_allocator" in path.read_text()]
    assert sorted(users) == ["allocator.py", "shared.py"]
