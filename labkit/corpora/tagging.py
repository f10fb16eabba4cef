"""Slot values as BIO tags of words (Ramshaw & Marcus 1995), and back."""

import re
from collections.abc import Iterable, Sequence

from labkit.corpora.types import Span

Word = tuple[int, int]  # (first character, character after the last)
Tagged = set[tuple[str, int, int]]  # {(domain-slot, first word, word after the last)}
OUTSIDE = "O"
_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> list[Word]:
    """(start, end) of every word and every punctuation mark."""
    return [match.span() for match in _WORD.finditer(text)]


def bio_tags(words: Sequence[Word], spans: Iterable[Span]) -> list[str]:
    """A tag for each word: B-domain-slot where a value begins, I-domain-slot where it goes on, O elsewhere.

    >>> bio_tags([(0, 5), (6, 9), (10, 14), (15, 21)], [Span("Hotel-Inform", "name", "the gilded swan", 6, 21)])
    ['O', 'B-hotel-name', 'I-hotel-name', 'I-hotel-name']
    """
    tags = [OUTSIDE] * len(words)
    for span in spans:
        label = f"{span.domain}-{span.slot}"
        prefix = "B"
        for position, (start, end) in enumerate(words):
            overlaps = start < span.end and end > span.start
            if overlaps:
                tags[position] = f"{prefix}-{label}"
                prefix = "I"
    return tags


def tagged_spans(tags: Sequence[str]) -> Tagged:
    """The spans that tags stand for; as in conlleval, an I- that continues nothing begins a span."""
    spans: Tagged = set()
    first = 0
    for position, tag in enumerate(tags):
        label = tag[2:]  # "" of O
        previous = tags[position - 1][2:] if position else None
        if not tag.startswith("I") or label != previous:
            first = position
        following = tags[position + 1] if position + 1 < len(tags) else OUTSIDE
        if label and following != f"I-{label}":
            spans.add((label, first, position + 1))
    return spans
