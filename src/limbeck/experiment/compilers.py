"""Whether kernels can be compiled here, and where compiled ones and measurements are kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def cache_dir() -> Path:
    """Where measurements and compiled kernels are kept."""
    return Path("~/.cache/limbeck").expanduser()


def use_compile_cache() -> None:
    """Keep compiled kernels under the user's cache, so that the next run starts from them."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))


def compiler_missing(device: str) -> str | None:
    """What compiling lacks on this kind of device, or None."""
    if device == "cpu":
        if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
            return "a processor with vector instructions (ATEN_CPU_CAPABILITY=default turns them off)"
        names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"]
        return None if any(name and shutil.which(name) for name in names) else "a C++ compiler (g++ or clang++)"
    try:
        import triton  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return "the triton package"
    return None
