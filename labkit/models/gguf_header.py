"""The header of a GGUF file, walked through once: what it declares must fit into the file.

The reader of the gguf package takes each declared length as it is; a hostile one makes it read on for ever. Layout:
ggml's docs/gguf.md (magic, version, number of tensors, number of pairs, the pairs; all little-endian).
"""

import struct
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a number, by its type
STRING = 8
ARRAY = 9
DEEPEST = 4  # arrays of arrays of …
SMALLEST_TENSOR = 24  # bytes of the shortest tensor entry: an empty name, no dimension, type and offset


class Malformed(ValueError):
    """A length in the header that the file cannot hold."""


def check_header(path: Path) -> None:
    """Walk through the pairs of a GGUF file's header.

    Raises:
        Malformed: it is no GGUF file, or something in it is declared longer than the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise Malformed("it does not begin with GGUF")
        _number(file, "<I")  # version
        n_tensors = _number(file, "<Q")
        n_pairs = _number(file, "<Q")
        if n_tensors * SMALLEST_TENSOR > size or n_pairs > size:
            raise Malformed(f"it declares {n_tensors} tensors and {n_pairs} pairs in {size} bytes")
        for _ in range(n_pairs):
            _skip(file, _number(file, "<Q"), size)  # the key
            _skip_value(file, _number(file, "<I"), size, depth=0)


def _number(file: BinaryIO, form: str) -> int:
    raw = file.read(struct.calcsize(form))
    if len(raw) < struct.calcsize(form):
        raise Malformed("it ends in the middle of its header")
    return struct.unpack(form, raw)[0]


def _skip(file: BinaryIO, n_bytes: int, size: int) -> None:
    end = file.tell() + n_bytes
    if end > size:
        raise Malformed(f"it declares {n_bytes} bytes where {size - file.tell()} are left")
    file.seek(end)


def _skip_value(file: BinaryIO, kind: int, size: int, depth: int) -> None:
    if kind in SIZES:
        _skip(file, SIZES[kind], size)
    elif kind == STRING:
        _skip(file, _number(file, "<Q"), size)
    elif kind == ARRAY and depth < DEEPEST:
        _skip_array(file, size, depth)
    else:
        raise Malformed(f"it holds a value of the unknown type {kind}")


def _skip_array(file: BinaryIO, size: int, depth: int) -> None:
    kind = _number(file, "<I")
    length = _number(file, "<Q")
    if length > size:
        raise Malformed(f"it declares a list of {length} values in {size} bytes")
    if kind in SIZES:
        _skip(file, length * SIZES[kind], size)
        return
    for _ in range(length):
        _skip_value(file, kind, size, depth + 1)
