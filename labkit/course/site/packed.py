"""Weights as the text of a script: a page that was opened as a file may load scripts, and nothing else.

Two steps, neither of which loses a bit; `live/packed.mjs` undoes them.

- `squeezed`: a float16 is one byte of sign, exponent and two bits of fraction, and one byte of fraction. The first
  kind takes few values, the second is noise. Once all bytes of a kind stand together, a Huffman code of 85 % of the
  length is enough for the stand-ins' weights.
- `letters`: base64 puts 6 bits into a byte. A script may also be UTF-16, if its first letter says so, whatever a server
  calls it; a letter of two bytes then holds 16 bits. Halves of a pair (surrogates) are no letters: a mark stands before
  such a value, and one of its bits is turned.
"""

import zlib

BEGIN = "\ufeff"  # as the first letter of a file: what follows is UTF-16
MARK = 0x21  # an exclamation mark stands before a value that is no letter, or is this mark
TURNED = 0x4000  # the bit
HALVES = (0xD800, 0xDFFF)


def squeezed(data: bytes) -> bytes:
    """float16 numbers, compressed by zlib: first the lower byte of each, then the upper one."""
    by_kind = data[0::2] + data[1::2]
    coder = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    return coder.compress(by_kind) + coder.flush()


def letters(data: bytes) -> str:
    """Bytes as letters, two in each; one is added to an odd number."""
    import numpy as np

    even = data + b"\0" * (len(data) % 2)
    values = np.frombuffer(even, "<u2")
    first, last = HALVES
    is_marked = ((first <= values) & (values <= last)) | (values == MARK)
    width = np.where(is_marked, 2, 1)
    written = np.repeat(values, width)
    at = (np.cumsum(width) - 1)[is_marked]  # the second place of those that have two
    written[at] ^= TURNED
    written[at - 1] = MARK
    return written.tobytes().decode("utf-16-le")


def as_script(text: str) -> bytes:
    """The text of a script as the bytes of its file."""
    return (BEGIN + text).encode("utf-16-le")


def packed(weights: bytes) -> dict[str, object]:
    """What `live/packed.mjs` makes the weights of."""
    compressed = squeezed(weights)
    return {"length": len(compressed), "letters": letters(compressed)}
