"""The Pathfinder task: sources, splits, shards that outlive a kill, and one line for bad input."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from lra.tasks import files, store
from lra.tasks.base import SPLITS, DataError
from lra.tasks.pathfinder import exam
from lra.tasks.pathfinder.discs import find_discs
from lra.tasks.pathfinder.exam import Pathfinder
from lra.tasks.pathfinder.parameters import parameters
from tests.help import tiny as toy
from tests.help.warm import Asked

# What is compiled for it is so once.
pytestmark = pytest.mark.xdist_group("pathfinder")


def generated(folder, **more) -> Pathfinder:
    return Pathfinder(**({"contour_length": 6, "num_images": 1200, "data_dir": folder} | more))


def contents(task: Pathfinder) -> dict[str, list[tuple[bytes, int]]]:
    return {
        name: [(e.documents[0].astype(np.uint8).tobytes(), e.label) for e in map(split.__getitem__, range(len(split)))]
        for name, split in ((name, task.split(name)) for name in SPLITS)
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Pathfinder:
    return generated(tmp_path_factory.mktemp("data"))


def test_construction_reads_and_makes_nothing(tmp_path):
    task = generated(tmp_path / "absent")
    assert (task.vocab_size, task.max_len, task.num_classes, task.documents) == (257, 1024, 2, 1)
    assert not (tmp_path / "absent").exists()


def test_generated_splits(whole):
    assert [len(whole.split(name)) for name in SPLITS] == [960, 120, 120]
    split = whole.split("train")
    (tokens,), label = split[3]
    assert tokens.shape == (1024,) and tokens.dtype == np.int64 and label in (0, 1)
    assert tokens.min() == 1 and tokens.max() == 256  # black is data; 0 only pads
    assert (split.lengths == 1024).all() and split.labels[3] == label
    assert abs(split.labels.mean() - 0.5) < 0.06
    batch = whole.collate([split[0], split[1]])
    assert batch.mask.all() and batch.tokens.shape == (2, 1024)
    images = [image for part in contents(whole).values() for image, _ in part]
    assert len(set(images)) == 1200  # disjoint


def test_any_number_of_workers_makes_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(exam, "SHARD", 50)
    one, two = (generated(tmp_path / str(n), workers=n, num_images=200) for n in (1, 2))
    assert contents(one) == contents(two) and one.fingerprint() == two.fingerprint()
    for name in ("images", "labels", "order"):
        assert (one.folder() / f"{name}.npy").read_bytes() == (two.folder() / f"{name}.npy").read_bytes()


def test_fewer_images_are_the_first_ones(whole, tmp_path):
    few = generated(tmp_path, num_images=700)
    few.split("train")
    whole.split("train")
    assert (store.array(few.folder(), "images") == store.array(whole.folder(), "images")[:700]).all()


def test_fingerprints_and_rows(whole, tmp_path):
    others = [{"seed": 1}, {"num_images": 1201}, {"contour_length": 9}, {"changes": {"num_distractors": 1}}]
    prints = {generated(tmp_path, **other).fingerprint() for other in others} | {whole.fingerprint()}
    assert len(prints) == 5
    assert Pathfinder().row == "pathfinder" and Pathfinder("pathx", 128).row == "pathx"
    assert whole.row == "pathfinder-contour6-1200images"
    assert Pathfinder(resolution=64).row == "pathfinder-64px"
    assert Pathfinder(changes={"num_distractors": 1}).row == "pathfinder-num_distractors=1"


def test_equal_images_stay_in_one_split():
    keys = np.repeat(np.arange(10, dtype=np.uint64), [1, 1, 1, 1, 1, 1, 1, 5, 1, 7])[:, None].repeat(2, 1)
    assert (exam.bound(keys, 8), exam.bound(keys, 9)) == (20, 20)
    assert exam.bound(np.arange(20, dtype=np.uint64)[:, None].repeat(2, 1), 8) == 16


def test_the_split_does_not_depend_on_order(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (200, 16), np.uint8), rng.integers(0, 2, 200).astype(np.uint8)
    images[50] = images[7]
    labels[50] = labels[7]
    seen = []
    for k, order in enumerate((np.arange(200), rng.permutation(200))):
        folder = tmp_path / str(k)
        folder.mkdir()
        blocks = [(images[part], labels[part]) for part in np.array_split(order, k + 2)]
        facts = exam.write(folder, blocks, 200, 16)
        arrays = {n: np.load(folder / f"{n}.npy") for n in ("images", "labels", "order")}
        seen.append((facts, arrays["images"][arrays["order"]].tolist(), arrays["labels"][arrays["order"]].tolist()))
    assert seen[0] == seen[1]


# Killed while it writes its third shard. The size of a shard is part of what a seed means: here it is small.
SCRIPT = """
import os, signal
from lra.tasks.pathfinder import Pathfinder, exam
exam.SHARD, files, whole = 50, [], exam.write_whole
def third(file, data):
    files.append(file)
    if len(files) == 3:
        file.with_suffix(".draft").write_bytes(bytes(data)[:99])
        os.kill(os.getpid(), signal.SIGKILL)
    whole(file, data)
