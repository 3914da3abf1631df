"""ListOps: the generator's distribution, the reader, the evaluator, the floors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lra.tasks.base import DataError, digest
from lra.tasks.listops import exam
from lra.tasks.listops.exam import IDS, SYMBOLS, ListOps, read, tokenize
from lra.tasks.listops.generator import VERSION, evaluate

ROOT = Path(__file__).resolve().parent.parent.parent
NOTHING = np.zeros(16, np.int64)
EXAMPLES = [  # spec section 2: text, value, length
    ("( ( ( [MAX 2 ) 9 ) ] )", 9, 4),
    ("( ( ( [MED 1 ) 2 ) ] )", 1, 4),
    ("( ( ( ( ( [MED 1 ) 2 ) 4 ) 9 ) ] )", 3, 6),
    ("( ( ( ( [MED 5 ) 8 ) 2 ) ] )", 5, 5),
    ("( ( ( ( [SM 9 ) 9 ) 9 ) ] )", 7, 5),
    ("( ( ( [SM 5 ) 5 ) ] )", 0, 4),
    ("( ( ( ( [MIN 4 ) ( ( ( ( [MAX 2 ) 7 ) ( ( ( [SM 8 ) 6 ) ] ) ) ] ) ) 9 ) ] )", 4, 12),
    ("( ( ( ( [MAX ( ( ( ( ( [MED 3 ) 8 ) 6 ) 1 ) ] ) ) ( ( ( [MIN 7 ) 7 ) ] ) ) 0 ) ] )", 7, 13),
    ("( ( ( ( [SM ( ( ( [MED 7 ) 8 ) ] ) ) ( ( ( [MED 0 ) 1 ) ] ) ) ( ( ( [MAX 3 ) 3 ) ] ) ) ] )", 0, 14),
]


def slow_value(symbols: list[str]) -> int:
    """An evaluator that shares nothing with ours: recursion over the words, numpy's own median."""

    def expression(at: int) -> tuple[int, int]:
        if symbols[at].isdigit():
            return int(symbols[at]), at + 1
        operator, at, values = symbols[at], at + 1, []
        while symbols[at] != "X":
            value, at = expression(at)
            values.append(value)
        rules = {
            "[MIN": min,
            "[MAX": max,
            "[MED": lambda v: int(np.median(v)),
            "[SM": lambda v: sum(v) % 10,
        }
        return rules[operator](values), at + 1

    value, end = expression(0)
    assert end == len(symbols)
    return value


