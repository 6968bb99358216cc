"""Search spaces: what every space promises, and what each one builds."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_search import Chained
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from limbeck.errors import LimbeckError
from limbeck.models import NasBench201, Shape, build, draw
from limbeck.models.blocks import SamePool
from limbeck.nas.spaces import Arch, Cells, Space, known_spaces, space_named

SHAPE: Shape = (2, 16, 17)
CLASSES = 3
CELL_201 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
EVERY_OPERATION = (
    "conv1x1~0.conv3x3~1+conv1x3-3x1~0.conv1x7-7x1~1+maxpool2~0.maxpool3~2+maxpool5~1.avgpool2~4+avgpool3~3.identity~0"
)
CELL_NET = (
    f"cellnet,arch={EVERY_OPERATION}@{EVERY_OPERATION.replace('avgpool3', 'avgpool5')},width=4,cells=1,norm=batch"
)


class Perceptrons(Chained):
    """A small space of a user's own."""

    name = "perceptrons"
    shape = SHAPE
    num_classes = CLASSES
    choices: Mapping[str, tuple[str, ...]] = {
        "hidden": ("2", "3", "5"),
        "activation": ("relu", "tanh"),
        "bias": ("on",),
    }  # type: ignore[assignment]

    def build(self, arch: Arch) -> nn.Module:
        hidden, activation, _ = self.check(arch)
        nonlinear = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            first, last = nn.Linear(2 * 16 * 17, int(hidden)), nn.Linear(int(hidden), CLASSES)
        return nn.Sequential(nn.Flatten(), first, nonlinear, last)


SPACES: dict[str, Space] = {
    **{
        name: space_named(name, shape=SHAPE, num_classes=CLASSES)
        for name in (*known_spaces(), "cells,width=4,cells=2,norm=group", "nasbench201,width=4,cells=2,norm=none")
    },
    "perceptrons": Perceptrons(),
}
"""The spaces themselves are immutable."""

spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
quick = pytest.mark.parametrize("space", [s for n, s in SPACES.items() if n != "convnets"], ids=lambda s: s.name)
"""All but the wide ConvNets, which differ from the narrow ones in nothing but their widths."""


def draw_archs(space: Space, count: int, seed: int = 0) -> list[Arch]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def images(count: int, seed: int = 0, shape: Shape = SHAPE) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------------------------------- what every one promises


def test_sizes() -> None:
    sizes = {name: space.size for name, space in SPACES.items()}
    assert (sizes["convnets"], sizes["convnets-narrow"], sizes["nasbench201"]) == (720, 720, 15_625)
    assert sizes["cells"] == (2 * 3 * 4 * 5 * 6) ** 4 * 11**20
    assert sizes["perceptrons"] == 6


@spaces
def test_samples_are_uniform_and_follow_from_the_generator(space: Space) -> None:
    archs = draw_archs(space, 1000)
    assert archs == draw_archs(space, 1000)
    assert archs != draw_archs(space, 1000, seed=1)
    for index, options in enumerate(space.choices.values()):
        counts = Counter(arch[index] for arch in archs)
        expected = 1000 / len(options)
        assert set(counts) <= set(options)
        assert all(abs(counts[option] - expected) < 5 * expected**0.5 for option in options)


@spaces
def test_mutation_changes_one_choice(space: Space) -> None:
    rng = np.random.default_rng(0)
    changed = set()
    for arch in draw_archs(space, 600):
        other = space.check(space.mutate(arch, rng))
        differing = [index for index, (a, b) in enumerate(zip(arch, other, strict=True)) if a != b]
        assert len(differing) == 1
        changed.add(differing[0])
    assert changed == {index for index, options in enumerate(space.choices.values()) if len(options) > 1}


@spaces
@settings(max_examples=30)
@given(data=st.data())
def test_text_is_read_back(space: Space, data: st.DataObject) -> None:
    arch = data.draw(st.tuples(*map(st.sampled_from, space.choices.values())))
    text = space.text(arch)
    assert space.read(text) == arch
    assert not set(text) & set(" \t\n\"'$!&;*?<>()")