exam.write_whole = third
Pathfinder(num_images=600, data_dir=FOLDER, workers=2).split("train")
"""


def test_a_killed_run_keeps_its_shards(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "tests.help.program", SCRIPT.replace("FOLDER", repr(str(tmp_path)))]
    assert Asked(command, cwd=toy.ROOT, env=toy.environment()).wait(120) == -signal.SIGKILL
    monkeypatch.setattr(exam, "SHARD", 50)
    task = Pathfinder(num_images=600, data_dir=tmp_path, workers=2)
    shards = task.folder().with_name(f"{task.folder().name}.shards")
    before = {f: (f.stat().st_ino, f.stat().st_mtime_ns) for f in shards.glob("*.npz")}
    assert 1 <= len(before) <= 2 and list(shards.glob("*.draft")) and not task.folder().exists()

    files = exam.draw_shards(task.parameters, 0, 600, shards, 2, "again")
    assert len(files) == 12
    assert {f: (f.stat().st_ino, f.stat().st_mtime_ns) for f in before} == before
    task.split("train")
    assert not shards.exists() and not list(tmp_path.glob(".*draft"))
    undisturbed = Pathfinder(num_images=600, data_dir=tmp_path / "other", workers=2)
    undisturbed.split("train")
    for name in ("images", "labels", "order"):
        assert (task.folder() / f"{name}.npy").read_bytes() == (undisturbed.folder() / f"{name}.npy").read_bytes()


def test_full_disk(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"^data_dir: no space left in .*LRA_DATA\) to another disk$"):
            generated(tmp_path).split("train")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(DataError, match="no space left"):
        generated(tmp_path, num_images=1300).split("train")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 48}, "task.resolution: 48 is not one of 16, 32, 64, 128, 256"),
        ({"contour_length": 7}, "task.contour_length: 7 is not one of 6, 9, 14, the lengths at task.resolution=32"),
        ({"resolution": 16}, "task.contour_length: 14 is not one of 2, 3, 4, the lengths at task.resolution=16"),
        (
            {"resolution": 16, "contour_length": 2, "path": "/no/where"},
            "task.path: the release has no images of 16x16; take task.resolution=32 task.contour_length=14 ",
        ),
        ({"max_len": 1000}, "task.max_len: 1000 is not 1024, the pixels of 32x32"),
        ({"num_images": 9}, "task.num_images: 9 is not a whole number of at least 10"),
        ({"workers": 0}, "task.workers: 0 is not a whole number of at least 1"),
        ({"path": "/no/where"}, "task.path: /no/where is not a folder"),
        ({"changes": {"colour": 1}}, "task.changes: .*'colour'"),
    ],
)
def test_bad_settings(wrong, message, tmp_path):
    with pytest.raises(DataError, match=message):
        Pathfinder(**wrong, data_dir=tmp_path).split("train")


@pytest.fixture
def tiny(tmp_path):
    """The release's layout with 2 x 6 images of 32 x 32; metadata out of alphabetical order."""
    folder = tmp_path / "lra_release" / "pathfinder32" / "curv_baseline"
    (folder / "metadata").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for k in (2, 10):
        (folder / "imgs" / str(k)).mkdir(parents=True)
        lines = []
        for i in range(6):
            pixels = rng.integers(0, 256, (32, 32)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "imgs" / str(k) / f"sample_{i}.png")
            lines.append(f"imgs/{k} sample_{i}.png {i} {i % 2} 1.0 6 2 2 0.5 1 1\n")
        (folder / "metadata" / f"{k}.npy").write_text("".join(lines))
    return folder


def easy(path, tmp_path) -> Pathfinder:
    return Pathfinder(contour_length=6, path=str(path), data_dir=tmp_path / "data")


