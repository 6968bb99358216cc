"""Whether kernels can be compiled here, and where compiled ones are kept."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from pathlib import Path
from typing import Final

import torch
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from limbeck.common.files import own_cache
from limbeck.common.provenance import processor

TRIAL_SECONDS: Final = 20
"""How long the compiler may take for one trivial function."""

TRIAL: Final = """\
#include <Python.h>
#include <cmath>
extern "C" float limbeck_trial(float x) { return std::sqrt(x); }
"""
"""What torch generates for a processor includes both headers."""


def use_compile_cache() -> None:
    """Keep compiled kernels under the user's cache, so that the next run starts from them.

    A user's own TORCHINDUCTOR_CACHE_DIR stays. What torch has set there itself, which is lost when the machine starts
    anew, does not; nor does anything change for a user without a home.
    """
    cache, variable = own_cache(), "TORCHINDUCTOR_CACHE_DIR"
    if cache is not None and os.environ.get(variable) in (None, os.path.abspath(default_cache_dir())):
        folder = cache / "compiled" / _machine()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        if os.access(folder, os.W_OK):
            os.environ[variable] = str(folder)


def _machine() -> str:
    """A name for what compiled code is made for: a home may be shared by machines whose processors differ."""
    text = f"{processor()} {torch.backends.cpu.get_cpu_capability()} {torch.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def compiler_missing(device: str) -> str | None:
    """What compiling lacks on this kind of device, or None; whether the compiler works is not tried."""
    if device == "cpu":
        if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
            return "a processor with vector instructions (ATEN_CPU_CAPABILITY=default turns them off)"
        return None if _compiler() else "a C++ compiler (g++ or clang++)"
    try:
        import triton  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return "the triton package"
    return None


def compiler_broken(device: str) -> str | None:
    """Why the compiler that is there does not compile a trivial function, or None; tried once in a process.

    The first answer that is no None is also a warning.
    """
    compiler = _compiler()
    return None if device != "cpu" or compiler is None else _try(compiler)


def _compiler() -> str | None:
    """The compiler that torch would run on a processor: CXX, else a usual one."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


@functools.cache
def _try(compiler: str) -> str | None:
    if sys.platform == "win32":
        return None  # its compiler has options of its own
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "trial.cpp", Path(folder) / "trial.so"
        source.write_text(TRIAL)
        include = sysconfig.get_paths()["include"]
        command = [compiler, "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(library)]
        command += ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        reason = _run(command)
        if reason is None and not library.is_file():
            reason = "it writes no file"
    if reason is not None:
        reason = f"{compiler} does not compile a trivial function: {reason}"
        warnings.warn(f"{reason}. Kernels are run uncompiled, slower.", stacklevel=4)
    return reason


def _run(command: list[str]) -> str | None:
    """Run a command with a limit of time; what went wrong, or None."""
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                _, text = process.communicate(timeout=TRIAL_SECONDS)
            except subprocess.TimeoutExpired:
                _end_group(process)
                return f"it does not end within {TRIAL_SECONDS} s"
    except OSError as error:
        return error.strerror or str(error)
    if process.returncode == 0:
        return None
    said = next((line.strip() for line in text.splitlines() if "error" in line), text.strip().split("\n")[0])
    return f"exit status {process.returncode}" + (f" ({said.rstrip('.')})" if said else "")


def _end_group(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started, which would hold its pipe open."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (OSError, AttributeError):
        process.kill()