@spaces
@settings(max_examples=60)
@given(data=st.data())
def test_other_text_is_refused_in_a_sentence(space: Space, data: st.DataObject) -> None:
    arch = data.draw(st.tuples(*map(st.sampled_from, space.choices.values())))
    text = space.text(arch)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    broken = (
        text[:start] + data.draw(st.sampled_from(["", "|", "~", "+", "@", ".", ",", "=", "x", "9", "é"])) + text[stop:]
    )
    try:
        read = space.read(broken)
    except LimbeckError as error:
        assert str(error).endswith(".")
    else:
        assert space.read(space.text(space.check(read))) == read


@spaces
def test_encoding_says_everything(space: Space) -> None:
    for arch in draw_archs(space, 20):
        code = space.encode(arch)
        assert set(code) <= {0.0, 1.0}
        decoded, start = [], 0
        for options in space.choices.values():
            part = code[start : start + len(options)]
            assert part.sum() == 1
            decoded.append(options[int(part.argmax())])
            start += len(options)
        assert (tuple(decoded), start) == (arch, len(code))


@spaces
def test_wrong_architectures_are_refused(space: Space) -> None:
    (arch,) = draw_archs(space, 1)
    for wrong, message in (((*arch, "x"), "choices, not"), (arch[:-1], "choices, not"), (("x", *arch[1:]), "is 'x'")):
        for ask in (space.check, space.build, space.text, space.encode, space.graph, space.shared):
            with pytest.raises(LimbeckError, match=message):
                ask(wrong)


@spaces
def test_networks_give_logits_and_are_always_the_same(space: Space) -> None:
    before = torch.get_rng_state()
    for arch in draw_archs(space, 3):
        module, again = space.build(arch), space.build(arch)
        assert module(images(4)).shape == (4, CLASSES)
        assert not list(module.buffers())
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))
        assert space.parameters(arch) == sum(p.numel() for p in module.parameters()) > 0
        assert space.flops(arch) > 0
    assert torch.equal(before, torch.get_rng_state())


@quick
def test_networks_are_trained_many_at_once_as_one_by_one(space: Space) -> None:
    for arch in draw_archs(space, 3):
        assert_derivatives(space.build(arch))


@spaces
def test_graph_is_in_order_and_covers_the_parameters(space: Space) -> None:
    for arch in draw_archs(space, 5):
        graph, module = space.graph(arch), space.build(arch)
        assert all(0 <= source < target < len(graph.nodes) for source, target in graph.edges)
        assert len(set(graph.edges)) == len(graph.edges)
        owners: Counter[str] = Counter()
        for node in graph.nodes:
            if node.module is not None:
                owners.update(
                    f"{node.module}.{name}" for name, _ in module.get_submodule(node.module).named_parameters()
                )
        assert owners == Counter(dict.fromkeys(dict(module.named_parameters()), 1))
        reading = {target for _, target in graph.edges}
        assert graph.nodes[-1].module is not None, "the last layer comes last"
        assert len(graph.nodes) - 1 in reading


@spaces
def test_stores_hold_tensors_of_one_kind(space: Space) -> None:
    ranks: dict[str, int] = {}
    for arch in draw_archs(space, 12):
        module = space.build(arch)
        stores = space.shared(arch)
        shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        assert list(stores) == list(shapes)
        assert len(set(stores.values())) == len(stores), "no two parameters of one network are the same numbers"
        for name, store in stores.items():
            assert ranks.setdefault(store, len(shapes[name])) == len(shapes[name])


@spaces
def test_spaces_reach_workers(space: Space) -> None:
    (arch,) = draw_archs(space, 1)
    copy = pickle.loads(pickle.dumps(space))
    assert (copy.name, copy.text(arch)) == (space.name, space.text(arch))


