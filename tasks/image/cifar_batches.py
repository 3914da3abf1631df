"""The files of cifar-10-batches-py: their pickles are read as a format, and nothing in them is run or built.

A batch is a dict of texts, lists of whole numbers and texts, and one array of bytes. Of pickle (PEP 307, PEP 3154
and `pickletools`, which documents every opcode) that takes some thirty opcodes; an array is recognised by the
names and arguments that NumPy writes for one (`ndarray.__reduce__`), and made from its bytes by us.
"""

from __future__ import annotations

import pickletools
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lra.tasks import files
from lra.tasks.base import DataError
from lra.tasks.parquet import unreadable

FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
LARGEST = 1 << 27  # bytes of a file; an original one has 31 million
MOST = 1 << 20  # opcodes of a file; an original one has some 90 thousand

RECONSTRUCT = [f"{m} _reconstruct" for m in ("numpy.core.multiarray", "numpy._core.multiarray")]
FROMBUFFER = [f"{m} _frombuffer" for m in ("numpy.core.numeric", "numpy._core.numeric")]  # protocol 5
NOTHING = ["__builtin__ bytes", "builtins bytes"]  # how Python 3 writes b"" in protocol 2
NAMES = {*RECONSTRUCT, *FROMBUFFER, *NOTHING, "numpy ndarray", "numpy dtype", "_codecs encode"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
MAKERS = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
NUMBERS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"}
BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
STRINGS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # of Python 2, whose text is bytes; here as latin-1
TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
PUTS, GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "FRAME"}


class Name(str):
    """A name that a pickle asks for, "module name"; never looked up."""


class Dtype(NamedTuple):
    kind: str


