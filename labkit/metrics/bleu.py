"""Corpus BLEU (Papineni et al. 2002) from counts that add up to the score of any set of dialogues.

Tokenisation and formula are sacrebleu's (Post 2018); only the counting is done here, once a turn and vectorised, since
confidence intervals need it by dialogue.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

_tokenised = Tokenizer13a()


@lru_cache(maxsize=2**16)
def _tokens(word: str) -> list[str]:
    """13a tokens of a word. Its rules never look past a space, so that a text is the sum of its words."""
    return _tokenised(word).split()


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Counts of each turn: [N, 10] = matches of 1- to 4-grams, n-grams of 1 to 4, length, the reference's length."""
    ids, line = _token_ids((*hypotheses, *references))
    turns, size = len(hypotheses), ids.max() + 1
    said, turn = line < turns, line % turns
    counts = np.zeros((turns, 10), dtype=np.int64)
    grams, whole, turn_of = turn, ids >= 0, np.zeros_like(ids)
    for n in range(4):
        following = np.roll(ids, -n)
        grams = np.unique(grams * size + following, return_inverse=True)[1]  # [T], equal where turn and n-gram are
        whole = whole & (following > 0)  # the n-gram ends before its line does
        times = [np.bincount(grams[whole & side], minlength=len(ids)) for side in (said, ~said)]
        turn_of[grams] = turn
        counts[:, n] = np.bincount(turn_of, np.minimum(*times), turns)
        counts[:, 4 + n] = np.bincount(turn[whole & said], minlength=turns)
    counts[:, 8:] = np.bincount(line[ids > 0], minlength=2 * turns).reshape(2, turns).T
    return counts


def _token_ids(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(token ids with a 0 after each line [T], the line of each [T])."""
    vocabulary = {"\n": 0}
    lines = [[token for word in text.split() for token in _tokens(word)] + ["\n"] for text in texts]
    ids = [vocabulary.setdefault(token, len(vocabulary)) for line in lines for token in line]
    return np.array(ids), np.repeat(np.arange(len(lines)), [len(line) for line in lines])


def bleu_score(counts: np.ndarray) -> float:
    """BLEU (0 to 100) of counts [10], summed over turns; with sacrebleu's default smoothing."""
    values = counts.tolist()
    return BLEU.compute_bleu(values[:4], values[4:8], *values[8:], smooth_method="exp").score