def test_every_way_to_name_the_release(tiny, tmp_path):
    doubled = tmp_path / "outer" / "lra_release"
    shutil.copytree(tmp_path / "lra_release", doubled / "lra_release")
    paths = [tiny, tiny.parent, tiny.parent.parent, tmp_path, doubled, doubled.parent]
    tasks = [easy(path, tmp_path) for path in paths]
    assert len({task.fingerprint() for task in tasks}) == 1
    assert tasks[0].row == "pathfinder-contour6-12images"
    images = store.array(tasks[0].folder(), "images")
    first = np.asarray(Image.open(tiny / "imgs" / "2" / "sample_0.png"))  # 2 comes before 10
    assert (images[0].reshape(32, 32) == first).all() and len(images) == 12


def test_the_inner_folder_is_found_first(tmp_path):
    for place in ("pathfinder128", "lra_release/pathfinder128"):
        (tmp_path / place / "curv_baseline" / "metadata").mkdir(parents=True)
    task = Pathfinder(resolution=128, contour_length=6, path=str(tmp_path))
    assert task.find() == tmp_path / "lra_release" / "pathfinder128" / "curv_baseline"


def test_an_empty_image_is_skipped_and_named(tiny, tmp_path, caplog):
    (tiny / "imgs" / "2" / "sample_4.png").write_bytes(b"")
    task = easy(tiny, tmp_path)
    assert sum(len(task.split(name)) for name in SPLITS) == 11
    assert "sample_4.png is empty" in caplog.text
    assert store.manifest(task.folder())["facts"]["skipped"] == [str(tiny / "imgs" / "2" / "sample_4.png")]


def test_a_run_says_what_it_skips(tiny, tmp_path):
    """Hydra sets up logging too."""
    (tiny / "imgs" / "2" / "sample_4.png").write_bytes(b"")
    words = [f"{place}_dir={tmp_path / place}" for place in ("data", "results", "output")]
    words += [
        "task=pathfinder",
        "task.resolution=32",
        "task.contour_length=6",
        f"task.path={tiny}",
        "train.steps=1",
        "train.batch_size=4",
        "size.dim=16",
        "size.qkv_dim=16",
        "size.mlp_dim=16",
        "size.depth=1",
        "measure.enabled=false",
    ]
    done = toy.lra(*words)
    assert done.returncode == 0 and "sample_4.png is empty and skipped" in done.stderr, done.stderr


def test_changed_labels_are_read_again(tiny, tmp_path):
    before = easy(tiny, tmp_path).fingerprint()
    file = tiny / "metadata" / "2.npy"
    file.write_text(file.read_text().replace(" 0 0 1.0 ", " 0 1 1.0 "))
    assert easy(tiny, tmp_path).fingerprint() != before


def spoil_image(tiny, size=(32, 32), mode="L"):
    Image.new(mode, size).save(tiny / "imgs" / "10" / "sample_3.png")


def spoil_line(tiny, line):
    (tiny / "metadata" / "10.npy").write_text(line)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: spoil_image(t, (64, 64)), r"sample_3.png has 64x64 pixels.*task.resolution 32"),
        (lambda t: spoil_image(t, mode="RGB"), r"sample_3.png has 32x32 pixels of 8-bit RGB"),
        (lambda t: (t / "imgs/10/sample_3.png").write_bytes(b"\x89PNG\r\n"), r"sample_3.png cannot be read"),
        (lambda t: (t / "imgs/10/sample_3.png").unlink(), r"10.npy:4: .*sample_3.png cannot be read \(No such file"),
        (lambda t: spoil_line(t, "imgs/10 sample_0.png 0\n"), r"10.npy:1: 3 columns, at least 4"),
        (lambda t: spoil_line(t, "imgs/10 sample_0.png 0 2 1.0 6\n"), r"10.npy:1: label '2' is not 0 or 1"),
        (lambda t: spoil_line(t, "imgs/10 sample_0.png 0 1 1.0 14\n"), r"10.npy:1: contour length 14, .* is 6"),
        (
            lambda t: np.save(t / "metadata" / "10.npy", np.full(9, 200, np.uint8)),
            r"10.npy:1: byte 0x93 at 0; it is not the plain text",
        ),
        (lambda t: (t / "metadata" / "x.npy").touch(), r"x.npy: the name is not a number"),
        (lambda t: (t / "metadata" / "11.npy").mkdir(), r"11.npy cannot be read \(Is a directory\)"),
        (lambda t: shutil.rmtree(t / "metadata"), r"/curv_baseline holds no metadata folder, which says"),
    ],
)
def test_malformed_release(tiny, tmp_path, spoil, message):
    spoil(tiny)
    with pytest.raises(DataError, match=message) as caught:
        easy(tiny.parent, tmp_path).split("train")
    assert "\n" not in str(caught.value)


