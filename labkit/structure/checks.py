"""What every step of the room asks of its input; what does not hold is one clear line."""

import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np

from labkit.errors import LabError

WHOLE, NUMBERS = "iu", "iuf"  # NumPy's letters of number types
MOST_SEED = 2**32 - 1  # NumPy's and scikit-learn's random generators take no larger one


def is_whole(value: object) -> bool:
    """Whether it is a whole number of Python's or NumPy's; True and False are none."""
    if isinstance(value, bool):
        return False
    return isinstance(value, Integral)


def whole_number(name: str, value: object, least: int, most: float = math.inf) -> int:
    """`value` as an int, if it is a whole number from `least` to `most`.

    Raises:
        LabError: a bool, a float, a text, or a number outside the bounds.
    """
    if is_whole(value) and least <= value <= most:
        return int(value)
    allowed = f"from {least} to {most}"
    if most == math.inf:
        allowed = f"{least} or more"
    action = f"choose a whole number, {allowed}"
    raise LabError(f"{name} cannot be {value!r}", "", action)


def seed_number(seed: object) -> int:
    """`seed` as an int that every random generator of the room takes."""
    return whole_number("seed", seed, 0, MOST_SEED)


def finite_vectors(vectors: np.ndarray) -> np.ndarray:
    """`vectors` as an array [N, D] of finite numbers, N and D at least 1.

    Raises:
        LabError: another shape, no vectors, or a value that is NaN or infinite.
    """
    action = "pass the vectors that labkit.structure.embed made"
    try:
        array = np.asarray(vectors)
    except ValueError as error:  # rows of different lengths
        raise LabError("the vectors are no table of numbers", str(error), action) from error
    shape = f"shape {array.shape}"
    if array.ndim != 2 or array.dtype.kind not in NUMBERS:
        raise LabError("the vectors are no table of numbers", f"{shape}, type {array.dtype}", action)
    if array.size == 0:
        raise LabError("no vectors", shape, "choose more dialogues")
    finite = np.isfinite(array).all(axis=1)  # [N] bool
    broken = np.flatnonzero(~finite)
    if len(broken):
        found = f"{len(broken)} of {len(array)} vectors, the first is number {broken[0]}"
        raise LabError("vectors with NaN or infinity", found, "embed again with a model in float32")
    return array


def whole_labels(labels: Sequence[int], expected: int, of: str) -> np.ndarray:
    """`labels` as an array [N] of whole numbers, -1 (noise) or more, one for each of the `expected` things `of`.

    Raises:
        LabError: another number of labels, or a label that is no cluster id.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) != expected:
        found = f"{array.size} labels for {expected} {of}"
        raise LabError("labels of something else", found, f"pass the labels of these {of}")
    if expected == 0:
        return array.astype(int)
    action = "use whole numbers from 0, and -1 for noise"
    if array.dtype.kind not in WHOLE:
        raise LabError("labels that are no cluster ids", f"type {array.dtype}", action)
    if array.min() < -1:
        raise LabError("labels that are no cluster ids", str(array.min()), action)
    return array


def clean_texts(texts: Sequence[str]) -> list[str]:
    """`texts` as a list of strings that can be written as UTF-8.

    Raises:
        LabError: one string instead of several, a text that is no string, or half an emoji (a lone surrogate).
    """
    if isinstance(texts, str | bytes):
        beginning = repr(texts[:40])
        raise LabError("one text where several are expected", beginning, "pass a list of texts")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            found = repr(text)[:80]
            raise LabError(f"text {number} is no text", found, "pass strings only")
        refuse_surrogates(f"text {number}", text)
    return texts


def refuse_surrogates(place: str, text: str) -> None:
    """Raise a LabError if `text` holds half an emoji: no file, table or tokenizer can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = text[error.start]
        found = f"a lone surrogate, {half!a}, at character {error.start}"
        raise LabError(f"{place} holds half an emoji", found, "repair or remove that character") from error