def words(tokens: np.ndarray) -> list[str]:
    return [SYMBOLS[t - 1] for t in tokens]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ListOps:
    return ListOps(sizes=(3000, 300, 300), data_dir=tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(("text", "value", "length"), EXAMPLES)
def test_worked_examples(text: str, value: int, length: int) -> None:
    tokens = tokenize(text)
    assert (evaluate(tokens, 0, NOTHING), len(tokens), slow_value(words(tokens))) == (value, length, value)


def test_tokens_are_the_fixed_table() -> None:
    assert words(tokenize(EXAMPLES[6][0])) == ["[MIN", "4", "[MAX", "2", "7", "[SM", "8", "6", "X", "X", "9", "X"]
    assert sorted(set(IDS.values())) == list(range(1, 16))
    assert ListOps().vocabulary == "d0f723847ddfae25"


def test_generated_labels_are_values(small: ListOps) -> None:
    split = small.split("test")
    for i in range(0, len(split), 10):
        example = split[i]
        assert slow_value(words(example.documents[0])) == example.label


def test_lengths_are_strictly_between(small: ListOps) -> None:
    lengths = small.split("train").lengths
    assert lengths.min() > 500 and lengths.max() < 2000 and len(lengths) == 3000


def test_no_expression_twice(small: ListOps) -> None:
    seen = [small.split(s)[i].documents[0].tobytes() for s in ("train", "valid", "test") for i in range(300)]
    assert len(set(seen)) == len(seen)


def test_short_expressions_are_deduplicated(tmp_path: Path) -> None:
    task = ListOps(max_len=8, min_length=1, sizes=(400, 50, 50), data_dir=tmp_path)
    texts = [
        task.split(s)[i].documents[0].tobytes() for s in ("train", "valid", "test") for i in range(len(task.split(s)))
    ]
    assert len(set(texts)) == len(texts) == 500


def test_impossible_request_ends(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not to be had"):
        ListOps(max_len=3, min_length=0, sizes=(100, 10, 10), data_dir=tmp_path).split("train")


def test_version_is_tied_to_the_data(tmp_path: Path) -> None:
    """If this fails, the generator's output has changed: raise VERSION, then put the new digest here."""
    split = ListOps(max_len=200, min_length=20, sizes=(50, 5, 5), data_dir=tmp_path).split("train")
    found = digest([split[i].documents[0].tolist() for i in range(50)])
    assert (VERSION, found) == (1, "8191e2cc2818e80e")


@pytest.mark.shared
def test_every_official_row(shared_data: Path, tmp_path: Path) -> None:
    """All rows of the three files: `length` tokens of the table, and our value is the file's target."""
    folder = shared_data / "lra_release" / "listops-1000"
    total = 0
    for name in exam.FILES.values():
        for tokens, target in read(folder / name):
            assert tokens.min() >= 1 and tokens.max() <= 15
            total += evaluate(tokens, 0, NOTHING) == target
    assert total == 3600
    task = ListOps(path=str(shared_data / "lra_release"), data_dir=tmp_path)
    assert [len(task.split(s)) for s in ("train", "valid", "test")] == [2000, 800, 800]


def structure(tokens: np.ndarray) -> tuple[int, np.ndarray]:
    """(operator nesting depth, counts of the four operators)."""
    opened = np.cumsum((tokens <= 4).astype(int) - (tokens == 15))
    return int(opened.max()), np.bincount(tokens[tokens <= 4], minlength=5)[1:5]


@pytest.mark.shared
def test_distribution_is_the_official_one(shared_data: Path, small: ListOps, tmp_path: Path) -> None:
    """Lengths, depths, operators and labels against 3,600 official draws: two-sample tests."""
    from scipy import stats

    theirs = ListOps(path=str(shared_data / "lra_release"), data_dir=tmp_path)
    ours = [small.split("train")[i] for i in range(3000)]
    official = [theirs.split(s)[i] for s in ("train", "valid", "test") for i in range(len(theirs.split(s)))]

    def sample(examples: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        shapes = [structure(e.documents[0]) for e in examples]
        return (
            np.array([len(e.documents[0]) for e in examples]),
            np.array([d for d, _ in shapes]),
            np.array([e.label for e in examples]),
            np.array([o[0] / o.sum() for _, o in shapes]),
        )

    a, b = sample(ours), sample(official)
    p = {"length": stats.ks_2samp(a[0], b[0]).pvalue, "min_share": stats.ks_2samp(a[3], b[3]).pvalue}
    for name, i, values in (("depth", 1, range(1, 10)), ("label", 2, range(10))):
        counts = np.array([[np.sum(s[i] == v) for v in values] for s in (a, b)])
        counts = counts[:, counts.sum(0) >= 10]
        p[name] = stats.chi2_contingency(counts).pvalue
    assert min(p.values()) > 0.01, p


def test_truncation_at_the_bottom_is_exact(small: ListOps) -> None:
    split = small.split("test")
    assert (exam.truncated_at(9)(small.split("train"), split) == split.labels).all()


def test_floors_rise_with_depth(small: ListOps) -> None:
    train, test = small.split("train"), small.split("test")
    score = {name: (rule(train, test) == test.labels).mean() for name, rule in small.rules().items()}
    assert score["majority"] < 0.25 < score["first_operator"] < 0.45 < score["depth_1"] < score["depth_2"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("Source,Target\n", ":1: the header"),
        ("Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t12\n", ":2: .*target from 0 to 9"),
        ("Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\n", ":2: .*target from 0 to 9"),
        ("Source\tTarget\n( ( ( [MEAN 2 ) 9 ) ] )\t9\n", "'\\[MEAN' is not a ListOps token"),
        ("Source\tTarget\n( ( ( [MAX 2 ) 9 ) ] )\t8\n", "has the value 9, not 8"),
        ("Source\tTarget\n( ( ( [MAX 2 ) 9 )\t9\n", "not a whole expression"),
        ("Source\tTarget\n", "no rows"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str, complaint: str) -> None:
    for name in exam.FILES.values():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=complaint):
        ListOps(path=str(tmp_path), data_dir=tmp_path / "cache").split("train")


ROWS = ["( ( ( [MAX 2 ) 9 ) ] )\t9", "( ( ( [MIN 2 ) 9 ) ] )\t2"]


def write_files(
    folder: Path, ends: tuple[str, str, str] = ("\n",) * 3, rows: list[str] = ROWS, last: bool = True
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, end in zip(exam.FILES.values(), ends, strict=True):
        text = end.join(["Source\tTarget", *rows]) + end * last
        (folder / name).write_bytes(text.encode())
    return folder


def test_both_line_ends_and_nestings(tmp_path: Path) -> None:
    write_files(tmp_path / "lra_release" / "lra_release" / "listops-1000", ("\n", "\r\n", "\n"))
    task = ListOps(path=str(tmp_path), data_dir=tmp_path / "cache")
    assert task.split("valid")[0].documents[0].tolist() == [2, 7, 14, 15]


def test_a_fingerprint_follows_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    def fingerprint(name: str, *spec) -> str:
        return ListOps(path=str(write_files(tmp_path / name, *spec)), data_dir=tmp_path / "cache").fingerprint()

    spaced = [row.replace("( ( (", "(((  ") for row in ROWS]
    same = [("lf",), ("crlf", ("\r\n",) * 3), ("bare", ("\n",) * 3, ROWS, False), ("spaces", ("\n",) * 3, spaced)]
    assert len({fingerprint(*spec) for spec in same}) == 1
    assert fingerprint("order", ("\n",) * 3, ROWS[::-1]) != fingerprint("lf")


def test_what_is_missing_is_named_and_nothing_else(tmp_path: Path) -> None:
    (write_files(tmp_path / "a") / "basic_val.tsv").unlink()
    with pytest.raises(DataError, match=r"a holds no basic_val\.tsv$"):
        ListOps(path=str(tmp_path / "a"), data_dir=tmp_path).split("train")
    with pytest.raises(DataError, match="b is not a folder"):
        ListOps(path=str(tmp_path / "b"), data_dir=tmp_path).split("train")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xef\xbb\xbfSource\tTarget\n", "begins with a byte order mark of UTF-8; save it as plain ASCII"),
        ("Source\tTarget\n".encode("utf-16"), "begins with a byte order mark of UTF-16"),
        (b"Source\tTarget\n( [MAX \xfc ] )\t9\n", r":2: byte 0xfc at 7; it is not the plain text"),
        (b"Source\tTarget\n" + b"1 " * 600_000 + b"\t1\n", ":2: longer than 1 MiB"),
        (b"Source\tTarget\n" + b"1" * 600_000 + b"\t1\n", r":2: '1{39}\.\.\. is not a ListOps token"),
        ("\n".join(["Source\tTarget", ROWS[0], ROWS[0]]).encode(), "every training item has label 9"),
    ],
)
def test_hostile_files_are_one_short_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    (write_files(tmp_path) / "basic_train.tsv").write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        ListOps(path=str(tmp_path), data_dir=tmp_path / "cache").split("train")
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_copy_is_described_by_its_folder(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in" / "listops-1000")
    assert ListOps(path=str(tmp_path / "in"), data_dir=tmp_path).describe()["found"] == folder


@pytest.mark.parametrize("sizes", [(0, 5, 5), (5, 5, 0), (5, 2.0, 5), (5, 5), (5, 5, 5, 5)])
def test_each_of_the_three_sizes_is_a_positive_number(sizes: tuple, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task.sizes"):
        ListOps(max_len=24, min_length=3, sizes=sizes, data_dir=tmp_path)
