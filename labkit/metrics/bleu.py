"""Corpus BLEU (Papineni et al. 2002) from counts that add up to the score of any set of dialogues.

Tokenisation and formula are sacrebleu's (Post 2018); only the counting is done here, once a turn and vectorised, since
confidence intervals need it by dialogue.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

MAX_ORDER = 4  # n-grams of 1 to 4 tokens
N_COUNTS = 2 * MAX_ORDER + 2
LINE_END = "\n"  # gets the token id 0
_tokenised = Tokenizer13a()


@lru_cache(maxsize=2**16)
def _tokens(word: str) -> list[str]:
    """13a tokens of a word. Its rules never look past a space, so that a text is the sum of its words."""
    return _tokenised(word).split()


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Counts of each turn [N, 10]: matches of 1- to 4-grams, n-grams of 1 to 4, length, the reference's length.

    All texts stand one after the other in one long row of T tokens: first the hypotheses, then the references.
    """
    n_turns = len(hypotheses)
    tokens, line = _token_ids([*hypotheses, *references])  # both [T]
    turn = line % n_turns  # [T]
    in_hypothesis = line < n_turns  # [T]
    counts = np.zeros((n_turns, N_COUNTS), dtype=np.int64)

    grams = turn  # [T], ids that are equal where the turn and the n-gram are; for n = 0 the turn alone
    is_whole = tokens >= 0  # [T], False where the n-gram would go on into the next line
    for n in range(MAX_ORDER):
        next_token = np.roll(tokens, -n)  # [T]
        grams = _renumbered(grams * (tokens.max() + 1) + next_token)
        is_whole = is_whole & (next_token > 0)
        in_reply = is_whole & in_hypothesis
        in_reference = is_whole & ~in_hypothesis
        counts[:, n] = _matches(grams[in_reply], grams[in_reference], turn, grams)
        counts[:, MAX_ORDER + n] = np.bincount(turn[in_reply], minlength=n_turns)

    lengths = np.bincount(line[tokens > 0], minlength=2 * n_turns)  # [2N]
    counts[:, -2] = lengths[:n_turns]
    counts[:, -1] = lengths[n_turns:]
    return counts


def _renumbered(codes: np.ndarray) -> np.ndarray:
    """Equal numbers for equal codes, but small ones: codes of 4-grams over a large vocabulary overflow 64 bits."""
    return np.unique(codes, return_inverse=True)[1]


def _matches(in_reply: np.ndarray, in_reference: np.ndarray, turn: np.ndarray, grams: np.ndarray) -> np.ndarray:
    """Clipped matches of each turn [N]: an n-gram counts as often as it stands in both texts of the turn."""
    n_turns = int(turn.max()) + 1
    n_grams = len(grams)
    in_both = np.minimum(np.bincount(in_reply, minlength=n_grams), np.bincount(in_reference, minlength=n_grams))
    turn_of_gram = np.zeros(n_grams, dtype=np.int64)
    turn_of_gram[grams] = turn  # an id of `grams` belongs to one turn only
    return np.bincount(turn_of_gram, weights=in_both, minlength=n_turns)


def _token_ids(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(ids [T] of the tokens of all texts, with 0 after each text; the number of the text [T] that each stands in)."""
    vocabulary: defaultdict[str, int] = defaultdict(lambda: len(vocabulary))  # a new token gets the next number
    assert vocabulary[LINE_END] == 0
    ids: list[int] = []
    lengths: list[int] = []
    for text in texts:
        tokens = [token for word in text.split() for token in _tokens(word)]
        tokens.append(LINE_END)
        ids.extend([vocabulary[token] for token in tokens])
        lengths.append(len(tokens))
    return np.array(ids), np.repeat(np.arange(len(texts)), lengths)


def bleu_score(counts: np.ndarray) -> float:
    """BLEU (0 to 100) of counts [10], summed over turns; with sacrebleu's default smoothing."""
    values = counts.tolist()
    score = BLEU.compute_bleu(
        correct=values[:MAX_ORDER],
        total=values[MAX_ORDER:-2],
        sys_len=values[-2],
        ref_len=values[-1],
        smooth_method="exp",
    )
    return score.score