def assert_derivatives(module: nn.Module) -> None:
    """vmap(jvp(grad)) in float64 against autograd's double backward, one network at a time, at random parameters."""
    module = module.double()
    generator = torch.Generator().manual_seed(0)
    x, y = images(3).double(), torch.tensor([0, 1, 2])
    theta, direction = (
        {n: 0.3 * torch.randn(2, *p.shape, generator=generator).double() for n, p in module.named_parameters()}
        for _ in range(2)
    )

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(functional_call(module, parameters, (x,)), y)

    def along(parameters: dict[str, Tensor], tangent: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        return jvp(grad(loss), (parameters,), (tangent,))[1], functional_call(module, parameters, (x,))

    ours, logits = vmap(along)(theta, direction)
    for b in range(2):
        leaves = {name: value[b].clone().requires_grad_() for name, value in theta.items()}
        torch.testing.assert_close(logits[b], functional_call(module, leaves, (x,)))
        first = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True, allow_unused=True)
        pairs = [(g, direction[name][b]) for name, g in zip(leaves, first, strict=True) if g is not None]
        inner = torch.stack([(g * d).sum() for g, d in pairs]).sum()
        second = torch.autograd.grad(inner, list(leaves.values()), allow_unused=True)
        for name, value in zip(leaves, second, strict=True):
            expected = torch.zeros_like(leaves[name]) if value is None else value
            torch.testing.assert_close(ours[name][b], expected, rtol=1e-6, atol=1e-10)


# ------------------------------------------------------------------------------------------------------ what they build


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_is_over_the_pixels_that_are_there(kind: str, kernel: int, stride: int) -> None:
    x = images(1, shape=(1, 6, 7)).double()[0, 0]
    back = (kernel - 1) // 2
    expected = torch.stack(
        [
            torch.stack([(window.amax() if kind == "max" else window.mean()) for window in windows])
            for windows in (
                [
                    x[max(0, row - back) : row - back + kernel, max(0, column - back) : column - back + kernel]
                    for column in range(0, 7, stride)
                ]
                for row in range(0, 6, stride)
            )
        ]
    )
    torch.testing.assert_close(SamePool(kind, kernel, stride)(x[None, None])[0, 0], expected)


def test_every_operation_can_be_differentiated_twice() -> None:
    assert_derivatives(build(CELL_NET, shape=SHAPE, num_classes=CLASSES))
    assert_derivatives(build(f"nasbench201,arch={CELL_201},width=4,cells=1", shape=SHAPE, num_classes=CLASSES))


def test_a_network_of_cells_computes_what_its_text_says() -> None:
    """Written out for a cell of three loose nodes; convolutions have biases where nothing is normalised."""
    cell = "identity~0.conv3x3~1+maxpool3~2.identity~1+conv1x1~0.identity~3+identity~0.identity~1+avgpool2~1.identity~0"
    net = build(f"cellnet,arch={cell}@{cell},width=4,cells=1,norm=none", shape=(2, 8, 8), num_classes=3)
    x = images(2, shape=(2, 8, 8))

    def conv(path: str, x: Tensor, **options: int) -> Tensor:
        return F.conv2d(F.relu(x), net.get_parameter(f"{path}.weight"), net.get_parameter(f"{path}.bias"), **options)

    def node(cell: str, term: str, x: Tensor, stride: int) -> Tensor:
        """An identity."""
        return x if stride == 1 else conv(f"{cell}.terms.{term}-identity.2", F.avg_pool2d(x, 2))

    before = last = F.conv2d(x, net.get_parameter("stem.0.weight"), net.get_parameter("stem.0.bias"), padding=1)
    for index, stride in enumerate((1, 2, 1, 2, 1)):
        at = f"cells.{index}"
        halved = before.shape[-1] != last.shape[-1]
        a = conv(f"{at}.inputs.0.{2 if halved else 1}", F.avg_pool2d(before, 2) if halved else before)
        b = conv(f"{at}.inputs.1.1", last)
        n0 = node(at, "0a", a, stride) + conv(f"{at}.terms.0b-conv3x3.1", b, stride=stride, padding=1)
        n1 = F.max_pool2d(n0, 3, 1, 1) + node(at, "1b", b, stride)
        n2 = conv(f"{at}.terms.2a-conv1x1.1", a, stride=stride) + n1
        n3 = node(at, "3a", a, stride) + node(at, "3b", b, stride)
        pooled = F.avg_pool2d(b, 2) if stride == 2 else F.avg_pool2d(F.pad(b, (0, 1, 0, 1), mode="replicate"), 2, 1)
        if stride == 1:  # replicated pixels are the mean of those that are there along the last row and column
            torch.testing.assert_close(pooled, SamePool("avg", 2)(b))
        n4 = pooled + node(at, "4b", a, stride)
        before, last = last, torch.cat([n2, n3, n4], dim=1)
    expected = F.linear(F.relu(last).mean((2, 3)), net.get_parameter("head.weight"), net.get_parameter("head.bias"))
    torch.testing.assert_close(net(x), expected)


