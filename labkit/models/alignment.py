"""Where the weights of a model lie in its file, and so in memory: a file of weights is mapped, not read."""

import shutil
import struct
from pathlib import Path

from labkit.storage import atomic_path

ALIGNMENT = 64  # bytes: what torch gives each tensor that it makes
LENGTH = struct.Struct("<Q")  # of the header, before it (safetensors' format)


def align_weights(folder: Path) -> None:
    """Let the weights in each safetensors file of a folder begin at a multiple of 64 bytes, as they do in memory.

    They begin where the header ends. On some processors a product of a matrix and one vector adds up in another order
    at another address, so that a model which was saved and loaded gave other logits than the one that was saved.
    """
    for path in sorted(folder.glob("*.safetensors")):
        _align(path)


def _align(path: Path) -> None:
    with path.open("rb") as file:
        (length,) = LENGTH.unpack(file.read(LENGTH.size))
        header = file.read(length)
    missing = -(LENGTH.size + length) % ALIGNMENT
    if not missing:
        return
    with atomic_path(path) as partial, path.open("rb") as file, partial.open("wb") as aligned:
        file.seek(LENGTH.size + length)
        aligned.write(LENGTH.pack(length + missing))
        aligned.write(header + missing * b" ")
        shutil.copyfileobj(file, aligned)
