"""Slot values as BIO tags of words (Ramshaw & Marcus 1995), and the F1 of the spans that tags stand for."""

import re
from collections.abc import Iterable, Sequence

from labkit.corpora.types import Span

Tagged = set[tuple[str, int, int]]  # {(domain-slot, first word, word after the last)}


def words(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word and every punctuation mark."""
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def bio_tags(words: Sequence[tuple[int, int]], spans: Iterable[Span]) -> list[str]:
    """A tag for each word: B-domain-slot where a value begins, I-domain-slot where it goes on, O elsewhere.

    >>> bio_tags([(0, 5), (6, 9), (10, 14), (15, 21)], [Span("Hotel-Inform", "name", "the gilded swan", 6, 21)])
    ['O', 'B-hotel-name', 'I-hotel-name', 'I-hotel-name']
    """
    tags = ["O"] * len(words)
    for span in spans:
        inside = [i for i, (start, end) in enumerate(words) if start < span.end and end > span.start]
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.domain}-{span.slot}"
    return tags


def tagged_spans(tags: Sequence[str]) -> Tagged:
    """The spans that tags stand for; as in conlleval, an I- that continues nothing begins a span."""
    spans, first = set(), 0
    for i, tag in enumerate(tags):
        slot = tag[2:]
        if tag[0] != "I" or i == 0 or tags[i - 1][2:] != slot:
            first = i
        if slot and (i + 1 == len(tags) or tags[i + 1] != f"I-{slot}"):
            spans.add((slot, first, i + 1))
    return spans


def span_f1(gold: Sequence[Tagged], predicted: Sequence[Tagged]) -> dict[str, float]:
    """Precision, recall and F1 in per cent over all utterances. A span counts if slot and both ends are right: the
    measure of CoNLL-2003 (Tjong Kim Sang & De Meulder 2003).
    """
    right = sum(len(one & other) for one, other in zip(gold, predicted, strict=True))
    precision, recall = (100 * right / max(1, sum(map(len, spans))) for spans in (predicted, gold))
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-9)}
