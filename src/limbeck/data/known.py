"""The data sets known by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import final

from limbeck.data.preprocessing import Preprocessing
from limbeck.data.readers import CIFAR10_FILES, MaybeTest, TrainTest, read_cifar10, read_digits, read_idx_pair
from limbeck.errors import unknown


@final
@dataclass(frozen=True, kw_only=True)
class Download:
    """One file of the official source.

    Attributes:
        name: its name, below the set's address.
        sha256: of the file as served.
        members: of an archive, the files to take out of it; empty if the file itself is wanted.
    """

    name: str
    sha256: str
    members: tuple[str, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A data set known by name.

    Attributes:
        name: what people type.
        title: what people call it.
        folder: its folder below a data directory.
        url: official source, with a slash at the end.
        downloads: what to fetch from there.
        files: SHA-256 of the contents of every file needed in ``folder``, decompressed if its name ends with ``.gz``
            (so that a recompressed copy counts, and so does one without ``.gz``).
        class_names: K names.
        preprocessing: the normalisation of the literature; None to measure it.
        image_shape: (C, H, W).
        n_train: number of training images.
        n_test: number of test images, 0 if it has none of its own.
        read: folder to ``train_x, train_y, test_x, test_y``, the last two None if it has no test set.
        embedded: a copy comes with this package.
        module: the Python module that it comes with, which is the name of our extra, too; None if it is in files.
        package: what people call that module's package.
    """

    name: str
    title: str
    folder: str
    url: str
    downloads: tuple[Download, ...]
    files: Mapping[str, str]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing | None
    image_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    read: Callable[[Path], MaybeTest]
    embedded: bool = False
    module: str | None = None
    package: str | None = None

    @property
    def install(self) -> str:
        """The command that gets it."""
        return f"limbeck data get {self.name}" if self.module is None else f"pip install 'limbeck[{self.module}]'"

    def missing(self, folder: Path) -> tuple[str, ...]:
        """The files that ``folder`` lacks; all of them if it is not there."""
        return tuple(name for name in self.files if find_file(folder, name) is None)


def find_file(folder: Path, name: str) -> Path | None:
    """A file by name, or by name without ``.gz``; None if neither is there."""
    return next((path for path in (folder / name, folder / name.removesuffix(".gz")) if path.is_file()), None)


def known_sets() -> Mapping[str, KnownSet]:
    """All known data sets by name."""
    return MappingProxyType({known.name: known for known in (_mnist(), _fashion_mnist(), _cifar10(), _digits())})


def known_names() -> tuple[str, ...]:
    """The names of all known data sets.

    >>> known_names()
    ('mnist', 'fashion-mnist', 'cifar10', 'digits')
    """
    return tuple(known_sets())


def known_set(name: str) -> KnownSet:
    """A known data set by name, in either case.

    Raises:
        LimbeckError: an unknown name; suggests the nearest.
    """
    sets = known_sets()
    if name.lower() not in sets:
        raise unknown("data set", name, sets)
    return sets[name.lower()]


def _read_idx_folder(folder: Path) -> TrainTest:
    def split(prefix: str) -> tuple[Path, Path]:
        names = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
        images, labels = (find_file(folder, name) or folder / name for name in names)
        return images, labels

    return (*read_idx_pair(*split("train")), *read_idx_pair(*split("t10k")))


def _mnist() -> KnownSet:
    return KnownSet(
        name="mnist",
        title="MNIST",
        folder="mnist",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        downloads=(
            Download(
                name="train-images-idx3-ubyte.gz",
                sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            Download(
                name="train-labels-idx1-ubyte.gz",
                sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            Download(
                name="t10k-images-idx3-ubyte.gz",
                sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            Download(
                name="t10k-labels-idx1-ubyte.gz",
                sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        files=MappingProxyType(
            {
                "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            }
        ),
        class_names=tuple("0123456789"),
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.1307,), std=(0.3081,)),
        image_shape=(1, 28, 28),
        n_train=60_000,
        n_test=10_000,
        read=_read_idx_folder,
        embedded=True,
    )


def _fashion_mnist() -> KnownSet:
    return KnownSet(
        name="fashion-mnist",
        title="Fashion-MNIST",
        folder="fashion-mnist",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        downloads=(
            Download(
                name="train-images-idx3-ubyte.gz",
                sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            Download(
                name="train-labels-idx1-ubyte.gz",
                sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            Download(
                name="t10k-images-idx3-ubyte.gz",
                sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            Download(
                name="t10k-labels-idx1-ubyte.gz",
                sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        files=MappingProxyType(
            {
                "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            }
        ),
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.2860,), std=(0.3530,)),
        image_shape=(1, 28, 28),
        n_train=60_000,
        n_test=10_000,
        read=_read_idx_folder,
    )


def _cifar10() -> KnownSet:
    return KnownSet(
        name="cifar10",
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        url="https://www.cs.toronto.edu/~kriz/",
        downloads=(
            Download(
                name="cifar-10-binary.tar.gz",
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                members=CIFAR10_FILES,
            ),
        ),
        files=MappingProxyType(
            {
                "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            }
        ),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.243, 0.261)),
        image_shape=(3, 32, 32),
        n_train=50_000,
        n_test=10_000,
        read=read_cifar10,
    )


def _digits() -> KnownSet:
    return KnownSet(
        name="digits",
        title="Digits",
        folder="",
        url="",
        downloads=(),
        files=MappingProxyType({}),
        class_names=tuple("0123456789"),
        preprocessing=None,
        image_shape=(1, 28, 28),
        n_train=1797,
        n_test=0,
        read=read_digits,
        module="sklearn",
        package="scikit-learn",
    )
