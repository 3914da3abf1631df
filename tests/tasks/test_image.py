"""The Image task: grey values, splits, sources, restricted pickles, and what bad data is told."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from lra.tasks.base import DataError
from lra.tasks.image import cifar_batches, exam
from lra.tasks.image.exam import Image, grey

# SHA-256 of what tf.image.rgb_to_grayscale of TensorFlow 2.21.0 made of all 2^24 colours, in order.
TENSORFLOW_GREY = "824a76d81dad2c5a2cf1fa0b2c0a5afe7d871ec2970e4fa2809b53ddbecdca93"


def pictures(count: int, seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), [i % 10 for i in range(count)]


def encode(rgb: np.ndarray, kind: str = "PNG") -> bytes:
    handle = io.BytesIO()
    Pillow.fromarray(rgb).save(handle, kind)
    return handle.getvalue()


def write(folder: Path, kind: str = "PNG", **splits: tuple[np.ndarray, list[int]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (rgb, labels) in splits.items():
        cells = [{"bytes": encode(x, kind), "path": None} for x in rgb]
        pq.write_table(pa.table({"img": cells, "label": labels}), folder / f"{name}-00000-of-00001.parquet")
    return folder


def write_batches(folder: Path, train: tuple[np.ndarray, list[int]], test: tuple[np.ndarray, list[int]]) -> Path:
    """As the original archive: one dict of bytes keys a file, colours in planes, pickle protocol 2."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb, labels = train
    step = len(rgb) // 5
    for i in range(5):
        part = slice(i * step, (i + 1) * step)
        write_batch(folder / f"data_batch_{i + 1}", rgb[part], labels[part])
    write_batch(folder / "test_batch", *test)
    return folder


def write_batch(file: Path, rgb: np.ndarray, labels: list[int]) -> None:
    planes = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)).reshape(len(rgb), -1)
    content = pickle.dumps({b"batch_label": b"batch", b"labels": labels, b"data": planes, b"filenames": []}, protocol=2)
    # NumPy 1, which wrote the originals, had the function at this place.
    file.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write(tmp_path / "cifar", train=pictures(50, 0), test=pictures(20, 1))


def task_of(path: Path, **params) -> Image:
    return Image(path=str(path), data_dir=str(path.parent / "stores"), **params)


def float32(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def slow_grey(red: int, green: int, blue: int) -> int:
    """TensorFlow's steps, one rounding to float32 after each operation; no array library."""
    total = 0.0
    for value, weight in ((red, 0.2989), (green, 0.5870), (blue, 0.1140)):
        scaled = float32(value * float32(1 / 255))
        total = float32(total + float32(scaled * float32(weight)))
    return int(float32(total * 255.5))


def test_grey_is_tensorflows_for_every_colour() -> None:
    whole = hashlib.sha256()
    blue = np.arange(1 << 16, dtype=np.uint32)
    for red in range(256):
        colours = np.stack([np.full(1 << 16, red), blue >> 8, blue & 255], axis=-1).astype(np.uint8)
        whole.update(grey(colours))
    assert whole.hexdigest() == TENSORFLOW_GREY


def test_grey_equals_the_slow_reference() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20_000, 3), np.uint8)
    colours[:4] = (0, 0, 0), (255, 255, 255), (0, 122, 186), (3, 254, 50)  # two where float32 decides
    assert grey(colours).tolist() == [slow_grey(*c) for c in colours.tolist()]


def test_pixels_are_tokens_row_by_row(small: Path) -> None:
    task = task_of(small)
    test = task.split("test")
    rgb, labels = pictures(20, 1)
    for i in (0, 7, 19):
        tokens = test[i].documents[0]
        expected = [slow_grey(*rgb[i, row, column].tolist()) + 1 for row in range(32) for column in range(32)]
        assert tokens.tolist() == expected and test[i].label == labels[i]
    batch = task.collate([test[0], test[1]])
    assert batch.tokens.shape == (2, 1024) and batch.mask.all() and batch.tokens.min() >= 1
    assert task.vocab_size == 257


def test_black_is_a_pixel_and_no_padding(tmp_path: Path) -> None:
    black = np.zeros((20, 32, 32, 3), np.uint8), [0, 1] * 10
    task = task_of(write(tmp_path / "black", train=black, test=black))
    batch = task.collate([task.split("test")[0]])
    assert (batch.tokens == 1).all() and batch.mask.all()


def test_valid_is_the_end_of_train_in_order(small: Path) -> None:
    task = task_of(small)
    rgb, labels = pictures(50, 0)
    assert [len(task.split(s)) for s in ("train", "valid", "test")] == [45, 5, 20]
    assert task.split("train").labels.tolist() == labels[:45]
    assert task.split("valid").labels.tolist() == labels[45:]
    assert (task.split("valid")[0].documents[0] - 1 == grey(rgb[45]).reshape(-1)).all()
    assert task.row == "image-50+20rows"


