"""``limbeck.distill`` with data and a network in hand."""

from __future__ import annotations

import functools
import json
import pickle
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import Recorder, tiny_config, tiny_data
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import limbeck
from limbeck.artefact.distilled import Distilled
from limbeck.cli.main import run as cli
from limbeck.engine import PixelConfig, RealConfig
from limbeck.errors import LimbeckError
from limbeck.experiment.config import Config
from limbeck.experiment.console import in_notebook, reporter_for
from limbeck.experiment.progress import InPython, Silent

DATA = tiny_data()
FAST: dict[str, Any] = {
    "steps": 2, "iterations": 2, "inits": 2, "real_batch": 16, "validate_every": 2, "validate_inits": 1,
    "compile": "off", "bfloat16": "off",
}  # fmt: skip


class MyNet(nn.Module):
    """A user's: a width of its own, and some of what a class is called with."""

    def __init__(self, image_size: int = 8, num_classes: int = 3, width: int = 5) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(image_size**2, width), nn.Linear(width, num_classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        logits: Tensor = self.out(self.hidden(x_NCHW.flatten(1)).relu())
        return logits


def make_net(shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes))


def local(**options: Any) -> type[nn.Module]:
    """A class that cannot be imported, as those of a notebook."""

    class Cell(MyNet):
        pass

    return Cell


def learn(learner: Any, data: Any = DATA, **options: Any) -> Distilled:
    return limbeck.distill(data, learner, **{**FAST, **options})


HERE = MyNet.__module__


