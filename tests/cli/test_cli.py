"""The command line: exit codes, one JSON object on stdout, one sentence for wrong input.

Verbs are called in this process; a process of its own is started only where that is what is tested.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import random_set, tiny_config

from limbeck.artefact.distilled import Distilled
from limbeck.cli.main import main
from limbeck.cli.main import run as run_in_process
from limbeck.experiment.parts import AttackConfig

TINY = ["--learner", "linear", "--steps", "2", "--epochs", "1", "--iterations", "4", "--inits", "2", "--compile", "off"]
TINY += ["--bfloat16", "off", "--validate-every", "2", "--validate-inits", "2", "--real-batch", "32"]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def limbeck(*words: str | Path) -> Done:
    """A command in this process, with streams that are no terminals."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_in_process([str(word) for word in words])
    return Done(code, out.getvalue(), err.getvalue())


def start(*words: str | Path, **streams: Any) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "limbeck.cli.main", *map(str, words)]
    return subprocess.Popen(command, text=True, env=environment, **streams)


@pytest.fixture(scope="module")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of three classes that a linear network can learn: 8 x 8 images, a bright row each."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = rng.integers(0, 60, (300, 8, 8), dtype=np.uint8)
    x[np.arange(300), 2 * y] += 150
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture(scope="module")
def finished(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "rows"
    done = limbeck("distill", data_file, *TINY, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return out


def test_distill_writes_the_run_directory(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    expected = {"distilled.safetensors", "distilled.json", "README.md", "preview.png", "metrics.jsonl", "checkpoint"}
    assert expected <= names
    assert not any(name.endswith(".part") for name in names)


def test_distill_json_is_one_object(data_file: Path, tmp_path: Path) -> None:
    done = limbeck("distill", data_file, *TINY, "--out", tmp_path / "run", "--json")
    values = json.loads(done.stdout)
    assert values["images"] == [2, 3, 1, 8, 8]
    assert values["finished"] is True
    assert "iteration 1" in done.stderr


def test_evaluate_json_has_the_learned_set_and_every_baseline(finished: Path) -> None:
    done = limbeck("evaluate", finished, "--n", "20", "--protocol", "learned", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["row"] for row in rows] == ["distilled", "random", "best-random", "kmeans", "average"]
    for row in rows:
        assert {"row", "paper", "before", "mean", "std", "n", "seconds", "device", "run"} <= set(row)
        assert row["n"] == 20
        assert 0 <= row["before"] <= 100
        assert len(row["per_class"]) == 3
        assert np.isclose(np.mean(row["per_class"]), row["mean"], atol=1.0)  # classes are balanced
    assert rows[3]["mean"] > rows[3]["before"] + 20  # k-means centroids teach this task


def test_evaluate_twice_gives_the_same(finished: Path) -> None:
    words = ["evaluate", finished, "--n", "2", "--epochs", "1", "--json", "--baselines", "random"]
    first, second = (json.loads(limbeck(*words).stdout) for _ in range(2))
    assert [(row["row"], row["protocol"]) for row in first["rows"]] == [
        ("distilled", "learned"), ("random", "learned"), ("distilled", "ordinary"), ("random", "ordinary"),
    ]  # fmt: skip
    for rows in (first["rows"], second["rows"]):
        for row in rows:
            row.pop("seconds")
    assert first == second


def test_show(finished: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = limbeck("show", finished, "--out", picture)
    assert done.returncode == 0, done.stderr
    assert "step sizes" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    values = json.loads(limbeck("show", finished, "--json").stdout)
    assert values["schema"] == 3
    assert values["training"]["kind"] == "learned-schedule" and len(values["training"]["hyperparameters.lr"]) == 2


def test_show_of_a_large_set_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    large = random_set(tiny_config(pixels={"steps": 40, "epochs": 3, "ipc": 20}), shape=(1, 28, 28))
    large.save(tmp_path / "large")
    lines = limbeck("show", tmp_path / "large").stdout.splitlines()
    assert len(lines) < 120
    names = [line.split() for line in lines if line.startswith(("cat", "dog", "owl"))]
    assert names[0] == ["cat", "dog", "owl", "cat", "dog"]  # of each class
    assert "20 of 2,400 images" in lines
    assert re.search(r"step sizes .* [\d.]+, [\d.]+, [\d.]+, …, [\d.]+ \(120 from [\d.]+ to [\d.]+\)", "\n".join(lines))
    small = random_set(tiny_config(pixels={"steps": 1, "epochs": 1, "ipc": 2}))
    small.save(tmp_path / "small")
    text = limbeck("show", tmp_path / "small").stdout
    assert text.split()[:6] == ["cat", "cat", "dog", "dog", "owl", "owl"]  # the whole batch, as it is
    assert " images\n" not in text and "attack" not in text


def test_show_says_that_a_run_is_an_attack(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config(), attack=AttackConfig(source=2, target=0))
    random_set(config).save(tmp_path / "attack")
    text = limbeck("show", tmp_path / "attack").stdout
    assert re.search(r"attack .* makes networks that train on it take owl for cat; ", text)


def test_the_run_directory_is_told_when_the_run_begins(data_file: Path, finished: Path, tmp_path: Path) -> None:
    done = limbeck("distill", data_file, *TINY, "--out", tmp_path / "run")
    assert done.stderr.count(f"run directory: {tmp_path / 'run'}\n") == 1
    refusals = ([data_file, *TINY, "--out", finished], ["mnits", "--out", tmp_path / "x"], ["--resume", tmp_path / "y"])
    for words in refusals:
        done = limbeck("distill", *words)
        assert done.returncode == 2
        assert "run directory:" not in done.stderr


def test_one_set_of_initial_weights_is_not_scored_often(data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "fixed"
    fixed = ["--init", "fixed", "--inits", "1", "--validate-inits", "16"]
    assert limbeck("distill", data_file, *TINY, *fixed, "--out", out).returncode == 0
    done = limbeck("evaluate", out, "--n", "3")
    assert done.returncode == 2
    assert "--n is 3, but a fixed initialisation is a single one" in done.stderr
    assert limbeck("evaluate", out, "--n", "1", "--baselines", "none").returncode == 0
    done = limbeck("evaluate", out, "--n", "3", "--baselines", "none", "--learners", "mlp", "--json")
    assert [row["n"] for row in json.loads(done.stdout)["rows"]] == [1, 3]  # other learners have others


@pytest.mark.filterwarnings("ignore:pictures of learned images")
def test_export(finished: Path, tmp_path: Path) -> None:
    run = Distilled.load(finished)
    done = limbeck("export", finished, "--out", tmp_path / "set.npz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 6
    arrays = np.load(tmp_path / "set.npz")
    assert np.array_equal(arrays["images"], run.images.numpy())
    assert np.allclose(
        run.preprocess(torch.from_numpy(arrays["pixels"]) / run.preprocessing.scale), run.images, atol=1e-4
    )
    assert np.array_equal(arrays["hyperparameters.lr"], run.learning_rates.numpy())
    assert arrays["order"].tolist() == run.order.tolist()
    again = limbeck("export", finished, "--out", tmp_path / "set.npz")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert limbeck("export", finished, "--out", tmp_path / "pictures").returncode == 0
    pictures = sorted(path.relative_to(tmp_path / "pictures").as_posix() for path in tmp_path.rglob("*.png"))
    assert pictures == [f"step-000{s}/00{m}-{m}.png" for s in (1, 2) for m in (0, 1, 2)]
    assert len(json.loads((tmp_path / "pictures" / "labels.json").read_text())["labels"]) == 2


def test_data_list_knows_mnist_without_a_network() -> None:
    rows = json.loads(limbeck("data", "list", "--json").stdout)["data"]
    mnist = next(row for row in rows if row["name"] == "mnist")
    assert mnist["n_train"] == 60_000
    assert {row["name"] for row in rows} == {"mnist", "fashion-mnist", "cifar10", "digits"}


def test_reproduce_prints_rows_in_the_common_form(tmp_path: Path) -> None:
    done = limbeck("reproduce", "mnist-fixed", "--iterations", "2", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert {"row", "paper", "before", "mean", "std", "n", "seconds", "device", "run"} <= set(row)
    assert (row["row"], row["n"], row["std"]) == ("mnist-fixed", 1, None)
    assert "93.76" in row["paper"]


def test_ctrl_c_keeps_the_work_and_resume_goes_on(data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(
        "distill",
        data_file,
        *TINY,
        "--iterations",
        "100000",
        "--out",
        out,
        "--json",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and "val_mean" not in _text(out / "metrics.jsonl"):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    values, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(values)["finished"] is False
    assert "--resume" in log
    stopped = json.loads((out / "distilled.json").read_text())
    assert stopped["finished"] is False
    assert stopped["iterations"] > 0
    seen = len(_text(out / "metrics.jsonl"))

    def interrupt() -> None:
        """Ctrl-C, once the run has gone on."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(_text(out / "metrics.jsonl")) <= seen:
            time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    assert limbeck("distill", "--resume", out).returncode == 130
    waiting.join()
    again = json.loads((out / "distilled.json").read_text())
    assert again["iterations"] > stopped["iterations"]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["distil"], "did you mean 'distill'"),
        (["distill", "mnits"], "did you mean 'mnist'"),
        (["distill", "mnist", "--recipe", "mnist-fix"], "did you mean 'mnist-fixed'"),
        (["distill", "mnist", "--learner", "lenett"], "did you mean 'lenet'"),
        (["distill", "mnist", "--learner", "no.such:thing"], "no.such"),
        (["distill", "mnist", "--ipc", "0"], "ipc is 0"),
        (["distill", "mnist", "--steps", "-1"], "steps is -1"),
        (["distill", "mnist", "--epochs", "0"], "epochs is 0"),
        (["distill", "mnist", "--lr", "0"], "positive"),
        (["distill", "mnist", "--init", "fixed", "--inits", "4"], "inits"),
        (["distill", "mnist", "--adjoint", "remta"], "did you mean 'remat'"),
        (["distill", "mnist", "--device", "warp"], "The device 'warp' cannot be used here"),
        (["distill"], "Name the data and a time: limbeck distill mnist --max-time 150"),
        (["distill", "data/mine"], "There is no file or folder data/mine"),
        (["distill", "mnist", "--learner", "my_nets.py:small"], "write the module that it is: my_nets:small"),
        (["distill", "mnist", "--learner", "nets/my_nets.py:small"], "nets.my_nets:small"),
        (["distill", "mnist", "--learner", "resnet18"], "'torchvision.models:resnet18'"),
        (["distill", "mnist", "--images-per-class", "0"], "ipc is 0"),
        (["distill", "mnist", "--images-per-class", "1000000"], "GiB of memory, and"),
        (["distill", "mnist", "--steps", "100000000"], "GiB of memory, and"),
        (["distill", "mnist", "--threads", "0"], "--threads"),
        (["distill", "--resume", "nowhere"], "no checkpoint"),
        (["evaluate", "nowhere"], "nowhere"),
        (["show", "nowhere"], "nowhere"),
        (["data", "get"], "needs the name"),
        (["data", "get", "mnits"], "did you mean 'mnist'"),
        (["reproduce", "mnist"], "recipe"),
        (["distill", "mnist", "--source", "generator", "--curriculum", "fulll"], "did you mean 'full'"),
        (["distill", "mnist", "--curriculum", "full"], "--curriculum belongs to --source generator"),
        (["distill", "mnist", "--data", "cifar10"], "mnist and --data cifar10 are two data sets"),
        (["distill", "mnist", "--trust"], "--trust does nothing without --resume"),
        (["show", "nowhere", "--device", "cpu:0", "--threads", "2"], "--device and --threads do nothing with"),
        (["show", "nowhere", "--seed", "1"], "Unknown option --seed"),
        (["data", "list", "mnist"], "'mnist' is one word too many"),
        (["data", "list", "--url", "http://localhost"], "--url does nothing with"),
        (["data", "list", "--lean"], "--lean does nothing with 'limbeck data'"),
        (["data", "get", "mnist", "--out", "a", "--data-dir", "b"], "--data-dir does nothing beside --out"),
        (["reproduce", "mnist-fixed", "--n", "5"], "--n is 5, but a fixed initialisation is a single one"),
        (["reproduce", "mnist-random", "--networks", "9"], "--networks does nothing with mnist-random"),
        (
            ["adapt", "pool.safetensors", "--to", "mnist", "--network", "3", "--validate-inits", "2"],
            "--validate-inits does nothing with --network",
        ),
    ],
)
def test_wrong_input_is_one_sentence(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_in_process(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.startswith("limbeck: ") and captured.err.count("\n") == 1
    assert list(tmp_path.rglob("distilled.*")) == []


def test_a_process_exits_with_the_code(tmp_path: Path) -> None:
    with start("distill", "mnist", "--no-such-option", "1", cwd=tmp_path, stderr=subprocess.PIPE) as process:
        assert process.communicate(timeout=60)[1].startswith("limbeck: Unknown option --no-such-option; see ")
    assert process.returncode == 2


def test_a_reader_that_goes_away_is_no_error() -> None:
    with start("data", "list", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(("code", "argv"), [(0, ["--version"]), (2, []), (2, ["distil"])])
def test_main_exits(code: int, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == code


def test_refuses_an_out_that_holds_another_run(data_file: Path, finished: Path) -> None:
    before = (finished / "distilled.safetensors").read_bytes()
    done = limbeck("distill", data_file, *TINY, "--out", finished)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert (finished / "distilled.safetensors").read_bytes() == before


def test_help_and_version() -> None:
    done = limbeck("--help")
    assert done.returncode == 0
    for verb in ("distill", "evaluate", "show", "data", "reproduce"):
        assert f"\n  {verb} " in done.stdout
        usage = limbeck(verb, "--help-all")
        assert usage.returncode == 0
        assert "--json" in usage.stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", limbeck("--version").stdout)
    assert limbeck().returncode == 2
    assert limbeck("--help").stdout == limbeck("help").stdout == limbeck().stdout


@pytest.mark.parametrize("verb", ["distill", "search", "attack", "adapt", "sensitivity", "reproduce", "bound"])
def test_a_budget_of_time_means_the_same_everywhere(verb: str) -> None:
    text = re.sub(r"[\s│]+", " ", limbeck(verb, "--help").stdout)
    said = text[text.index("--max-time") :]
    assert "seconds of work, preparing and compiling included, once what has begun is over" in said[:400]


def test_what_does_nothing_is_refused_but_of_a_recipe_left_out(data_file: Path, tmp_path: Path) -> None:
    given = ["--init", "fixed", "--inits", "1", "--validate-inits", "16"]
    words = ["distill", data_file, *TINY, "--recipe", "mnist-random", *given, "--out", tmp_path / "run"]
    refused = limbeck(*words, "--calibrate-inits", "4")
    assert refused.returncode == 2
    assert "calibrate_inits is 4, which does nothing with a fixed initialisation" in refused.stderr
    assert not (tmp_path / "run").exists()
    done = limbeck(*words)
    assert done.returncode == 0, done.stderr
    assert "recipe mnist-random: calibrate_inits 48 does nothing with a fixed initialisation" in done.stderr
    config = json.loads((tmp_path / "run" / "distilled.json").read_text())["config"]
    assert (config["outer"]["calibrate_inits"], config["inner"]["lr"]) == (0, 0.06)


def test_another_source_leaves_out_what_a_recipe_says_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["distill", "--recipe", "gtn-mnist", "--source", "real", "--help"]) == 0
    said = capsys.readouterr().err
    assert "recipe gtn-mnist: lr_images 0.001 does nothing where no images are learned, and is left out" in said
    assert "recipe gtn-mnist: lr_noise 0.03 does nothing where no noise is learned" in said
    assert run_in_process(["distill", "--recipe", "gtn-mnist", "--source", "real", "--lr-noise", "0.1"]) == 2
    assert "lr_noise is 0.1, which does nothing" in capsys.readouterr().err


def test_the_first_run_of_a_study_is_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["distill", "--recipe", "gtn-mnist", "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"--warm-start\s+INTEGER.*?default:\s+600", shown, flags=re.DOTALL)
    assert run_in_process(["distill", "--recipe", "gtn-mnits"]) == 2
    assert "did you mean 'gtn-mnist'" in capsys.readouterr().err


def test_a_run_that_ended_by_time_gets_more(data_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*TINY, "--iterations", "1000000", "--max-time", "0.2", "--out", out]
    assert limbeck("distill", data_file, *words).returncode == 0
    first = json.loads((out / "distilled.json").read_text())
    done = limbeck("distill", "--resume", out, "--max-time", str(first["seconds"] + 0.5))
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "distilled.json").read_text())["iterations"] > first["iterations"]
    refused = limbeck("distill", "--resume", out, "--max-time", "0.1")
    assert refused.returncode == 2 and "--max-time counts all sittings" in refused.stderr
    assert "leave out the others" in limbeck("distill", "--resume", out, "--steps", "3").stderr


def test_the_first_screen_is_a_part_of_the_whole() -> None:
    """Each of its options, with metavariable and default, is among those of --help-all; so it cannot go stale."""
    short, whole = limbeck("distill", "--help").stdout, limbeck("distill", "--help-all").stdout
    assert len(short.splitlines()) < 50
    assert "--help-all" in short and "None" not in short
    flags = re.findall(r"^  (--[a-z-]+)", short, flags=re.MULTILINE)
    assert {"--learner", "--ipc", "--steps", "--epochs", "--iterations", "--max-time", "--recipe", "--init"} <= set(
        flags
    )
    assert {"--out", "--seed", "--device", "--resume"} <= set(flags) and "--images-per-class" in short

    def squeeze(text: str) -> str:
        return re.sub(r"[│|`\s]", "", text).replace("(default:unset)", "")

    entries = re.findall(r"^  (\S.*)\n((?: {6}.*\n)+)", short, flags=re.MULTILINE)
    assert len(entries) == len(flags) + 1
    for head, text in entries:
        assert squeeze(head.replace(", --images-per-class", "") + text) in squeeze(whole)
