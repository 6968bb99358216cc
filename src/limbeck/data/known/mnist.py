"""MNIST and Fashion-MNIST, which are stored alike."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from limbeck.data.arrays import TrainTest
from limbeck.data.idx import read_idx_pair
from limbeck.data.known.base import Download, KnownSet, find_file
from limbeck.data.preprocessing import Preprocessing


def _read_idx_folder(folder: Path) -> TrainTest:
    def split(prefix: str) -> tuple[Path, Path]:
        names = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
        images, labels = (find_file(folder, name) or folder / name for name in names)
        return images, labels

    return (*read_idx_pair(*split("train")), *read_idx_pair(*split("t10k")))


MNIST = KnownSet(
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

FASHION_MNIST = KnownSet(
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
