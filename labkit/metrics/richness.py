"""How varied the replies of a system are."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import chain
from operator import add

_PUNCTUATION = str.maketrans("", "", "'.,?!)(%/-_:;")


def richness(replies: Sequence[str]) -> dict[str, float]:
    """Entropy and conditional bigram entropy (bits), tokens a reply, MSTTR-50, numbers of different n-grams.

    Of the normalised replies [N], as Nekvinda & Dušek (2021) define them.
    """
    lines = [words(reply) for reply in replies]
    uni, bi, tri = (Counter(chain.from_iterable(_ngrams(line, n) for line in lines)) for n in (1, 2, 3))
    total = uni.total()
    pairs = [(count / total, count / uni[pair[:1]]) for pair, count in bi.items()]  # p(x, y) and p(y | x)
    return {
        "entropy": 0.0 - sum(p * math.log(p, 2) for p in (count / total for count in uni.values())),
        "cond_entropy": 0.0 - sum(joint * math.log(conditional, 2) for joint, conditional in pairs),
        "avg_lengths": total / len(replies),
        "msttr": msttr(list(chain.from_iterable(lines))),
    } | {f"num_{name}grams": len(counts) for name, counts in (("uni", uni), ("bi", bi), ("tri", tri))}


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; an empty text is one empty word, as in the lexical_diversity package."""
    return re.sub(r"\s+", " ", text.replace("``", "").translate(_PUNCTUATION)).lower().split(" ")


def _ngrams(tokens: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(tokens[start:] for start in range(n)), strict=False)


def msttr(tokens: Sequence[str], window: int = 50) -> float:
    """Mean segmental type-token ratio (Johnson 1944) over whole windows, or over all tokens where there are few."""
    if len(tokens) <= window:
        return len(set(tokens)) / len(tokens)
    starts = range(0, len(tokens) - window + 1, window)
    ratios = (len(set(tokens[start : start + window])) / window for start in starts)
    return reduce(add, ratios) / len(starts)  # not sum(), which rounds otherwise from Python 3.12 on