class Array:
    """An array before it has its bytes, and after."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None


class Mark:
    pass


class Malformed(Exception):
    pass


class Reader:
    """A pickle's stack machine, of which only what a batch needs is there."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, content: bytes) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if number > MOST:
                raise Malformed("it has more steps than a batch can")
            if opcode.name == "STOP":
                (value,) = self.stack
                return value
            self.step(opcode.name, argument)
        raise Malformed("it has no end")

    def step(self, name: str, argument: Any) -> None:
        push, pop = self.stack.append, self.stack.pop
        if name in NUMBERS or name in BYTES or name in TEXTS:
            push(argument)
        elif name in STRINGS:
            push(argument.encode("latin-1") if isinstance(argument, str) else argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in MAKERS:
            push(MAKERS[name]())
        elif name in PUTS:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in GETS:
            push(self.memo[argument])
        elif name == "MARK":
            push(Mark())
        elif name in TUPLES:
            push(tuple(self.last(TUPLES[name])))
        elif name in ("TUPLE", "LIST"):
            push({"TUPLE": tuple, "LIST": list}[name](self.marked()))
        elif name in ("APPEND", "APPENDS"):
            added = [pop()] if name == "APPEND" else self.marked()
            self.top(list).extend(added)
        elif name in ("SETITEM", "SETITEMS", "DICT"):
            pairs = self.last(2) if name == "SETITEM" else self.marked()
            if name == "DICT":
                push({})
            self.top(dict).update(zip(map(key, pairs[::2]), pairs[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            push(known(argument if name == "GLOBAL" else " ".join(self.last(2))))
        elif name == "REDUCE":
            push(made(*self.last(2)))
        elif name == "BUILD":
            state = pop()
            self.stack[-1] = built(self.stack[-1], state)
        elif name not in IGNORED:
            raise Malformed(f"its step {name} is none that a batch needs")

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise Malformed("it takes more than it holds")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def marked(self) -> list[Any]:
        """What lies above the last mark."""
        at = next(i for i in range(len(self.stack) - 1, -1, -1) if isinstance(self.stack[i], Mark))
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise Malformed(f"it adds to what is no {kind.__name__}")
        return self.stack[-1]


def key(value: Any) -> str | bytes:
    if not isinstance(value, (str, bytes)):
        raise Malformed("a key is no text")
    return value


def plain(text: Any) -> str:
    """A name from a pickle, fit for a line."""
    return str(text)[:60].encode("unicode_escape").decode() if isinstance(text, str) else files.shown(text)


def known(name: str) -> Name:
    if name not in NAMES:
        raise Malformed(f"it asks for {plain(name.replace(' ', '.'))}, which no CIFAR-10 batch needs")
    return Name(name)


def made(function: Any, arguments: Any) -> Any:
    """What NumPy's and Python 3's own pickles make by a call: an array without bytes, its type, or bytes."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise Malformed("it calls what is no function")
    if function in RECONSTRUCT and arguments == ("numpy ndarray", (0,), arguments[-1]) and arguments[2] in ("b", b"b"):
        return Array()
    if function in FROMBUFFER and len(arguments) == 4:
        content, kind, shape, order = arguments
        return filled(Array(), shape, kind, order == "F", bytes(content) if isinstance(content, bytearray) else content)
    if function in NOTHING and not arguments:
        return b""
    if function == "numpy dtype" and arguments and arguments[0] in ("u1", b"u1"):
        return Dtype("u1")
    if function == "numpy dtype":
        raise Malformed(f"an array is of type {files.shown(arguments[0] if arguments else None)}, not of bytes (u1)")
    if function == "_codecs encode" and len(arguments) == 2 and isinstance(arguments[0], str):
        if arguments[1] != "latin1":
            raise Malformed(f"_codecs.encode to {plain(arguments[1])}")
        return arguments[0].encode("latin-1")
    raise Malformed(f"it calls {function.replace(' ', '.')} as no CIFAR-10 batch does")


def built(value: Any, state: Any) -> Any:
    """An array with its bytes. The state of its type says nothing more, so it is not looked at."""
    if isinstance(value, Dtype):
        return value
    if not isinstance(value, Array) or not isinstance(state, tuple) or len(state) != 5:
        raise Malformed("it sets the state of what is no array")
    _, shape, kind, columns_first, content = state
    return filled(value, shape, kind, bool(columns_first), content)


def filled(array: Array, shape: Any, kind: Any, columns_first: bool, content: Any) -> Array:
    if not isinstance(kind, Dtype) or not isinstance(content, bytes):
        raise Malformed("an array is not of bytes")
    if not isinstance(shape, tuple) or len(shape) != 2 or any(type(n) is not int for n in shape) or shape[1] != 3072:
        raise Malformed("it has no data of 3072 bytes an image")
    if shape[0] * shape[1] != len(content) or not content:
        raise Malformed(f"an array of {files.shown(shape[0])} images has {len(content)} bytes")
    array.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if columns_first else "C")
    return array


def read_batches(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (N, 32, 32, 3) and labels int64 (N,) of "train" or "test". Raises DataError."""
    images, labels = zip(*(_read_batch(folder / name) for name in FILES[split]), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _read_batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = Reader().read(files.whole(file, LARGEST))
    except OSError as error:
        raise DataError(unreadable(file, error)) from error
    except Malformed as error:
        raise DataError(f"task.path: {file} is not a CIFAR-10 batch: {error}") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, StopIteration, struct.error) as error:
        raise DataError(
            f"task.path: {file} is not a CIFAR-10 batch, or is cut short ({type(error).__name__})"
        ) from error
    batch = batch if isinstance(batch, dict) else {}
    data, labels = batch.get(b"data", batch.get("data")), batch.get(b"labels", batch.get("labels"))
    if not isinstance(data, Array) or data.values is None:
        raise DataError(f"task.path: {file} has no data of 3072 bytes an image")
    if not isinstance(labels, list) or len(labels) != len(data.values):
        raise DataError(f"task.path: {file} does not have one label an image")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label <= 9:
            raise DataError(f"task.path: {file}, row {row}: label {files.shown(label)} is not one of 0 to 9")
    return data.values.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.array(labels, np.int64)
