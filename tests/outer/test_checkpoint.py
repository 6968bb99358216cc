"""The exact state on disk: complete or not there, whatever kills the process."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_runs import same_tensors, tiny_config

import limbeck.common.files
from limbeck.common.files import read_json, read_tensors, write_atomically, write_json, write_tensors
from limbeck.common.seeds import generator
from limbeck.engine import Execution
from limbeck.errors import LimbeckError
from limbeck.experiment.progress import Progress
from limbeck.outer.checkpoint import Checkpoint


def checkpoint(iteration: int, size: int = 7) -> Checkpoint:
    """Its tensors say its iteration."""
    state = {"param.images": torch.full((size,), float(iteration)), "adam.step.images": torch.tensor(float(iteration))}
    return Checkpoint(
        progress=Progress(iteration=iteration, smooth_loss=0.1 + 0.2, elapsed=1 / 3, best=100 / 7),
        current=dict(state),
        good=state,
        best=state,  # the same tensors twice, as in the first checkpoint of a run
        generators={"inits": generator(iteration, "inits").get_state()},
        config=tiny_config().to_json(),
        execution=asdict(Execution()),
        data_sha256="abc",
        threads=1,
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    saved = checkpoint(5)
    saved.current["odd"] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    saved.save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded.progress == saved.progress
    assert loaded.config == saved.config
    assert loaded.execution == saved.execution
    bits = [one.current.pop("odd").view(torch.int32) for one in (saved, loaded)]
    assert torch.equal(*bits)
    for part in ("current", "good", "best", "generators"):
        assert same_tensors(getattr(loaded, part), getattr(saved, part))


def test_the_generators_go_on_where_they_were(tmp_path: Path) -> None:
    going = generator(1, "data")
    torch.rand(5, generator=going)
    state = checkpoint(1)
    state.generators["data"] = going.get_state()
    state.save(tmp_path)
    expected = torch.randn(9, generator=going)
    resumed = torch.Generator()
    resumed.set_state(Checkpoint.load(tmp_path).generators["data"])
    assert torch.equal(torch.randn(9, generator=resumed), expected)


def test_streams_are_different_and_repeatable() -> None:
    draws = {
        (seed, name): tuple(torch.rand(4, generator=generator(seed, name)).tolist())
        for seed in range(3)
        for name in ("inits", "data", "start")
    }
    assert len(set(draws.values())) == 9
    assert draws[1, "data"] == tuple(torch.rand(4, generator=generator(1, "data")).tolist())
    assert all(generator(seed, "data").initial_seed() < 2**31 for seed in range(50))


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoint(1).save(tmp_path)
    path = tmp_path / "checkpoint" / "state.safetensors"
    whole = path.read_bytes()
    for length in (0, 4, 8, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LimbeckError, match="damaged"):
            Checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"limbeck": "{"},
        {"limbeck": "[]"},
        {"limbeck": json.dumps({"progress": {}})},
        {"limbeck": json.dumps({"progress": {"iterations": 1}, "config": {}, "execution": {}})},
        {"limbeck": json.dumps({"progress": None, "config": {}, "execution": {}})},
    ],
)
def test_a_checkpoint_of_something_else_is_named(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    (tmp_path / "checkpoint").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "checkpoint" / "state.safetensors", metadata=metadata)
    with pytest.raises(LimbeckError, match="damaged"):
        Checkpoint.load(tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match="no checkpoint"):
        Checkpoint.load(tmp_path)
    with pytest.raises(LimbeckError, match="does not exist"):
        read_tensors(tmp_path / "none")
    with pytest.raises(LimbeckError, match="does not exist"):
        read_json(tmp_path / "none")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    with pytest.raises(LimbeckError, match="damaged"):
        read_json(tmp_path / "bad.json")


# --- failing writes --------------------------------------------------------------------------------------------------


def half(path: Path, blob: bytes) -> None:
    path.write_bytes(blob[: len(blob) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(1).save(tmp_path)
    before = (tmp_path / "checkpoint" / "state.safetensors").read_bytes()
    monkeypatch.setattr(limbeck.common.files, "write_bytes", half)
    with pytest.raises(LimbeckError, match=r"Could not write .*No space left on device.*resume=True"):
        checkpoint(2).save(tmp_path)
    assert (tmp_path / "checkpoint" / "state.safetensors").read_bytes() == before
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's always full device")
def test_a_really_full_device(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("before")
    (tmp_path / ".state.part").symlink_to("/dev/full")
    with pytest.raises(LimbeckError, match="No space left"):
        write_tensors(path, {"x": torch.zeros(100_000)}, {})
    assert path.read_text() == "before"
    assert not (tmp_path / ".state.part").is_symlink()


def test_a_writer_that_raises_leaves_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def broken(part: Path) -> None:
        part.write_text("hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, broken)
    assert path.read_text() == "before"
    write_json(path, {"a": 1})  # what was left beside does not stop the next one
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text("mine")
    with pytest.raises(LimbeckError, match="Could not write"):
        checkpoint(1).save(tmp_path)
    assert (tmp_path / "checkpoint").read_text() == "mine"


def test_json_that_no_parser_reads_is_never_written(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"a": float("nan")})
    assert read_json(tmp_path / "file") == {"a": 1}


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
import torch
torch.set_num_threads(1)
from test_checkpoint import checkpoint
import limbeck.common.files as storage
from limbeck.outer.checkpoint import Checkpoint

folder = Path(sys.argv[1])
checkpoint(0, 300_000).save(folder)
last, random_ = 0, random.Random(0)


def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def dead(pid):
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def loads(at_least):
    state = Checkpoint.load(folder)
    values = {float(v) for part in (state.current, state.good, state.best) for v in part["param.images"].unique()}
    assert values == {float(state.progress.iteration)}, values
    assert state.progress.iteration >= at_least
    return state.progress.iteration


def forever():
    number = last
    while True:
        number += 1
        checkpoint(number, 300_000).save(folder)


for _ in range(12):  # wherever it happens to be
    pid = child(forever)
    time.sleep(random_.uniform(0.005, 0.08))
    os.kill(pid, signal.SIGKILL)
    dead(pid)
    last = loads(last)


def die_midway(path, blob):
    path.write_bytes(blob[: len(blob) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def midway():
    storage.write_bytes = die_midway
    checkpoint(10**6, 300_000).save(folder)


def before_rename():
    os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
    checkpoint(10**6, 300_000).save(folder)


for work in (midway, before_rename):
    dead(child(work))
    assert (folder / "checkpoint" / ".state.safetensors.part").exists()
    assert loads(last) == last
checkpoint(last + 1, 300_000).save(folder)
assert loads(last + 1) == last + 1
assert [path.name for path in (folder / "checkpoint").iterdir()] == ["state.safetensors"]
print("survived", last)
"""


@pytest.mark.skipif(not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_while_checkpointing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[1]) > 0  # it did write between the kills
