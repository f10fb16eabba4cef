"""BLEU, Inform, Success, lexical richness and dialogue state tracking of predictions, as mwzeval scores them."""

from labkit.corpora.types import Corpus
from labkit.errors import LabError
from labkit.metrics.evaluation import Evaluation, Predictions, gold_of
from labkit.metrics.predictions import constant_predictions, gold_predictions, read_predictions, write_predictions
from labkit.metrics.referee import rescored
from labkit.metrics.scores import Explanation, Scores, compare
from labkit.metrics.statistics import power
from labkit.models.likelihood import reply_perplexity

__all__ = [
    "Explanation",
    "Predictions",
    "Scores",
    "compare",
    "constant_predictions",
    "evaluate",
    "gold_predictions",
    "power",
    "read_predictions",
    "reply_perplexity",
    "write_predictions",
]
SCORERS = ("labkit", "mwzeval")


def evaluate(
    predictions: Predictions,
    corpus: Corpus,
    split: str = "test",
    *,
    scorer: str = "labkit",
    allow_lexical: bool = False,
) -> Scores:
    """Score predictions on a split; dialogues that were not predicted are left out, and `Scores.notes` says so.

    `scorer="mwzeval"` takes the figures from the package mwzeval, run on this corpus. `allow_lexical` scores replies
    with names and numbers in them all the same.

    Raises:
        LabError: a malformed prediction (dialogue and turn are named), none at all, one that the split doesn't have,
            lexical replies, or mwzeval is not installed.
    """
    if scorer not in SCORERS:
        raise LabError(f"unknown scorer {scorer!r}", "", "choose labkit or mwzeval")
    evaluation = Evaluation(predictions, gold_of(corpus, split))
    if not allow_lexical:
        evaluation.refuse_lexical()
    if scorer == "mwzeval":
        return rescored(evaluation)
    return evaluation.scores()