def test_counts_of_a_network_of_cells() -> None:
    """By hand: stem, then inputs (and, where a cell reduces, ten identities) of five cells, then the last layer."""
    node = "identity~0.identity~1"
    cell = "+".join([node] * 5)
    space = Cells(shape=(1, 28, 28), num_classes=10)
    arch = space.read(f"cellnet,arch={cell}@{cell}")

    def pointwise(source: int, out: int) -> int:
        return source * out + 2 * out

    first = 9 * 8 + 2 * 8 + 2 * pointwise(8, 8)
    second = pointwise(8, 16) + pointwise(40, 16) + 10 * pointwise(16, 16)
    third = pointwise(40, 16) + pointwise(80, 16)
    fourth = 2 * pointwise(80, 32) + 10 * pointwise(32, 32)
    fifth = pointwise(80, 32) + pointwise(160, 32)
    assert space.parameters(arch) == first + second + third + fourth + fifth + 1610


def test_nas_bench_201_has_the_published_sizes() -> None:
    """The smallest and the largest network of the benchmark: 0.0733 and 1.5315 million parameters, 7.78 and 220.12
    million multiply-adds."""
    space = space_named("nasbench201,width=16,cells=5", shape=(3, 32, 32), num_classes=10)
    for operation, parameters, adds in (("none", 73_306, 7_783_040), ("nor_conv_3x3", 1_531_546, 220_119_680)):
        arch = (operation,) * 6
        assert space.parameters(arch) == parameters
        assert space.flops(arch) == 2 * adds
    assert sum(p.numel() for p in NasBench201((3, 32, 32), 10, space.text(arch)).parameters()) == 1_531_546


def test_nas_bench_201_writes_the_published_text() -> None:
    space = SPACES["nasbench201"]
    assert space.read(CELL_201) == (
        *("nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3"),
        *("skip_connect", "nor_conv_3x3", "skip_connect"),
    )
    assert space.text(space.read(CELL_201)) == CELL_201


def test_counts_of_a_convnet() -> None:
    space = space_named("convnets-narrow", shape=(1, 28, 28), num_classes=10)
    arch = space.read("convnet3,width=8,depth=2,norm=batch,pooling=max,activation=relu")
    assert arch == ("8", "2", "batch", "max", "relu")
    assert space.parameters(arch) == (9 * 8 + 8) + 16 + (9 * 64 + 8) + 16 + 10 * 8 * 64 + 10
    assert space.flops(arch) == 2 * (9 * 8 * 32**2 + 9 * 64 * 16**2 + 10 * 8 * 64)


def test_a_convnet_without_pooling_keeps_its_sides() -> None:
    net = build("convnet3,width=2,depth=4,pooling=none", shape=(1, 5, 6), num_classes=3)
    assert net.get_parameter("head.weight").shape == (3, 2 * 5 * 6)
    assert net(torch.zeros(2, 1, 5, 6)).shape == (2, 3)


@pytest.mark.parametrize("pooling", ["none", "avg"])
@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_a_narrow_convnet_is_the_first_part_of_a_wide_one(norm: str, pooling: str) -> None:
    """A wide network that does not read its channels from the fifth on is the narrow one that is cut from it."""
    space = SPACES["convnets-narrow"]
    wide, narrow = ((width, "2", norm, pooling, "relu") for width in ("8", "4"))
    big, small = space.build(wide), space.build(narrow)
    stores = space.shared(wide)
    assert set(space.shared(narrow).values()) == set(stores.values())
    values = {n: v[0] for n, v in draw(big, "kaiming", 1, torch.Generator().manual_seed(0)).items()}
    pixels = big.get_parameter("head.weight").shape[1] // 8
    values["head.weight"][:, 4 * pixels :] = 0
    second = next(name for name, store in stores.items() if store == "block 1 conv weight")
    values[second][:, 4:] = 0
    by_store = {stores[name]: value for name, value in values.items()}
    cut = {
        name: by_store[space.shared(narrow)[name]][tuple(slice(size) for size in parameter.shape)]
        for name, parameter in small.named_parameters()
    }
    expected = functional_call(big, values, (images(4),))
    torch.testing.assert_close(functional_call(small, cut, (images(4),)), expected)