def test_fewer_items_to_score_and_another_length_show(small: Path) -> None:
    task = task_of(small, eval_items=10, max_len=100)
    assert np.bincount(task.split("test").labels).tolist() == [1] * 10
    assert task.row == "image-100-50+20rows-test10"
    assert len(task.split("test")[0].documents[0]) == 100
    assert task.fingerprint() != task_of(small, max_len=100).fingerprint()


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    task = Image(path=str(tmp_path / "absent"), data_dir=str(tmp_path))
    assert (task.vocab_size, task.num_classes, task.documents, task.max_len, task.row) == (257, 10, 1, 1024, "image")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="absent is not a folder"):
        task.split("train")


def test_decoded_once_and_found_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = task_of(small)
    fingerprint = first.fingerprint()
    monkeypatch.setattr(exam, "decode", lambda *_: pytest.fail("decoded again"))
    again = task_of(small)
    assert again.fingerprint() == fingerprint
    assert (again.split("train")[3].documents[0] == first.split("train")[3].documents[0]).all()


def test_other_pixels_get_another_store(small: Path) -> None:
    before = task_of(small).fingerprint()
    write(small, train=pictures(50, 5))
    assert task_of(small).fingerprint() != before


def test_original_batches_equal_the_hub_copy(small: Path, tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "data" / "cifar-10-batches-py", pictures(50, 0), pictures(20, 1))
    for path in (folder, folder.parent):
        task = task_of(path)
        assert task.fingerprint() == task_of(small).fingerprint()
        assert (task.split("test")[4].documents[0] == task_of(small).split("test")[4].documents[0]).all()
    assert task.notes()["jpeg_images"] == 0


@pytest.mark.parametrize("name", ["image", "image_jpeg"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_row_says_what_pixels_it_was(tmp_path: Path, name: str, kind: str) -> None:
    task = task_of(write(tmp_path / "c", kind, train=pictures(50, 0), test=pictures(20, 1)), name=name)
    assert task.row == name
    task.split("train")
    assert task.row == ("image_jpeg" if kind == "JPEG" else "image") + "-50+20rows"
    assert task.notes()["jpeg_images"] == (70 if kind == "JPEG" else 0)


class Forged:
    """Pickles to a call of `function`."""

    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(exec, "__builtin__.exec"), (getattr, "__builtin__.getattr"), (np.load, "numpy.load"), (Path, "pathlib")],
)
def test_pickles_run_nothing(tmp_path: Path, function, name: str) -> None:
    folder = write_batches(tmp_path / "c", pictures(50, 0), pictures(20, 1))
    mark = tmp_path / "ran"
    args = {exec: (f"open({str(mark)!r}, 'w')",), getattr: ([], "append")}.get(function, (str(mark),))
    content = pickle.dumps({b"labels": [0], b"data": Forged(function, *args)}, protocol=2)
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3 is not a CIFAR-10 batch: it asks for " + name) as caught:
        task_of(folder).split("train")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_codecs_in_a_pickle_only_make_latin1(tmp_path: Path) -> None:
    import _codecs

    folder = write_batches(tmp_path / "c", pictures(50, 0), pictures(20, 1))
    (folder / "test_batch").write_bytes(pickle.dumps(Forged(_codecs.encode, "x", "rot13"), protocol=2))
    with pytest.raises(DataError, match="_codecs.encode to rot13"):
        task_of(folder).split("train")


BATCHES = {
    "cut": (b"\x80\x02}q\x00", "is not a CIFAR-10 batch"),
    "empty": (b"", "is not a CIFAR-10 batch"),
    "list": (pickle.dumps([1], protocol=2), "has no data of 3072 bytes an image"),
    "shape": (pickle.dumps({b"data": np.zeros((2, 784), np.uint8), b"labels": [0, 1]}, protocol=2), "3072 bytes"),
    "type": (
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, protocol=2),
        "an array is of type 'f8', not of bytes .u1.",
    ),
    "count": (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, protocol=2), "one label an image"),
    "label": (
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}, protocol=2),
        "row 1: label 10 is not one of 0 to 9",
    ),
    "cifar100": (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 1]}, protocol=2), "label"),
}


