"""Tensors from a file or from NumPy lie where torch would have put them, or "bit for bit" holds on some machines only.

Vectorised kernels may round otherwise at an address that is not aligned as torch's allocator aligns.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open
from tiny_runs import same_tensors, tiny_config, tiny_data
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from limbeck.artefact.distilled import Distilled
from limbeck.common.files import load_tensors, read_tensors, write_tensors
from limbeck.data import TaskData, load
from limbeck.models import load_pool, save_pool
from limbeck.outer.checkpoint import Checkpoint
from limbeck.outer.loop import distill
from limbeck.theory.regressions import make_regression

ALIGNMENT = 64


def at_odd_address(values: npt.ArrayLike, dtype: type = np.float32) -> npt.NDArray[np.float32]:
    """The same array four bytes past a multiple of 64."""
    array = np.asarray(values, dtype)
    raw = np.empty(array.nbytes + 2 * ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT + 4
    placed = raw[start : start + array.nbytes].view(dtype).reshape(array.shape)
    placed[...] = array
    assert placed.ctypes.data % ALIGNMENT == 4
    return placed


def aligned(*tensors: Tensor) -> bool:
    return all(value.data_ptr() % ALIGNMENT == 0 for value in tensors)


def parts(data: TaskData) -> list[Tensor]:
    return [data.train_x, data.train_y, data.val_x, data.val_y, data.test_x, data.test_y]


def safetensors_file(path: Path) -> Path:
    """Six tensors of odd sizes: wherever the first lies, others do not lie at multiples of 64."""
    write_tensors(path, {f"t{size}": torch.randn(size) for size in (1, 3, 5, 7, 9, 11)}, {"n": 6})
    return path


def test_torch_aligns_what_it_allocates() -> None:
    assert aligned(*(torch.empty(size) for size in range(1, 200)))
    assert not aligned(torch.from_numpy(at_odd_address([1.0, 2.0])))


def test_the_format_itself_hands_out_what_is_not_aligned(tmp_path: Path) -> None:
    with safe_open(str(safetensors_file(tmp_path / "x.safetensors")), framework="pt") as file:
        assert not aligned(*(file.get_tensor(name) for name in file.keys()))  # noqa: SIM118


def test_tensors_from_a_file(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "x.safetensors")
    tensors, strings = load_tensors(path)
    again, metadata = read_tensors(path)
    assert aligned(*tensors.values(), *again.values()) and same_tensors(tensors, again)
    assert metadata == {"n": 6} and "limbeck" in strings


def test_artefacts_and_checkpoints(tmp_path: Path) -> None:
    run_in_memory = distill(tiny_config(init="fixed", learner="mlp,hidden=(5,)"), tiny_data(), out=tmp_path / "run")
    read = Distilled.load(tmp_path / "run")
    for run in (run_in_memory, read):
        assert aligned(run.images, run.labels, run.order, *run.hyperparameters.values(), *run.weights.values())
    checkpoint = Checkpoint.load(tmp_path / "run")
    for state in (checkpoint.current, checkpoint.good, checkpoint.best, checkpoint.generators):
        assert aligned(*state.values())
    for one, other in zip(run_in_memory.train().parameters(), read.train().parameters(), strict=True):
        assert torch.equal(one, other)


def test_pools(tmp_path: Path) -> None:
    module = nn.Linear(3, 5)
    states = {name: torch.randn(3, *p.shape) for name, p in module.named_parameters()}
    save_pool(tmp_path / "p.safetensors", states, {})
    read, _ = load_pool(tmp_path / "p.safetensors")
    assert aligned(*read.values()) and same_tensors(states, read)


@pytest.mark.parametrize("form", ["arrays", "tensors", "data set", "file"])
def test_data(form: str, tmp_path: Path) -> None:
    x = at_odd_address(np.random.default_rng(0).normal(size=(45, 1, 5, 5)))
    y = at_odd_address(np.arange(45) % 3, np.int64)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    source = {"arrays": (x, y), "tensors": tensors, "data set": TensorDataset(*tensors), "file": tmp_path / "x.npz"}
    assert aligned(*parts(load(source[form], val_size=9)))


def test_tables() -> None:
    pytest.importorskip("sklearn")
    diabetes = make_regression("diabetes")
    assert aligned(diabetes.h_DD, diabetes.values_D, diabetes.vectors_DD, diabetes.best_DK)
