"""Checkers of the key-value cache: how large it is, and writing with it."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

from labkit.notebook.exercises.answers import Wrong, number, shown, times, whole_number
from labkit.notebook.exercises.texts import cases

Tokens = list[int]
Past = tuple[int, ...]  # of the toy model: every token that it has read
Config = Mapping[str, int]
_VOCABULARY = 11


# --- 3.5 --------------------------------------------------------------------------------------------------------------


def cache_bytes(own: Callable) -> str:
    """Check 3.5: bytes that the key-value cache takes."""
    for case in cases("3.5"):
        config = case["config"]
        size = case["bytes"]
        answer = own(config, size)
        got = number(answer, "The bytes of a token")
        expected = _bytes_of_token(config, size)
        if got == expected:
            continue
        why = _about_bytes(got, expected, config)
        name = case["name"].capitalize()
        raise Wrong(f"{name} ({config}, {size} bytes a number): {expected:,} bytes a token, not {got:,.6g}. {why}")
    return "Fewer heads of keys and values: the same attention, a fraction of the cache. Newer Llamas share them."


def _bytes_of_token(config: Config, size: int) -> int:
    heads = config["num_attention_heads"]
    width = config.get("head_dim", config["hidden_size"] // heads)
    kept = config.get("num_key_value_heads", heads)
    return 2 * config["num_hidden_layers"] * kept * width * size


def _about_bytes(got: float, expected: int, config: Config) -> str:
    heads = config["num_attention_heads"]
    kept = config.get("num_key_value_heads", heads)
    mistakes = {
        0.5: "A layer keeps keys and values.",
        heads / kept: "The cache has as many heads as there are heads of keys and values.",
        1 / config["num_hidden_layers"]: "Every layer has a cache of its own.",
    }
    for factor, explanation in mistakes.items():
        if factor != 1 and got == factor * expected:
            return explanation
    return "How wide is one head, how many heads are kept, in how many layers?"


# --- 3.6 --------------------------------------------------------------------------------------------------------------


class _Model:
    """A model whose next token depends on every token that it has read, and on their order. It counts them."""

    def __init__(self) -> None:
        self.read = 0
        self.calls: list[tuple[Tokens, bool]] = []  # what was given, and whether a past came with it

    def __call__(self, ids: object, past: Past | None) -> tuple[np.ndarray, Past]:
        """Logits [V] after the last of the ids, and the past with them."""
        given = np.asarray(ids)
        new = [int(token) for token in given.reshape(-1)]
        self.read += len(new)
        self.calls.append((new, past is not None))
        if len(self.calls) > 40:
            raise Wrong("The model was asked more than 40 times: when does your loop end?")
        known = (*(past or ()), *new)
        return _logits(known), known

    def __deepcopy__(self, memory: dict) -> "_Model":
        return self  # the student's function gets this one, not a copy: the checker looks at its counts


def _logits(known: Past) -> np.ndarray:
    seed = [len(known), *known]
    return np.random.default_rng(seed).normal(size=_VOCABULARY)


def write_with_cache(own: Callable) -> str:
    """Check 3.6: greedy writing with a key-value cache."""
    for case in cases("3.6"):
        ids = case["ids"]
        n = case["n"]
        model = _Model()
        expected = _reply(ids, n)
        answer = own(model, list(ids), n)
        got = [whole_number(token) for token in answer]
        told = f"For the ids {ids} and n = {n}"
        if got != expected:
            why = _about_reply(model, ids)
            raise Wrong(f"{told} the reply is {expected}; yours is {shown(got)}.{why}")
        needed = len(ids) + n - 1
        if model.read > needed + 1:  # one more: the last token was read, though nothing comes after it
            read = times(model.read, "token")
            raise Wrong(
                f"{told} the reply is right, but the model read {read} where {needed} are enough. After the first "
                "call only the new token is new; the others are in `past`."
            )
    return "The same text, and every token is read once: without a cache a reply of n tokens reads the prompt n times."


def _reply(ids: Tokens, n: int) -> Tokens:
    known = list(ids)
    for _ in range(n):
        logits = _logits(tuple(known))
        known.append(int(logits.argmax()))
    return known[len(ids) :]


def _about_reply(model: _Model, ids: Tokens) -> str:
    """Which of the usual mistakes the calls show; empty where none does."""
    if not model.calls or model.calls[0][0] != ids:
        return " First the model reads the whole prompt, without a past."
    for before, now in pairwise(model.calls):
        given, has_past = now
        if not has_past and len(given) == 1:
            return " A token was given without its past: the model has read nothing else then."
        if has_past and len(given) >= len(before[0]) > 1:
            return " What is in `past` was given once more, so the model has read it twice. Give what is new."
    return " Is `past` the one that the last call returned, and is the likeliest token taken?"
