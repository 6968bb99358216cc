"""CSV, Parquet and Hugging Face: columns that are found, asked for and refused."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from data_files import ClassLabel, Rows, RowStream, without_extras
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from limbeck.data import load
from limbeck.data.readers.columns import table_of
from limbeck.data.reading import Reading
from limbeck.errors import LimbeckError

HEAD = "length,width,species\n"
ROWS = "".join(f"{i},{i / 4},{('oak', 'elm', 'ash')[i % 3]}\n" for i in range(30))


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> str:
    (folder / "trees.csv").write_text(text, encoding=encoding)
    return str(folder / "trees.csv")


def test_a_csv_file(tmp_path: Path) -> None:
    file = csv_file(tmp_path, HEAD + ROWS)
    data = load(f"{file},label=species")
    assert data.kind == "table" and data.image_shape == (2, 1, 1) and data.class_names == ("ash", "elm", "oak")
    assert data.name == "trees" and data.source == f"{file},label=species"
    again = load(file, label="species")
    assert again.sha256 == data.sha256 and again.source == data.source
    for text, encoding in (
        ((HEAD + ROWS).replace(",", ";"), "utf-8"),
        ((HEAD + ROWS).replace(",", "\t"), "utf-8"),
        (HEAD + ROWS + "\n", "utf-8-sig"),
        (HEAD + ROWS.replace("oak", '"oak"'), "utf-8"),
        (
            "species,length,width\n"
            + "".join(",".join((row.split(",")[2], *row.split(",")[:2])) + "\n" for row in ROWS.split()),
            "utf-8",
        ),
    ):
        assert load(f"{csv_file(tmp_path, text, encoding)},label=species").sha256 == data.sha256
    assert load(f"{csv_file(tmp_path, HEAD + ROWS)},label=species,kind=series").image_shape == (1, 1, 2)


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=12, max_size=20))
def test_numbers_come_back(tmp_path_factory: pytest.TempPathFactory, numbers: list[list[float]]) -> None:
    text = "a,b,c,y\n" + "".join(f"{','.join(map(repr, row))},{5 * (i % 2)}\n" for i, row in enumerate(numbers))
    data = load(csv_file(tmp_path_factory.mktemp("csv"), text), label="y")
    assert data.class_names == ("0", "5")
    assert data.sha256 == load((np.array(numbers), 5 * (np.arange(len(numbers)) % 2))).sha256


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (
            HEAD + ROWS,
            None,
            r"does not say which column has the labels; .*label=species\. It has the columns length, width",
        ),
        (HEAD + ROWS, "specie", "has no column specie; it has the columns length, width, species"),
        (HEAD + ROWS + "tall,1,oak\n", "species", "has columns that are not numbers: length; leave them out"),
        (HEAD + ROWS, "length", "has columns that are not numbers: species"),
        (
            HEAD + ROWS + "1,,oak\nNA,2,oak\n3,nan,elm\n",
            "species",
            r"missing values in the columns width \(2\), length \(1\)",
        ),
        (HEAD + ROWS + "1,2,\n", "species", "has 1 rows without a label in species"),
        (HEAD + ROWS + "1,2\n", "species", "has 2 fields in line 32, but 3 columns"),
        ("a,a,b\n1,2,3\n", "b", "two columns called 'a'"),
        ("species\noak\n", "species", "has 1 rows and 0 features"),
        (HEAD, "species", "has 0 rows and 2 features"),
        ("", "species", "is empty; its first row must name the columns"),
        (HEAD + ROWS + '1,2,"oak\n', "species", "is not a readable .csv file"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, label: str | None, message: str) -> None:
    with pytest.raises(LimbeckError, match=message) as caught:
        load(csv_file(tmp_path, text), label=label)
    assert "trees.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        with pytest.raises(LimbeckError, match=f"There is no file .*none.{ending}"):
            load(tmp_path / f"none.{ending}", label="y")
    (tmp_path / "trees.csv").write_bytes(b"\xff\xfe\x00,\x81")
    with pytest.raises(LimbeckError, match=r"not a readable \.csv file"):
        load(tmp_path / "trees.csv", label="y")


def test_a_table_without_rows() -> None:
    empty = table_of({"a": [], "y": []}, "none.parquet", Reading(label="y")).train
    assert empty[0].shape == (0, 1)
    with pytest.raises(LimbeckError, match="empty|no "):
        load(empty, kind="table")


def test_parquet_columns(tmp_path: Path) -> None:
    file = tmp_path / "trees.parquet"
    columns: dict[str, list[Any]] = {
        "length": [*range(30)],
        "width": [i / 4 for i in range(30)],
        "tall": [True, False] * 15,
    }
    columns["species"] = ["oak", "elm", "ash"] * 10
    with without_extras():
        file.write_bytes(pickle.dumps(columns))
        data = load(f"{file},label=species")
        assert data.image_shape == (3, 1, 1) and data.class_names == ("ash", "elm", "oak")
        file.write_bytes(pickle.dumps(columns | {"width": [None, *range(29)]}))
        with pytest.raises(LimbeckError, match=r"missing values in the columns width \(1\)"):
            load(file, label="species")
        with pytest.raises(LimbeckError, match="has columns that are not numbers: species"):
            load(file, label="tall")
        lists = {"parts": [[i, 2 * i] for i in range(30)], "species": columns["species"], "width": columns["width"]}
        file.write_bytes(pickle.dumps(lists))
        data = load(file, label="species")  # lists of one length are several features
        assert data.image_shape == (3, 1, 1) and data.kind == "table"
        file.write_bytes(pickle.dumps({"image": [{"bytes": b"", "path": None}] * 30, "species": columns["species"]}))
        with pytest.raises(LimbeckError, match="column image of .* holds pictures as Hugging Face.*load_dataset"):
            load(file, label="species")
        file.write_bytes(pickle.dumps({"species": ["oak", "elm"]}))
        with pytest.raises(LimbeckError, match="no column besides the labels"):
            load(file, label="species")


@pytest.mark.parametrize(("module", "extra"), [("pyarrow.parquet", "parquet"), ("datasets", "huggingface")])
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    (tmp_path / "mine.parquet").write_bytes(b"")
    (tmp_path / "dataset_info.json").write_text("{}")
    source = tmp_path / "mine.parquet" if extra == "parquet" else tmp_path
    with pytest.raises(LimbeckError, match=rf"pip install 'limbeck\[{extra}\]'"):
        load(source)


# --- Hugging Face ----------------------------------------------------------------------------------------------------

NAMES = ClassLabel(names=["ape", "cat", "dog"])
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3)).astype(np.uint8)


class Image(SimpleNamespace):
    """The feature of that name, of Hugging Face."""


def rows(**columns: Any) -> list[dict[str, Any]]:
    table = {"label": [i % 3 for i in range(30)]} | columns
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def pictures(*shape: int) -> list[Any]:
    return [Pillow.fromarray(image) for image in (IMAGES if not shape else IMAGES.reshape(30, *shape))]


def test_pictures_and_class_labels() -> None:
    dataset = Rows(rows(photo=pictures(), id=range(30)), photo=Image(), label=NAMES, id=SimpleNamespace())
    data = load(dataset)
    assert data.class_names == ("ape", "cat", "dog") and data.image_shape == (3, 6, 6) and data.name == "hugging-face"
    assert load(Rows(rows(image=pictures()))).sha256 == data.sha256  # without features
    stream = RowStream(rows(photo=pictures()), photo=Image(), label=NAMES)
    assert load(stream).sha256 == data.sha256
    assert len(load(stream, limit=20).train_y) < len(data.train_y)
    parts = load({"train": dataset, "validation": stream, "test": dataset})
    assert sum(map(len, (parts.train_y, parts.val_y))) == 60 and len(parts.test_y) == 30
    assert load({"everything": dataset}).sha256 == data.sha256
    with pytest.raises(LimbeckError, match="has the parts a, b; give one that is called train"):
        load({"a": dataset, "b": dataset})


def test_pictures_of_other_sizes() -> None:
    images = pictures()
    images[3] = images[3].resize((9, 9))
    with pytest.warns(UserWarning, match="1 of the 30 pictures of hugging-face are of another size"):
        assert load(Rows(rows(image=images))).image_shape == (3, 6, 6)


def test_columns_are_asked_for() -> None:
    two = Rows(rows(left=pictures(), right=pictures()), left=Image(), right=Image(), label=NAMES)
    with pytest.raises(
        LimbeckError, match="column of the images of hugging-face could be left or right; name it with the"
    ):
        load(two)
    assert load(two, image="right").image_shape == (3, 6, 6)
    both = Rows(rows(image=pictures(), fine=[0, 1, 2] * 10), image=Image(), label=NAMES, fine=NAMES)
    with pytest.raises(LimbeckError, match="column of the labels of hugging-face could be label or fine"):
        load(both)
    assert load(both, label="fine").num_classes == 3
    with pytest.raises(LimbeckError, match="has no column pixels; it has the columns label, image, fine"):
        load(both, image="pixels")
    with pytest.raises(LimbeckError, match="has no column kind"):
        load(both, label="kind")
    unlabelled = [{"image": image, "kind": 0} for image in pictures()]
    with pytest.raises(LimbeckError, match="column of the labels of hugging-face cannot be told; name it"):
        load(Rows(unlabelled))


def test_numbers_of_hugging_face_are_a_table() -> None:
    data = load(Rows(rows(a=[i / 2 for i in range(30)], b=range(30)), label=NAMES))
    assert data.kind == "table" and data.image_shape == (2, 1, 1) and data.class_names == ("ape", "cat", "dog")
    with pytest.raises(LimbeckError, match="has columns that are not numbers: text"):
        load(Rows(rows(a=range(30), text=["x"] * 30)))
    with pytest.raises(LimbeckError, match="has only the column label"):
        load(Rows(rows()))
    with pytest.raises(LimbeckError, match="has a part without examples"):
        load(Rows([]))


def png(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def test_pictures_that_nobody_decoded(tmp_path: Path) -> None:
    pictures()[0].save(tmp_path / "0.png")
    stored = [{"bytes": png(picture), "path": None} for picture in pictures()]
    stored[0] = {"bytes": None, "path": str(tmp_path / "0.png")}
    data = load(Rows(rows(image=stored), image=Image(), label=NAMES))
    assert data.sha256 == load(Rows(rows(image=pictures()))).sha256
    stored[4] = {"bytes": b"none", "path": None}
    with pytest.raises(LimbeckError, match="Picture 4 of the data set cannot be read .cannot identify image"):
        load(Rows(rows(image=stored), image=Image(), label=NAMES))


def test_images_that_are_missing_or_damaged() -> None:
    with pytest.raises(LimbeckError, match="Example 5 of hugging-face has no image"):
        load(Rows(rows(image=[*pictures()[:5], None, *pictures()[6:]]), image=Image(), label=NAMES))

    class Damaged(Rows):
        def __getitem__(self, index: int) -> dict[str, Any]:
            if index == 3:
                raise OSError("truncated")
            return super().__getitem__(index)

    with pytest.raises(LimbeckError, match="Row 3 of the data set cannot be read .truncated.; repair or leave it out"):
        load(Damaged(rows(image=pictures()), image=Image(), label=NAMES))


def test_lists_of_bytes_are_bytes() -> None:
    inner = SimpleNamespace(feature=None, dtype="uint8")
    feature = SimpleNamespace(feature=SimpleNamespace(feature=inner))
    data = load(Rows(rows(image=[image.tolist() for image in IMAGES]), image=feature, label=NAMES), channels="last")
    assert data.train_x.dtype == torch.uint8 and data.preprocessing.scale == 1 / 255


def test_rows_that_are_tables_are_read_as_values() -> None:
    plain = Rows(rows(image=pictures()), image=Image(), label=NAMES)

    class Formatted(Rows):
        format: Any = {"type": "arrow"}  # noqa: RUF012

        def with_format(self, kind: str | None) -> Rows:
            assert kind is None
            return plain

    assert load(Formatted([{"table": 1}], image=Image(), label=NAMES)).sha256 == load(plain).sha256


def test_the_real_packages_where_they_are_installed(tmp_path: Path) -> None:
    datasets, parquet = pytest.importorskip("datasets"), pytest.importorskip("pyarrow.parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ape", "cat", "dog"])})
    table = {"image": pictures(), "label": [i % 3 for i in range(30)]}
    dataset = datasets.Dataset.from_dict(table, features=features)
    expected = load(dataset)
    assert expected.class_names == ("ape", "cat", "dog") and expected.train_x.dtype == torch.uint8
    dataset.save_to_disk(tmp_path / "saved")
    undecoded = dataset.cast_column("image", datasets.Image(decode=False))
    formats = [dataset.with_format(name) for name in ("torch", "numpy", "arrow")]
    for same in (str(tmp_path / "saved"), dataset.to_iterable_dataset(), undecoded, *formats):
        assert load(same).sha256 == expected.sha256
    numbers = datasets.Dataset.from_dict({"a": [*range(30)], "label": table["label"]})
    parquet.write_table(numbers.data.table, tmp_path / "numbers.parquet")
    assert load(str(tmp_path / "numbers.parquet"), label="label").image_shape == (1, 1, 1)