@pytest.mark.parametrize(
    ("learner", "name"),
    [
        (MyNet, f"{HERE}:MyNet"),
        (make_net, f"{HERE}:make_net"),
        (functools.partial(MyNet, width=7), f"{HERE}:MyNet,width=7"),
        (functools.partial(make_net, (1, 8, 8)), "<make_net given in Python>"),
        (functools.partial(MyNet, width=torch.tensor(4).item()), f"{HERE}:MyNet,width=4"),
        (MyNet(), "<MyNet given in Python>"),
        (local(), "<Cell given in Python>"),
        (lambda num_classes: MyNet(num_classes=num_classes), "<function given in Python>"),
        ("linear", "linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_learner_of_any_form(learner: Any, name: str) -> None:
    run = learn(learner)
    assert run.config.learner == name
    wanted = {"pass": [name.split()[0][1:]]} if "given" in name else {"import": [name]} if ":" in name else None
    assert run.info.get("needs") == wanted
    assert run.train()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert run.evaluate(DATA, n=2).accuracy >= 0


def test_a_partial_keeps_what_it_fixes() -> None:
    run = learn(functools.partial(MyNet, width=7))
    assert run.network().get_parameter("hidden.weight").shape == (7, 64)


def test_a_network_is_copied_and_never_changed() -> None:
    network = MyNet(width=6)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run = learn(network, init="fixed", inits=1)
    with torch.no_grad():
        network.out.weight.zero_()  # what is done to it later is no part of the run
    network.out = nn.Linear(6, 99)
    run.train()
    assert run.network().get_parameter("hidden.weight").shape == (6, 64)
    assert all(torch.equal(network.get_parameter(name), before[name]) for name in ("hidden.weight", "hidden.bias"))
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("form", ["pair", "numpy", "dataset", "task", "file"])
def test_data_of_any_form(form: str, tmp_path: Path) -> None:
    x, y = DATA.train_x, DATA.train_y
    forms: dict[str, Any] = {
        "pair": (x, y), "numpy": (x.numpy(), y.numpy()), "dataset": TensorDataset(x, y), "task": DATA,
        "file": _file(tmp_path),
    }  # fmt: skip
    run = learn(MyNet, forms[form], val_size=18)
    assert run.shape == (1, 8, 8) and len(run.class_names) == 3
    assert run.evaluate(forms[form], n=2).distilled.scores.n == 2


def test_a_run_just_made_remembers_what_it_was_given(tmp_path: Path) -> None:
    x, y = DATA.train_x.clone(), DATA.train_y
    run = learn(MyNet, (x, y), val_size=18, out=tmp_path / "run")
    x.zero_()  # what is done to it later is no part of the run
    x = DATA.train_x
    accuracy = run.evaluate(n=2).accuracy
    assert accuracy == limbeck.evaluate(run, (DATA.train_x, y), n=2, baselines=()).accuracy
    assert run.passing(MyNet).evaluate(n=2).accuracy == accuracy
    configured = limbeck.distill(tiny_config(iterations=1), DATA)
    assert limbeck.distill(tiny_config(iterations=1), (x, y)).images.shape == configured.images.shape
    assert configured.data is DATA and configured.evaluate(n=2).distilled.scores.n == 2
    loaded = limbeck.load(tmp_path / "run")
    assert loaded.data is None and repr(loaded) == repr(run)
    with pytest.raises(LimbeckError, match="was given in Python; give the data again, as data"):
        loaded.evaluate(n=2)
    assert sum(file.stat().st_size for file in (tmp_path / "run").rglob("*")) < 2 * 10**5


def test_settings_find_their_parts() -> None:
    run = learn(MyNet, images_per_class=2, epochs=2, lr=0.3, labels="soft", init="fixed", inits=None, seed=4)
    config, source = run.config, run.config.source
    assert isinstance(source, PixelConfig) and (source.steps, source.epochs, source.ipc) == (2, 2, 2)
    assert (config.inner.lr, config.init.init, config.outer.inits, config.seed) == (0.3, "fixed", 1, 4)
    assert run.labels_kind == "soft" and config.engine.compile == "off"
    real = limbeck.distill(DATA, MyNet, source="real", inner_steps=2, batch=6, iterations=1, compile="off")
    assert isinstance(real.config.source, RealConfig) and real.images.shape[:2] == (2, 6)
    own = limbeck.distill(DATA, MyNet, source=PixelConfig(steps=3), epochs=1, iterations=1, compile="off")
    assert own.config.source == PixelConfig(steps=3, epochs=1, start="real")


def test_it_is_the_run_of_the_same_configuration() -> None:
    config = tiny_config(learner=f"{HERE}:MyNet")
    settings = {**FAST, "epochs": 2, "inits": 3, "iterations": 7, "validate_every": 3, "validate_inits": 2, "warmup": 2}
    one, other = learn(MyNet, **settings, lr=0.1, val_size=18), limbeck.distill(config, DATA)
    assert torch.equal(one.images, other.images) and one.config == other.config


def test_a_configuration_is_called_as_before() -> None:
    config = tiny_config(iterations=1)
    runs = [
        limbeck.distill(config, DATA),
        limbeck.distill(config, data=DATA),
        limbeck.distill(config=config, data=DATA),
    ]
    assert all(torch.equal(run.images, runs[0].images) for run in runs)
    named = limbeck.distill(data=DATA, learner=MyNet, **FAST)
    assert torch.equal(named.images, learn(MyNet).images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: limbeck.distill(DATA, MyNet, stepz=3), "Unknown setting 'stepz'; did you mean 'steps'"),
        (lambda: limbeck.distill(DATA, MyNet, curriculum="none"), "curriculum belongs to source='generator'"),
        (lambda: limbeck.distill(DATA), "no learner: call it as distill\\(data, MyNet\\)"),
        (lambda: limbeck.distill(learner=MyNet), "no data"),
        (lambda: limbeck.distill(), "no data"),
        (lambda: limbeck.distill(DATA, 3), "The learner is int \\(3\\)"),
        (lambda: limbeck.distill(tiny_config(), DATA, steps=3), "has its settings in the config; leave out steps"),
        (lambda: limbeck.distill(tiny_config(), DATA, learner=MyNet), "data and a learner.*or a Config"),
        (lambda: limbeck.distill(DATA, MyNet, data=DATA), "data and a learner.*or a Config"),
        (lambda: limbeck.distill(DATA, MyNet, source="pixel"), "did you mean 'pixels'"),
        (lambda: limbeck.distill(DATA, lambda: 3, steps=1), "returned int; it must return a torch.nn.Module"),
        (lambda: limbeck.distill(DATA, lambda a: nn.Flatten(), steps=1), "asks for a; it is given only"),
        (lambda: limbeck.distill(object(), MyNet), "Cannot read data from this object"),
        (lambda: Config(learner=MyNet), "limbeck.distill\\(data, learner\\) or config.with_learner"),  # type: ignore[arg-type]
    ],
)
def test_wrong_input_is_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        call()


def test_a_network_that_cannot_be_copied() -> None:
    network = MyNet()
    network.kept = network.hidden.weight * 2  # type: ignore[assignment]
    assert learn(network).images.isfinite().all()  # activations that are kept do no harm
    network.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(LimbeckError, match="MyNet cannot be copied.*give its class"):
        learn(network)


# --- what no name leads to -------------------------------------------------------------------------------------------


def test_a_network_that_is_not_at_hand_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell, folder = local(), tmp_path / "run"
    kept = learn(cell, out=folder)
    run = limbeck.load(folder)
    assert run.info["needs"] == {"pass": ["Cell"]}
    for work in (run.network, run.train, run.learner, lambda: run.evaluate(DATA, n=2)):
        with pytest.raises(LimbeckError, match="is <Cell given in Python> and has no name.*pass it \\(learner=Cell\\)"):
            work()
    run.train(MyNet())
    assert cli(_evaluating(folder, tmp_path)) == 2
    assert "pass it (learner=Cell)" in capsys.readouterr().err
    for own in (limbeck.load(folder, learner=cell), run.passing(cell), run.passing(MyNet)):
        same = own.train().state_dict()
        assert all(torch.equal(value, same[name]) for name, value in kept.train().state_dict().items())
        assert own.folder == folder
    scores = limbeck.evaluate(run, DATA, learner=cell, n=2, baselines=(), learners=[MyNet, "linear"])
    assert [row.row for row in scores.rows] == ["distilled", f"{HERE}:MyNet", "linear"]
    assert scores.rows[0].scores.mean == run.evaluate(DATA, n=2, learner=cell).accuracy


def _evaluating(run: Path, folder: Path) -> list[str]:
    """The command that scores a run on ``DATA``, which is written to a folder."""
    words = f"--data {_file(folder)} --n 2 --baselines none --protocol learned"
    return ["evaluate", str(run), *words.split()]


def _file(folder: Path) -> str:
    import numpy as np

    arrays = {name: getattr(DATA, f"train_{name}").numpy() for name in ("x", "y")}
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def test_the_command_line_takes_a_name_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    learn(local(), out=folder)
    assert cli([*_evaluating(folder, tmp_path), "--learner", f"{HERE}:MyNet"]) == 0


def test_going_on_needs_it_once_more(tmp_path: Path) -> None:
    cell, folder, whole = local(), tmp_path / "run", tmp_path / "whole"
    learn(cell, iterations=4, out=whole)
    stopped = learn(cell, iterations=4, out=folder, reporter=Recorder(2))
    assert not stopped.info["finished"]
    with pytest.raises(LimbeckError, match="pass it \\(learner=Cell\\)"):
        limbeck.distill(stopped.config.with_learner("linear"), DATA, out=folder, resume=True)
    resumed = learn(cell, out=folder, resume=True, iterations=4)
    assert torch.equal(resumed.images, limbeck.load(whole).images)
    assert torch.equal(
        learn(cell, out=folder, resume=True, iterations=4).network().out.weight, resumed.network().out.weight
    )  # type: ignore[union-attr, arg-type]


def test_budgets_for_going_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = learn("linear", out=folder, iterations=2)
    assert learn("linear", out=folder, resume=True, iterations=3).info["iterations"] == 3
    assert learn("linear", out=folder, resume=True, iterations=3).info["iterations"] == 3
    longer = limbeck.distill(first.config, DATA, out=folder, resume=True, iterations=4, max_time=600)
    assert longer.info["iterations"] == 4
    assert longer.config.outer.max_time == 600
    with pytest.raises(LimbeckError, match="leave out iterations"):
        limbeck.distill(first.config, DATA, iterations=4)


@pytest.mark.parametrize("init", ["fixed", "random"])
def test_going_on_with_another_network_is_refused(tmp_path: Path, init: str) -> None:
    wide, options = local(), {"init": init, "inits": 1, "out": tmp_path / "run"}
    learn(wide, **options)
    narrow = functools.partial(local(), width=3)
    with pytest.raises(LimbeckError, match=r"hidden\.bias, hidden\.weight"):
        learn(narrow, **options, resume=True, iterations=4)
    assert learn(wide, **options, resume=True, iterations=4).info["iterations"] == 4


def test_going_on_from_another_fixed_start_is_refused(tmp_path: Path) -> None:
    class Cell(MyNet):
        bias = 0.0

        def __init__(self) -> None:
            super().__init__()
            nn.init.constant_(self.hidden.bias, Cell.bias)

    options = {"init": "fixed", "inits": 1, "out": tmp_path / "run"}
    learn(Cell, **options)
    Cell.bias = 1.0
    with pytest.raises(LimbeckError, match="begins from other weights"):
        learn(Cell, **options, resume=True, iterations=4)


@pytest.mark.parametrize(
    "option",
    [
        {"out": 5}, {"data_dir": 5}, {"reporter": 5}, {"verdict": "no"}, {"progress": "no"}, {"resume": "no"},
        {"device": 5}, {"overwrite": 1},
    ],
)  # fmt: skip
def test_where_and_how_of_a_wrong_type(option: dict[str, Any]) -> None:
    with pytest.raises(LimbeckError, match=f"{next(iter(option))} is .*; it must be "):
        learn("linear", **option)


def test_what_is_asked_of_a_run_of_a_wrong_type(tmp_path: Path) -> None:
    run = learn("linear", verdict=False)
    asks: list[Any] = [
        lambda: run.evaluate(DATA, n=1.5), lambda: run.evaluate(DATA, n="a"), lambda: run.evaluate(DATA, baselines=5),
        lambda: run.evaluate(DATA, seed="a"), lambda: run.network("a"), lambda: run.train(seed="a"),
        lambda: run.batches(seed="a"), lambda: limbeck.export(run, 5), lambda: limbeck.load(None),
        lambda: run.loader(sampler=3), lambda: run.generate("a"),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(LimbeckError, match="it must "):
            ask()
    with pytest.raises(LimbeckError, match="nodev"):
        run.batches(device="nodev")
    rows = run.evaluate(DATA, n=2, baselines="random").rows
    assert [row.row for row in rows] == ["distilled", "random"]


class Halving(MyNet):
    """Leaves the last image of an odd number out."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(x_NCHW[: len(x_NCHW) // 2 * 2])


def test_an_output_for_each_image() -> None:
    data = limbeck.load_data((torch.randn(60, 8, 8), torch.arange(60) % 3), val_size=9)
    with pytest.raises(LimbeckError, match="gives 8 outputs for 9 images"):
        learn(Halving(), data, lr=0.1, images_per_class=2)


class Detached(MyNet):
    """Its output has no gradient in its weights; or only its images have none."""

    def __init__(self, whole: bool = True) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(x_NCHW).detach() if self.whole else super().forward(x_NCHW.detach())


def test_what_has_no_gradient_is_not_learned() -> None:
    with pytest.raises(LimbeckError, match="Training does not change the network"):
        learn(Detached())
    with pytest.warns(UserWarning, match="images that are learned do not change"):
        learn(Detached(whole=False))


def test_another_network_in_its_place_is_refused(tmp_path: Path) -> None:
    learn(local(), init="fixed", inits=1, out=tmp_path / "run")
    with pytest.raises(LimbeckError, match="other names or shapes"):
        limbeck.load(tmp_path / "run", learner=functools.partial(MyNet, width=9)).network()


def test_a_family_given_in_python(tmp_path: Path) -> None:
    cell = local()
    learn(MyNet(), family=(cell, "linear"), out=tmp_path / "run")
    run = limbeck.load(tmp_path / "run", learner=[MyNet(), cell])
    assert run.config.learners == ("<MyNet given in Python>", "<Cell given in Python>", "linear")
    assert run.config.given.keys() == {"<MyNet given in Python>", "<Cell given in Python>"}
    run.network()


def test_no_file_smuggles_one_in(tmp_path: Path) -> None:
    learn(local(), out=tmp_path / "run")
    path = tmp_path / "run" / "distilled.json"
    summary = json.loads(path.read_text())
    assert "given" not in summary["config"]
    summary["config"]["given"] = {"<Cell given in Python>": f"{HERE}:MyNet"}
    path.write_text(json.dumps(summary))
    with pytest.raises(LimbeckError, match="pass it"):
        limbeck.load(tmp_path / "run").network()


def test_the_card_says_what_must_be_at_hand(tmp_path: Path) -> None:
    learn(local(), out=tmp_path / "cell")
    text = (tmp_path / "cell" / "README.md").read_text()
    assert "`Cell` was given in Python and is not in this folder: pass it" in text
    assert 'limbeck.load("path/to/this/folder", learner=Cell)' in text and "<Cell" not in text
    learn(MyNet, out=tmp_path / "named")
    text = (tmp_path / "named" / "README.md").read_text()
    assert f"code that must be importable, and trusted: `{HERE}:MyNet`" in text


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_is_shown_where_someone_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = learn(MyNet)
    assert capsys.readouterr().err == ""  # no terminal
    learn(MyNet, progress=True)
    assert "done: 2 iterations" in capsys.readouterr().err
    limbeck.distill(run.config, DATA, progress=True)
    assert "done: 2 iterations" in capsys.readouterr().err
    run.evaluate(DATA, n=2, progress=True)
    assert "scoring the learned set" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    learn(MyNet)
    assert "done: 2 iterations" in capsys.readouterr().err
    learn(MyNet, progress=False)
    run.evaluate(DATA, n=2, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shell", "notebook"), [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)]
)
def test_a_notebook_is_known_by_its_kernel(shell: Any, notebook: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    assert in_notebook() == notebook
    assert isinstance(reporter_for(), InPython) == notebook
    assert isinstance(reporter_for(False), Silent)


def test_a_reporter_of_ones_own_is_told_instead() -> None:
    recorder = Recorder()
    learn(MyNet, reporter=recorder, progress=True)
    assert recorder.interrupted is False and len(recorder.records) == 2


def test_a_reporter_of_ones_own_is_told_of_keyword_arguments(tmp_path: Path) -> None:
    told = Recorder(1)
    learn("linear", out=tmp_path / "run", reporter=told, iterations=5)
    assert told.interrupted and "go on with resume=True" in told.messages
    assert not any("--" in text for text in told.messages)


def test_a_setting_is_called_what_it_was_given_as() -> None:
    for wrong in (2.5, 0):
        with pytest.raises(LimbeckError, match="^images_per_class"):
            learn("linear", images_per_class=wrong)
        with pytest.raises(LimbeckError, match="^ipc"):
            learn("linear", ipc=wrong)


def test_the_data_is_at_hand_but_in_no_copy() -> None:
    run = learn("linear", verdict=False)
    assert run.kept_in(None).data is run.passing("linear").data is DATA
    again = pickle.loads(pickle.dumps(run))
    assert again.data is None and torch.equal(again.images, run.images)
