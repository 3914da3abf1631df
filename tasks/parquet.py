"""Tables of a folder laid out as on the hub: its parquet files as they stand, with bounds.

`datasets` would keep a second copy of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lra.tasks import files
from lra.tasks.base import DataError

if TYPE_CHECKING:
    import pyarrow as pa


SPLITS = ("train", "test")
LARGEST = 1 << 31  # bytes of a split in memory; CIFAR-10's train takes 0.12e9

SHARD = re.compile(r"(?P<split>train|test)(-(?P<index>\d+)-of-(?P<count>\d+))?(-[0-9a-f]+)?\.parquet")


def read(folder: Path, field: str = "task.path") -> dict[str, pa.Table]:
    """{"train": table, "test": table} of the parquet files below `folder`.

    They are named as on the hub: train.parquet or train-00000-of-00002.parquet, in one folder at
    any depth. Raises DataError, which names `field`, for a shard that is missing, for a file that
    cannot be read and for more than LARGEST bytes.
    """
    import pyarrow as pa

    tables = {}
    for split, found in shards(folder, field).items():
        parts: list[pa.Table] = []
        for file in found:
            try:
                parts.append(_table(file, LARGEST - sum(part.nbytes for part in parts), field))
            except DataError:
                raise
            except (OSError, ValueError, MemoryError, OverflowError, pa.ArrowException) as error:
                raise DataError(unreadable(file, error, field)) from error
        try:
            tables[split] = pa.concat_tables(parts)
        except pa.ArrowException as error:
            raise DataError(f"{field}: the {split} files in {found[0].parent} have different columns") from error
    return tables


def _table(file: Path, most: int, field: str) -> pa.Table:
    """A parquet file piece by piece, since what it says of its size need not be true. The path alone names no
    columns: in a folder "a=b", `read_table` would make a column of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files.opened(file).close()
    batches, size = [], 0
    with pq.ParquetFile(file) as parquet:
        groups = range(parquet.metadata.num_row_groups)
        said = sum(parquet.metadata.row_group(i).total_byte_size for i in groups)
        if said <= most:
            for batch in parquet.iter_batches(batch_size=500):
                size += batch.nbytes
                if size > most:
                    break
                batches.append(batch)
        if max(size, said) > most:
            raise DataError(f"{field}: {file} unpacks to more than the {LARGEST >> 30} GiB that a split may have")
        return pa.Table.from_batches(batches, schema=parquet.schema_arrow)


def shards(folder: Path, field: str = "task.path") -> dict[str, list[Path]]:
    """The parquet files of each split below `folder`, complete and in order. Raises DataError."""
    found: dict[str, dict[Path, re.Match]] = {split: {} for split in SPLITS}
    try:
        for file in sorted(folder.rglob("*.parquet")):
            match = SHARD.fullmatch(file.name)
            if match:
                found[match["split"]][file] = match
    except OSError as error:
        raise DataError(unreadable(folder, error, field)) from error
    for split, matches in found.items():
        if not matches:
            raise DataError(f"{field}: {folder} holds no {split}*.parquet")
        if len({f.parent for f in matches}) > 1:
            raise DataError(f"{field}: {folder} holds several data sets; give the folder of one of them")
        numbered = sorted((int(m["index"] or 0), int(m["count"] or 1)) for m in matches.values())
        if numbered != [(i, len(matches)) for i in range(len(matches))]:
            raise DataError(f"{field}: {folder} does not hold each shard of {split} once, as their names count them")
    return {split: list(matches) for split, matches in found.items()}


def unreadable(file: Path, error: Exception, field: str = "task.path") -> str:
    """One line for a file of the user's that cannot be read."""
    if isinstance(error, PermissionError):
        return f"{field}: no permission to read {file}"
    if isinstance(error, FileNotFoundError):
        return f"{field}: {file} does not exist"
    why = (error.strerror if isinstance(error, OSError) else None) or (
        str(error).strip().splitlines() or [type(error).__name__]
    )[0][:200]
    return f"{field}: {file} cannot be read ({why}); it may be cut short: fetch it again"


def require_columns(table: pa.Table, columns: tuple[str, ...], where: str) -> None:
    """Raise DataError unless the table has rows and these columns, without a null in them."""
    if any(table.column_names.count(c) != 1 for c in columns):
        found = files.shown(", ".join(table.column_names), 200)[1:-1] or "none"
        raise DataError(f"{where}: columns are {found}; {', '.join(columns)} are needed, once each")
    if not table.num_rows:
        raise DataError(f"{where}: no rows")
    for column in columns:
        if table[column].null_count:
            raise DataError(f"{where}: column {column} has {table[column].null_count} empty cells")


def labels(table: pa.Table, num_classes: int, where: str) -> np.ndarray:
    """Column `label` as int64 (N,), each in [0, num_classes). Raises DataError naming the row."""
    import pyarrow as pa

    column = table["label"]
    if not pa.types.is_integer(column.type):
        raise DataError(f"{where}: label is {column.type}, a whole number from 0 to {num_classes - 1} is needed")
    values = column.to_numpy().astype(np.int64)
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if len(wrong):
        row = wrong[0]
        raise DataError(f"{where}, row {row}: label {values[row]} is not one of 0 to {num_classes - 1}")
    return values
