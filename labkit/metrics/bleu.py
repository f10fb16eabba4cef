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


def tokens_of(text: str) -> list[str]:
    """The tokens of a text that BLEU counts."""
    return [token for word in text.split() for token in _tokens(word)]


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Counts of each turn [N, 10]: matches of 1- to 4-grams, n-grams of 1 to 4, length, the reference's length.

    All texts stand one after the other in one long row of T tokens: first the hypotheses, then the references.
    """
    n_turns = len(hypotheses)
    tokens, line = _token_ids([*hypotheses, *references])  # both [T]
    turn = line % n_turns  # [T]
    in_hypothesis = line < n_turns  # [T]
    counts = np.zeros((n_turns, N_COUNTS), dtype=np.int64)

    n_tokens = tokens.max() + 1  # different ones
    grams = turn  # [T], ids that are equal where the turn and the n-gram are; for n = 0 the turn alone
    is_whole = tokens >= 0  # [T], False where the n-gram would go on into the next line
    for n in range(MAX_ORDER):
        next_token = np.roll(tokens, -n)  # [T]
        grams = _renumbered(grams * n_tokens + next_token)
        is_whole = is_whole & (next_token > 0)
        in_reply = is_whole & in_hypothesis  # [T]
        in_reference = is_whole & ~in_hypothesis  # [T]
        counts[:, n] = _matches(grams, in_reply, in_reference, turn)
        counts[:, MAX_ORDER + n] = np.bincount(turn[in_reply], minlength=n_turns)

    lengths = np.bincount(line[tokens > 0], minlength=2 * n_turns)  # [2N]
    counts[:, -2] = lengths[:n_turns]
    counts[:, -1] = lengths[n_turns:]
    return counts


def _renumbered(codes: np.ndarray) -> np.ndarray:
    """Equal numbers for equal codes, but small ones: codes of 4-grams over a large vocabulary overflow 64 bits."""
    _, numbers = np.unique(codes, return_inverse=True)
    return numbers


def _matches(grams: np.ndarray, in_reply: np.ndarray, in_reference: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Clipped matches of each turn [N]: an n-gram counts as often as it stands in both texts of the turn.

    Args:
        grams, turn: the id and the turn of each n-gram [T]; an id belongs to one turn only.
        in_reply, in_reference: which of them are whole n-grams of the one text, or of the other [T].
    """
    n_ids = len(grams)  # ids are smaller than this
    times_in_reply = np.bincount(grams[in_reply], minlength=n_ids)  # [ids]
    times_in_reference = np.bincount(grams[in_reference], minlength=n_ids)  # [ids]
    times_in_both = np.minimum(times_in_reply, times_in_reference)
    turn_of_id = np.zeros(n_ids, dtype=np.int64)
    turn_of_id[grams] = turn
    return np.bincount(turn_of_id, weights=times_in_both)


def _token_ids(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(ids [T] of the tokens of all texts, with 0 after each text; the number of the text [T] that each stands in)."""
    vocabulary: defaultdict[str, int] = defaultdict(lambda: len(vocabulary))  # a new token gets the next number
    assert vocabulary[LINE_END] == 0
    ids: list[int] = []
    lengths: list[int] = []
    for text in texts:
        tokens = [*tokens_of(text), LINE_END]
        ids.extend([vocabulary[token] for token in tokens])
        lengths.append(len(tokens))
    numbers = np.arange(len(texts))
    return np.array(ids), np.repeat(numbers, lengths)


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
