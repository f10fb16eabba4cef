"""What every step of the room asks of its input; what does not hold is one clear line."""

from collections.abc import Sequence
from numbers import Integral

import numpy as np

from labkit.errors import LabError

MOST_SEED = 2**32 - 1  # NumPy's and scikit-learn's random generators take no larger one


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as an int, if it is a whole number from `least` to `most`.

    Raises:
        LabError: a bool, a float, a text, or a number outside the bounds.
    """
    allowed = f"{least} or more" if most is None else f"from {least} to {most}"
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        raise LabError(f"{name} cannot be {value!r}", "", f"choose a whole number, {allowed}")
    return int(value)


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
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise LabError("the vectors are no table of numbers", f"shape {array.shape}, type {array.dtype}", action)
    if array.size == 0:
        raise LabError("no vectors", f"shape {array.shape}", "choose more dialogues")
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
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
    if expected and (array.dtype.kind not in "iu" or array.min() < -1):
        found = f"type {array.dtype}" if array.dtype.kind not in "iu" else str(array.min())
        raise LabError("labels that are no cluster ids", found, "use whole numbers from 0, and -1 for noise")
    return array


def clean_texts(texts: Sequence[str]) -> list[str]:
    """`texts` as a list of strings that can be written as UTF-8.

    Raises:
        LabError: one string instead of several, a text that is no string, or half an emoji (a lone surrogate).
    """
    if isinstance(texts, str | bytes):
        raise LabError("one text where several are expected", repr(texts[:40]), "pass a list of texts")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise LabError(f"text {number} is no text", repr(text)[:80], "pass strings only")
        refuse_surrogates(f"text {number}", text)
    return texts


def refuse_surrogates(place: str, text: str) -> None:
    """Raise a LabError if `text` holds half an emoji: no file, table or tokenizer can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"a lone surrogate, {text[error.start]!a}, at character {error.start}"
        raise LabError(f"{place} holds half an emoji", found, "repair or remove that character") from error