def test_stores_keep_apart_what_differs() -> None:
    space = SPACES["convnets"]

    def stores(*arch: str) -> set[str]:
        return set(space.shared(arch).values())

    layer = ("layer", "avg", "relu")
    assert stores("32", "2", *layer) == stores("64", "2", *layer)
    unpooled = stores("32", "2", "layer", "none", "relu")
    assert {name for name in stores("32", "2", *layer) - unpooled if "conv" in name} == set()
    assert {name.split()[0] for name in stores("32", "2", *layer) - unpooled} == {"block", "head"}
    cells = SPACES["cells"]
    cell = "+".join(["conv3x3~0.conv1x1~1"] * 5)
    other = cell.replace("conv1x1~1", "conv1x1~0", 1).replace("conv3x3", "conv1x3-3x1")
    one, two = (cells.shared(cells.read(f"cellnet,arch={c}@{c}")) for c in (cell, other))
    both = {name for name in one if name in two}
    assert all(one[name] == two[name] for name in both)
    assert any("0b-conv1x1" in name for name in both)
    assert not any("conv3x3" in name for name in both)


def test_readers_of_other_nodes_have_other_stores() -> None:
    space = SPACES["cells"]
    rest = "+".join(["identity~0.identity~1"] * 3)
    heads = set()
    for read in ("2", "3"):
        cell = f"identity~0.identity~1+identity~0.identity~1+identity~{read}.identity~0+{rest}".rsplit("+", 1)[0]
        heads.add(space.shared(space.read(f"cellnet,arch={cell}@{cell}"))["head.weight"])
    assert heads == {"head.weight (3, 128) of nodes 1+2+3+4", "head.weight (3, 128) of nodes 0+2+3+4"}


