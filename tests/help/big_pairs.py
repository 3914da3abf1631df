"""How much memory a large AAN-like release takes to index and to read through.

python tests/help/big_pairs.py FOLDER --bytes 4_000_000_000

Writes the three files into FOLDER, indexes them and reads every item of every split, in random order
for train, in a process of its own, and prints that process's peak resident memory as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHARES = {"train": 0.8, "eval": 0.1, "test": 0.1}
READ = """
import json, re, sys
from pathlib import Path
import numpy as np
from lra.tasks.retrieval import Retrieval

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024

import tqdm
folder, data_dir = sys.argv[1:]
before = peak()
task = Retrieval(path=folder, data_dir=data_dir)
counts = {name: len(task.split(name)) for name in ("train", "valid", "test")}
indexed = peak()
total = 0
for name in counts:
    split = task.split(name)
    for i in np.random.default_rng(0).permutation(len(split)):
        total += sum(len(d) for d in split[int(i)].documents)
print(json.dumps({"before": before, "indexed": indexed, "read": peak(), "items": counts, "tokens": total}))
"""


def write(folder: Path, size: int, seed: int = 0) -> int:
    """About `size` bytes of pairs of texts of 6,000 to 20,000 bytes, as bytes literals; rows written."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["the", "parser", "corpus", "\\n", "\\xe2\\x80\\x99s", "tree", "of", "translation", "we", "show", "."]
    pool = " ".join(rng.choices(words, k=40_000))
    rows = 0
    for split, share in SHARES.items():
        left = int(size * share)
        with (folder / f"new_aan_pairs.{split}.tsv").open("w") as out:
            while left > 0:
                texts = []
                for _ in range(2):
                    start, length = rng.randrange(len(pool) - 20_100), rng.randrange(6_000, 20_000)
                    # From and to a blank, so that no escape is cut.
                    start, end = pool.index(" ", start), pool.index(" ", start + length)
                    texts.append(f"b'{rows}{pool[start:end]}'")
                left -= out.write(f"{rows % 2}.0\tP{rows:06d}\tQ{rows:06d}\t{texts[0]}\t{texts[1]}\n")
                rows += 1
    return rows


def measure(folder: Path, data_dir: Path) -> dict:
    """Peak resident bytes of a fresh process: before, after indexing, after reading all."""
    out = subprocess.run(
        [sys.executable, "-c", READ, str(folder), str(data_dir)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(out.stdout.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=lambda text: int(re.sub("_", "", text)), default=4_000_000_000)
    given = parser.parse_args()
    write(given.folder / "tsv_data", given.bytes)
    print(json.dumps(measure(given.folder / "tsv_data", given.folder / "data"), indent=1))