@pytest.mark.parametrize("case", BATCHES)
def test_bad_batches_get_one_clear_line(tmp_path: Path, case: str) -> None:
    content, message = BATCHES[case]
    folder = write_batches(tmp_path / "c", pictures(50, 0), pictures(20, 1))
    (folder / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        task_of(folder).split("train")
    assert "data_batch_2" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "c", pictures(50, 0), pictures(20, 1))
    (folder / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4 does not exist"):
        task_of(folder).split("train")


GOOD = {"bytes": encode(pictures(1, 0)[0][0]), "path": None}
BAD = {
    "columns": ({"image": [GOOD], "label": [0]}, "columns are image, label; img, label are needed"),
    "label": ({"img": [GOOD, GOOD], "label": [0, 10]}, "row 1: label 10 is not one of 0 to 9"),
    "type": ({"img": ["a.png"], "label": [0]}, "img is string, an image"),
    "no_bytes": ({"img": [{"bytes": None, "path": "a.png"}], "label": [0]}, "1 images have no bytes"),
    "size": (
        {"img": [GOOD, {"bytes": encode(np.zeros((28, 24, 3), np.uint8)), "path": None}], "label": [0, 1]},
        "row 1: the image is 24x28 pixels of 8-bit RGB; 32x32 of 8-bit RGB is needed",
    ),
    "no_image": ({"img": [{"bytes": b"GIF89a", "path": None}], "label": [0]}, "row 0: the image cannot be decoded"),
    "cut": (
        {"img": [{"bytes": GOOD["bytes"][:900], "path": None}], "label": [0]},
        "row 0: the image cannot be decoded",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_get_one_clear_line(small: Path, case: str) -> None:
    table, message = BAD[case]
    pq.write_table(pa.table(table), small / "train-00000-of-00001.parquet")
    with pytest.raises(DataError) as caught:
        task_of(small).split("train")
    assert message in str(caught.value) and "train" in str(caught.value) and "\n" not in str(caught.value)
    stores = small.parent / "stores"
    assert not stores.exists() or not [f for f in stores.iterdir() if not f.name.endswith(".lock")]


KINDS = {
    "RGBA": Pillow.new("RGBA", (32, 32), (1, 2, 3, 4)),
    "16-bit grey": Pillow.new("I;16", (32, 32), 300),
    "palette": Pillow.new("P", (32, 32)),
    "8-bit grey": Pillow.new("L", (32, 32)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_that_would_be_changed_on_reading_are_refused(small: Path, kind: str) -> None:
    handle = io.BytesIO()
    KINDS[kind].save(handle, "PNG")
    cells = [{"bytes": handle.getvalue(), "path": None}] * 20
    pq.write_table(pa.table({"img": cells, "label": [0, 1] * 10}), small / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=f"row 0: the image is 32x32 pixels of .*{kind}; 32x32 of 8-bit RGB is needed"):
        task_of(small).split("train")


def test_a_huge_header_is_refused_before_anything_is_decoded(small: Path) -> None:
    bomb = bytearray(GOOD["bytes"])
    bomb[16:24] = struct.pack(">II", 30_000, 30_000)
    cells = [{"bytes": bytes(bomb), "path": None}] * 20
    pq.write_table(pa.table({"img": cells, "label": [0, 1] * 10}), small / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="row 0: the image is 30000x30000 pixels"):
        task_of(small).split("train")


def test_one_class_and_one_image_are_refused(tmp_path: Path) -> None:
    for count, message in ((20, "every training item has label 0"), (1, "1 images are too few to split off 10 %")):
        folder = write(tmp_path / str(count), train=(pictures(count, 0)[0], [0] * count), test=pictures(20, 1))
        with pytest.raises(DataError, match=message):
            task_of(folder).split("train")


def test_an_image_under_two_labels_is_noted(tmp_path: Path) -> None:
    rgb, labels = pictures(50, 0)
    rgb[7] = rgb[3]
    task = task_of(write(tmp_path / "c", train=(rgb, labels), test=pictures(20, 1)))
    assert task.notes()["train_images_under_two_labels"] == 1


def python2(rgb: np.ndarray, labels: list[int]) -> bytes:
    """A batch as cPickle of Python 2 wrote the originals: every text a string of bytes (opcodes U and T)."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    planes = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)).tobytes()
    out = b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
    out += text(b"labels") + b"q\x04]q\x05(" + b"".join(b"K" + bytes([y]) for y in labels) + b"e"
    out += text(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
    out += (
        b"K\x00\x85q\x09" + text(b"b") + b"\x87q\x0aRq\x0b(K\x01M" + struct.pack("<H", len(rgb)) + b"M\x00\x0c\x86q\x0c"
    )
    out += b"cnumpy\ndtype\nq\x0d" + text(b"u1") + b"q\x0eK\x00K\x01\x87q\x0fRq\x10(K\x03" + text(b"|") + b"NNN"
    out += b"J\xff\xff\xff\xff" * 2 + b"K\x00tb\x89T" + struct.pack("<i", len(planes)) + planes + b"tb"
    out += text(b"filenames") + b"q\x11]q\x12(" + b"".join(text(b"a_%d.png" % y) for y in labels) + b"eu."
    return out


def test_batches_of_every_writer_are_read(tmp_path: Path) -> None:
    rgb, labels = pictures(12, 4)
    rows = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)).reshape(12, -1)
    batch = {b"batch_label": b"", b"labels": labels, b"data": rows, b"filenames": [b"a.png"] * 12}
    texts = {k.decode(): v for k, v in batch.items()}
    contents = [pickle.dumps(b, protocol=p) for b in (batch, texts) for p in (2, 3, 4, 5)]
    contents.append(pickle.dumps(batch | {b"data": np.asfortranarray(rows)}, protocol=2))
    for content in [python2(rgb, labels), *contents, *(c.replace(b"numpy._core", b"numpy.core") for c in contents[:2])]:
        (tmp_path / "b").write_bytes(content)
        read, classes = cifar_batches._read_batch(tmp_path / "b")
        assert (read == rgb).all() and classes.tolist() == labels


def test_a_forged_state_reaches_no_numpy(tmp_path: Path) -> None:
    """Of a dtype's state NumPy believes everything: names and fields that are none end Python (SIGSEGV)."""
    rgb, labels = pictures(12, 4)
    good = python2(rgb, labels)
    state = good.index(b"(K\x03U\x01|NNN")
    forged = good[:state] + b"(K\x03U\x01|NX\x01\x00\x00\x00a}" + good[state + 9 :]
    (tmp_path / "b").write_bytes(forged)
    assert (cifar_batches._read_batch(tmp_path / "b")[0] == rgb).all()  # the type is u1, whatever its state says
    twice = (
        b"\x80\x02}(" + b"U\x01a](" + b"]" * 2 + b"e" + b"U\x06labels" + b"](" + b"]q\x00" + b"h\x00h\x00\x86q\x00" * 60
    )
    for content in (twice + b"eu.", b"\x80\x02" + b"]" + b"\x85" * 100_000 + b".", b"\x80\x02]q\x00h\x00a."):
        (tmp_path / "b").write_bytes(content)
        with pytest.raises(DataError):
            cifar_batches._read_batch(tmp_path / "b")


def test_every_cut_and_many_changes_of_a_batch_are_one_line(tmp_path: Path) -> None:
    rgb, labels = pictures(2, 4)
    good, rng = python2(rgb, labels), np.random.default_rng(7)
    head = good.index(b"T" + struct.pack("<i", 6144)) + 5
    changed = [good[:n] for n in range(0, len(good), 97)]
    for _ in range(1500):
        spoilt = bytearray(good)
        for at in rng.integers(0, head + 40, rng.integers(1, 4)):
            spoilt[at if at < head else len(good) - 1 - (at - head)] = rng.integers(256)
        changed.append(bytes(spoilt))
    refused = 0
    for content in changed:
        (tmp_path / "b").write_bytes(content)
        try:
            cifar_batches._read_batch(tmp_path / "b")
        except DataError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 400
    assert refused > 600


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_len": 2048}, "task.max_len: 2048 is above the 1024 pixels of an image"),
        ({"eval_items": True}, "task.eval_items: True is not a positive number"),
    ],
)
def test_bad_parameters_name_the_field(params: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Image(**params)


@pytest.mark.shared
def test_lossless_images_are_grey_to_the_digit(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "cifar10_lossless_head"
    task = Image(path=str(folder), data_dir=str(tmp_path))
    train, valid, test = (task.split(s) for s in ("train", "valid", "test"))
    assert (len(train), len(valid), len(test)) == (4576, 509, 1017)
    assert task.row == "image-5085+1017rows" and task.notes()["jpeg_images"] == 0
    for name, split, first in (("train", train, (59, 62, 63)), ("test", test, (158, 112, 49))):
        table = pq.read_table(folder / f"{name}-00000-of-00001.parquet")
        assert table["label"].to_pylist()[: len(split)] == split.labels.tolist()
        for i in (0, 1, len(split) - 1):
            with Pillow.open(io.BytesIO(table["img"][i]["bytes"].as_py())) as picture:
                colours = [tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()]
            assert i or colours[0] == first
            assert split[i].documents[0].tolist() == [slow_grey(*c) + 1 for c in colours]


@pytest.mark.shared
@pytest.mark.slow
def test_the_jpeg_copy_is_whole(shared_data: Path, tmp_path: Path) -> None:
    task = Image(path=str(shared_data / "hub" / "uoft-cs" / "cifar10"), data_dir=str(tmp_path))
    train, valid, test = (task.split(s) for s in ("train", "valid", "test"))
    assert (len(train), len(valid), len(test)) == (45_000, 5_000, 10_000)
    assert (np.bincount(train.labels) + np.bincount(valid.labels)).tolist() == [5_000] * 10
    assert np.bincount(test.labels).tolist() == [1_000] * 10
    assert train.labels[:5].tolist() == [6, 9, 9, 4, 1] and test.labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert (task.row, task.notes()["jpeg_images"]) == ("image_jpeg", 60_000)
    assert task.notes()["train_images_also_in_test"] == 0