def test_no_read_permission(tiny, tmp_path, monkeypatch):
    whole = files.whole

    def deny(file, most):
        if file.suffix == ".png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return whole(file, most)

    monkeypatch.setattr(files, "whole", deny)
    with pytest.raises(DataError, match=r"sample_\d.png cannot be read \(Permission denied\)"):
        easy(tiny, tmp_path).split("train")


def png_of(width, height, depth=8, kind=0, data=b""):
    """A PNG by hand: Pillow writes no such."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data or zlib.compress(bytes(4096))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png_of(30_000, 30_000), "has 30000x30000 pixels of 8-bit grey; task.resolution 32"),
        (png_of(2**31, 2**31), "has 2147483648x2147483648"),
        (png_of(32, 32, depth=16), "has 32x32 pixels of 16-bit grey"),
        (png_of(32, 32, depth=1), "has 32x32 pixels of 1-bit grey"),
        (png_of(32, 32, kind=6), "has 32x32 pixels of 8-bit RGBA"),
        (png_of(32, 32)[:33] + png_of(9_000, 9_000)[8:], "it is 9000x9000 of mode L; 32x32"),
        (png_of(32, 32, data=b"nothing"), "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot be read .not a PNG."),
        (b"\x89PNG\r\n\x1a\n" + bytes(1 << 21), "it has more than 1,048,576 bytes"),
    ],
)
def test_an_image_is_an_8_bit_grey_png_of_its_size_or_one_line(tiny, tmp_path, content, message):
    (tiny / "imgs/10/sample_3.png").write_bytes(content)
    with pytest.raises(DataError, match=f"sample_3.png.*{message}") as caught:
        easy(tiny, tmp_path).split("train")
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tiny, tmp_path):
    (tiny / "imgs/10/sample_3.png").unlink()
    os.mkfifo(tiny / "imgs/10/sample_3.png")
    with pytest.raises(DataError, match="sample_3.png cannot be read .not a file."):
        easy(tiny, tmp_path).split("train")


def test_an_image_overwritten_in_place_is_read_again(tiny, tmp_path):
    """Of the same size, and its time set back."""
    file = tiny / "imgs/2/sample_1.png"
    before, stamp, pixels = easy(tiny, tmp_path).fingerprint(), file.stat(), np.asarray(Image.open(file))
    file.write_bytes(png_of(32, 32, data=zlib.compress(bytes(33 * 32))))
    file.write_bytes(file.read_bytes().ljust(stamp.st_size, b"\0"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert file.stat().st_size == stamp.st_size and easy(tiny, tmp_path).fingerprint() != before
    Image.fromarray(pixels).save(file)
    assert easy(tiny, tmp_path).fingerprint() == before


def test_the_same_lines_with_other_ends_are_the_same(tiny, tmp_path):
    before = easy(tiny, tmp_path).fingerprint()
    for file in (tiny / "metadata").iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert easy(tiny, tmp_path).fingerprint() == before


def test_what_was_accepted_without_a_word_is_said(tiny, tmp_path):
    extra = tiny / "imgs/2/sample_77.png"
    shutil.copy(tiny / "imgs/2/sample_0.png", extra)
    expected = {"source": "release files", "images_skipped": 0, "images_unlisted": 1}
    assert easy(tiny, tmp_path).notes() == expected | {"images_listed_again": 0, "images_under_both_labels": 0}
    with (tiny / "metadata/2.npy").open("a") as handle:
        handle.write("imgs/2 sample_77.png 6 1 1.0 6 2 2 0.5 1 1\n" + "imgs/2 sample_1.png 1 1 1.0 6 2 2 0.5 1 1\n")
    expected = {"source": "release files", "images_skipped": 0, "images_unlisted": 0}
    assert easy(tiny, tmp_path).notes() == expected | {"images_listed_again": 1, "images_under_both_labels": 1}
    (tiny / "metadata/10.npy").unlink()
    with pytest.raises(DataError, match=r"metadata: no 10.npy, though there are images in .*imgs/10"):
        easy(tiny, tmp_path).split("train")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("imgs/10 sample_0.png 0 1 1.0 6\nimgs/10 sample_0.png 0 0 1.0 6\n", ":2: label 0 for .*10.npy:1 gives 1"),
        ("imgs/../../.. sample_0.png 0 1 1.0 6\n", ":1: .* lies outside"),
        ("\ufeffimgs/10 sample_0.png 0 1 1.0 6\n", "begins with a byte order mark of UTF-8"),
        ("imgs/10 sample_0.png 0 " + "1" * 5000 + " 1.0 6\n", ":1: label '1{39}[.]{3} is not 0 or 1"),
        ("x" * 1_100_000, ":1: longer than 1 MiB"),
    ],
)
def test_hostile_metadata_are_one_short_line(tiny, tmp_path, line, message):
    (tiny / "metadata/10.npy").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=f"10.npy.*{message}") as caught:
        easy(tiny, tmp_path).split("train")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_images_of_one_class_are_refused(tiny, tmp_path):
    for file in (tiny / "metadata").iterdir():
        file.write_text(file.read_text().replace(" 1 1.0 ", " 0 1.0 "))
    with pytest.raises(DataError, match="every training item has label 0"):
        easy(tiny, tmp_path).split("train")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("resolution", "contour_length", "sizes", "connected", "total"),
    [(32, 14, (1600, 200, 200), 1033, 2000), (32, 6, (400, 50, 50), 273, 500), (128, 14, (160, 20, 20), 103, 200)],
)
def test_the_release_sample(shared_data, tmp_path, resolution, contour_length, sizes, connected, total):
    task = Pathfinder(
        resolution=resolution,
        contour_length=contour_length,
        path=str(shared_data / "lra_release"),
        data_dir=tmp_path,
    )
    assert tuple(len(task.split(name)) for name in SPLITS) == sizes
    assert sum(int(task.split(name).labels.sum()) for name in SPLITS) == connected
    images, labels = store.array(task.folder(), "images"), store.array(task.folder(), "labels")
    for row, (batch, sample) in ((0, (0, 0)), (total - 1, ((total - 1) // 1000, (total - 1) % 1000))):
        file = task.find() / "imgs" / str(batch) / f"sample_{sample}.png"
        assert (images[row].reshape(resolution, resolution) == np.asarray(Image.open(file))).all()
    assert labels[0] == (0 if resolution == 128 else 1)
    few = Pathfinder(
        resolution=resolution,
        contour_length=contour_length,
        path=str(shared_data / "lra_release"),
        num_images=total // 10,
        data_dir=tmp_path,
    )
    assert [len(few.split(name)) for name in SPLITS] == [size // 10 for size in sizes]
    assert (few.split("train")[0].documents[0] == task.split("train")[0].documents[0]).all()


def test_discs_are_found():
    image = np.zeros((1, 32, 32), np.uint8)
    rows, columns = np.mgrid[:32, :32]
    for y, x in ((27, 4), (14, 17)):
        image[0][(rows - y) ** 2 + (columns - x) ** 2 <= 1.5**2] = 240
    image[0, 5, 5:12] = 255  # brighter, but no disc
    assert find_discs(image, 1.5).tolist() == [[14, 17, 27, 4]]


@pytest.mark.slow  # of smaller images below
def test_the_places_of_the_discs_tell_more_than_chance(tmp_path):
    task = Pathfinder(num_images=4000, data_dir=tmp_path)
    train, test = task.split("train"), task.split("test")
    rules = task.rules()
    accuracy = {name: (rule(train, test) == test.labels).mean() for name, rule in rules.items()}
    assert abs(accuracy["majority"] - 0.5) < 0.06 < 0.55 < accuracy["disc_places"] < 0.75


def test_the_small_images_take_a_relation_and_no_curve(tmp_path):
    """What quick's exam is for: no pixel tells the class, where the two discs are tells much of it."""
    task = Pathfinder(resolution=16, contour_length=2, num_images=8000, data_dir=tmp_path)
    train, test = task.split("train"), task.split("test")
    rules = task.rules() | task.learned_rules()
    accuracy = {name: (rules[name](train, test) == test.labels).mean() for name in ("linear", "disc_places")}
    assert accuracy["linear"] < 0.55 < 0.75 < accuracy["disc_places"] < 0.9
    assert task.max_len == 256 and parameters(16, 2).num_distractors == 0


def test_parameters_are_the_papers():
    hard, easier = parameters(32, 14), parameters(32, 6)
    assert (hard.distractor_length, hard.num_distractors) == (4, 5)
    assert (easier.distractor_length, easier.num_distractors) == (2, 10)
    assert [parameters(r, 14).num_distractors for r in (64, 128, 256)] == [5, 8, 7]