# -------------------------------------------------------------------------------------------------------------- by name


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("convnet", SHAPE, "Unknown search space 'convnet'; did you mean 'convnets'"),
        ("convnets,width=3", SHAPE, "has no options"),
        ("convnets,narrow=True", SHAPE, "has no options"),
        ("cells,widht=3", SHAPE, "did you mean 'width'"),
        ("cells,shape=3", SHAPE, "Unknown option of the space 'cells' 'shape'"),
        ("cells,width", SHAPE, "no option of the space"),
        ("cells,width=0", SHAPE, "width is 0; .* whole number of at least 1"),
        ("cells,cells=1.5", SHAPE, "cells is 1.5"),
        ("nasbench201,cells=True", SHAPE, "cells is True"),
        ("nasbench201,norm=btach", SHAPE, "did you mean 'batch'"),
        ("cells,width=6,norm=group", SHAPE, "multiple of 4, not 6"),
        ("cells", (1, 3, 8), "at least 4 x 4 pixels.* 3 x 8"),
        ("nasbench201", (1, 8, 3), "at least 4 x 4 pixels"),
        ("convnets", (1, 15, 16), "at least 16 x 16 pixels"),
        ("convnets-narrow", (0, 16, 16), "channels, height, width"),
        ("no_such_module:space", SHAPE, "The space 'no_such_module:space' cannot be loaded"),
    ],
)
def test_wrong_spaces(name: str, shape: Shape, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        space_named(name, shape=shape, num_classes=CLASSES)


def test_a_space_needs_a_class() -> None:
    with pytest.raises(LimbeckError, match="at least 1 class"):
        space_named("cells", shape=SHAPE, num_classes=0)


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        ("convnets", "lenet", "it has 'convnet3,option=value"),
        ("convnets", "convnet3,width=8", "width is '8'; the space convnets has 32"),
        ("convnets", "convnet3,hidden=8", "Unknown option of the learner 'convnet3' 'hidden'"),
        ("cells", "cellnet,width=8", "has no arch="),
        ("cells", CELL_NET, "has width=4; the space cells was made with width=8"),
        ("cells", CELL_NET.replace("width", "widht"), "did you mean 'width'"),
        ("cells", f"cellnet,arch={EVERY_OPERATION}", "not a pair of cells"),
        ("cells", "cellnet,arch=conv3x3~0.conv3x3~1@", "has 1 nodes"),
        ("cells", f"cellnet,arch={EVERY_OPERATION}@{EVERY_OPERATION}".replace("maxpool5", "maxpool4"), "'maxpool5'"),
        ("cells", f"cellnet,arch={EVERY_OPERATION}@{EVERY_OPERATION}".replace("~4", "~5"), "Node 3 .* reads 5"),
        ("cells", f"cellnet,arch={EVERY_OPERATION}@{EVERY_OPERATION}".replace("~4", ""), "is no node of a cell"),
        ("nasbench201", CELL_201.replace("skip_connect", "skip"), "did you mean 'skip_connect'"),
        ("nasbench201", CELL_201[:-1], "is no cell of NAS-Bench-201"),
        ("nasbench201", f"nasbench201,arch={CELL_201}", "is no cell of NAS-Bench-201"),
    ],
)
def test_wrong_texts(space: str, text: str, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        SPACES[space].read(text)


def test_what_is_left_out_has_the_learners_default() -> None:
    assert SPACES["convnets"].read("convnet3,pooling=none") == ("128", "3", "instance", "none", "relu")
    text = f"cellnet,arch={EVERY_OPERATION}@{EVERY_OPERATION}"
    assert SPACES["cells"].text(SPACES["cells"].read(text)) == f"{text},width=8,cells=1,norm=batch"


@pytest.mark.parametrize("learner", ["cellnet", "nasbench201"])
def test_wrong_networks_of_cells(learner: str) -> None:
    arch = CELL_201 if learner == "nasbench201" else f"{EVERY_OPERATION}@{EVERY_OPERATION}"
    for option, message in (("width=0", "width 0"), ("cells=0", "cells 0"), ("width=wide", "cannot be made")):
        with pytest.raises(LimbeckError, match=message):
            build(f"{learner},arch={arch},{option}", shape=SHAPE, num_classes=CLASSES)
    with pytest.raises(LimbeckError, match="at least 4 x 4 pixels, not 3 x 4"):
        build(f"{learner},arch={arch}", shape=(1, 3, 4), num_classes=CLASSES)
    with pytest.raises(LimbeckError, match="arch"):
        build(learner, shape=SHAPE, num_classes=CLASSES)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "limbeck_test_spaces.py").write_text(
        "from limbeck.nas.spaces import Cells\n"
        "def mine(*, shape, num_classes, width=2):\n"
        "    return Cells(shape=shape, num_classes=num_classes, width=width)\n"
        "def other(*, shape, num_classes):\n"
        "    return Cells(shape=shape, num_classes=num_classes + 1)\n"
        "def nothing(*, shape, num_classes):\n"
        "    return 3\n"
        "def fails(*, shape, num_classes):\n"
        "    raise ValueError('out of cheese')\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "limbeck_test_spaces"


def test_a_space_of_ones_own(own_module: str) -> None:
    space = space_named(f"{own_module}:mine,width=3", shape=SHAPE, num_classes=CLASSES)
    assert space.build(draw_archs(space, 1)[0]).get_parameter("stem.0.weight").shape == (3, 2, 3, 3)
    for function, message in (
        ("other", "and 4 classes, but was asked for"),
        ("nothing", "returned int; it must return a limbeck.nas.spaces.Space"),
        ("fails", "failed when called with shape=.*ValueError: out of cheese"),
        ("main", "did you mean 'mine'"),
        ("mine,wide=3", "TypeError"),
    ):
        with pytest.raises(LimbeckError, match=message):
            space_named(f"{own_module}:{function}", shape=SHAPE, num_classes=CLASSES)


def test_spaces_of_other_sizes_are_told_apart() -> None:
    names = ("cells", "cells,width=4", "cells,cells=2", "nasbench201", "nasbench201,width=4", "nasbench201,norm=none")
    spaces = [space_named(name, shape=SHAPE, num_classes=CLASSES) for name in (*names, "convnets", "convnets-narrow")]
    assert len({repr(space) for space in spaces}) == len(spaces)
    assert repr(spaces[1]) == "cells(shape=(2, 16, 17), num_classes=3, width=4, cells=1, norm='batch')"
    again = space_named(names[1], shape=SHAPE, num_classes=CLASSES)
    assert repr(again) == repr(spaces[1])
