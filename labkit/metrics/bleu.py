"""Corpus BLEU (Papineni et al. 2002) from counts that add up to the score of any set of dialogues.

Tokenisation and formula are sacrebleu's (Post 2018); only the counting is done here, once a turn and vectorised, since
confidence intervals need it by dialogue.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

ORDERS = 4


@cache
def _tokenizer() -> Any:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()


@lru_cache(maxsize=2**16)
def _tokens(word: str) -> list[str]:
    """13a tokens of a word. Its rules never look past a space, so that a text is the sum of its words."""
    return _tokenizer()(word).split()


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Counts of each turn: [N, 10] = matches of 1- to 4-grams, n-grams of 1 to 4, length, the reference's length."""
    ids, line, size = _token_ids((*hypotheses, *references))
    turns = len(hypotheses)
    side, turn = line // turns, line % turns
    counts = np.zeros((turns, 2 * ORDERS + 2), dtype=np.int64)
    codes, whole, width = ids, ids > 0, size  # of the n-gram that starts here: a number; whether its line holds it all
    for n in range(ORDERS):
        if n:
            if width * size > np.iinfo(np.int64).max // (2 * turns):  # make the numbers small again
                codes = np.unique(codes, return_inverse=True)[1]
                width = int(codes.max()) + 1
            codes, whole, width = codes[:-1] * size + ids[n:], whole[:-1] & (ids[n:] > 0), width * size
        keys = ((turn[: len(codes)] * width + codes) * 2 + side[: len(codes)])[whole]
        keys, times = np.unique(keys, return_counts=True)  # the two sides of an n-gram come out next to each other
        both = np.flatnonzero(keys[:-1] >> 1 == keys[1:] >> 1)
        counts[:, n] = np.bincount(keys[both] // (2 * width), np.minimum(times[both], times[both + 1]), turns)
        said = keys % 2 == 0
        counts[:, ORDERS + n] = np.bincount(keys[said] // (2 * width), times[said], turns)
    lengths = np.bincount(line[ids > 0], minlength=2 * turns)
    counts[:, 2 * ORDERS :] = lengths.reshape(2, turns).T
    return counts


def _token_ids(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, int]:
    """(token ids with a 0 after each line [T], the line of each [T], the number of different ids)."""
    vocabulary = {"\n": 0}
    lines = [[token for word in text.split() for token in _tokens(word)] + ["\n"] for text in texts]
    ids = [vocabulary.setdefault(token, len(vocabulary)) for line in lines for token in line]
    return np.array(ids), np.repeat(np.arange(len(lines)), [len(line) for line in lines]), len(vocabulary)


def bleu_score(counts: np.ndarray) -> float:
    """BLEU (0 to 100) of counts [10], summed over turns; with sacrebleu's default smoothing."""
    from sacrebleu.metrics import BLEU

    values = [int(value) for value in counts]
    matches, ngrams, lengths = values[:ORDERS], values[ORDERS : 2 * ORDERS], values[2 * ORDERS :]
    return BLEU.compute_bleu(matches, ngrams, *lengths, smooth_method="exp").score
