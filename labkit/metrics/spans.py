"""The F1 of spans that a tagger found. What tags are is in labkit.corpora.tagging, whose names are here too."""

from collections.abc import Sequence

from labkit.corpora.tagging import Tagged, bio_tags, tagged_spans, words

__all__ = ["Tagged", "bio_tags", "span_f1", "tagged_spans", "words"]


def span_f1(gold: Sequence[Tagged], predicted: Sequence[Tagged]) -> dict[str, float]:
    """Precision, recall and F1 in per cent over all utterances. A span counts if slot and both ends are right: the
    measure of CoNLL-2003 (Tjong Kim Sang & De Meulder 2003).

    Args:
        gold, predicted: the spans of each utterance, as `tagged_spans` gives them.
    """
    n_right = 0
    n_gold = 0
    n_predicted = 0
    for true_spans, found_spans in zip(gold, predicted, strict=True):
        n_right += len(true_spans & found_spans)
        n_gold += len(true_spans)
        n_predicted += len(found_spans)
    precision = 100 * n_right / max(1, n_predicted)
    recall = 100 * n_right / max(1, n_gold)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"precision": precision, "recall": recall, "f1": f1}
