"""How varied the replies of a system are."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain
from operator import add

Gram = tuple[str, ...]
_PUNCTUATION = str.maketrans("", "", "'.,?!)(%/-_:;")
_SPACES = re.compile(r"\s+")


def richness(replies: Sequence[str]) -> dict[str, float]:
    """Entropy and conditional bigram entropy (bits), tokens a reply, MSTTR-50, numbers of different n-grams.

    Of the normalised replies [N], as Nekvinda & Dušek (2021) define them.
    """
    lines = [words(reply) for reply in replies]
    unigrams = _counted(lines, 1)
    bigrams = _counted(lines, 2)
    trigrams = _counted(lines, 3)
    n_tokens = unigrams.total()
    all_words = [word for line in lines for word in line]
    return {
        "entropy": _entropy(unigrams, n_tokens),
        "cond_entropy": _conditional_entropy(bigrams, unigrams, n_tokens),
        "avg_lengths": n_tokens / len(replies),
        "msttr": msttr(all_words),
        "num_unigrams": len(unigrams),
        "num_bigrams": len(bigrams),
        "num_trigrams": len(trigrams),
    }


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; an empty text is one empty word, as in the lexical_diversity package."""
    without_quotes = text.replace("``", "")
    plain = without_quotes.translate(_PUNCTUATION)
    spaced = _SPACES.sub(" ", plain)
    return spaced.lower().split(" ")


def _counted(lines: Iterable[Sequence[str]], n: int) -> Counter[Gram]:
    """How often each n-gram occurs; none goes from one line into the next."""
    return Counter(chain.from_iterable(_ngrams(line, n) for line in lines))


def _ngrams(tokens: Sequence[str], n: int) -> Iterator[Gram]:
    shifted = [tokens[start:] for start in range(n)]
    return zip(*shifted, strict=False)


def _entropy(unigrams: Counter[Gram], n_tokens: int) -> float:
    """−Σ p(x) log₂ p(x), in bits."""
    terms = []
    for count in unigrams.values():
        p = count / n_tokens
        terms.append(p * math.log(p, 2))
    return 0.0 - sum(terms)


def _conditional_entropy(bigrams: Counter[Gram], unigrams: Counter[Gram], n_tokens: int) -> float:
    """−Σ p(x, y) log₂ p(y | x), in bits."""
    terms = []
    for (first, _), count in bigrams.items():
        joint = count / n_tokens
        conditional = count / unigrams[first,]
        terms.append(joint * math.log(conditional, 2))
    return 0.0 - sum(terms)


def msttr(tokens: Sequence[str], window: int = 50) -> float:
    """Mean segmental type-token ratio (Johnson 1944) over whole windows, or over all tokens where there are few."""
    if len(tokens) <= window:
        return len(set(tokens)) / len(tokens)
    ratios = []
    for start in range(0, len(tokens) - window + 1, window):
        segment = tokens[start : start + window]
        n_different = len(set(segment))
        ratios.append(n_different / window)
    total = reduce(add, ratios)  # not sum(), which rounds otherwise from Python 3.12 on
    return total / len(ratios)
