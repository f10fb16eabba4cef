"""What labkit's own scorer sees, handed to a score that a student wrote: the same inputs, and labkit's verdict."""

from collections.abc import Mapping
from typing import NamedTuple

from labkit.corpora.types import Corpus, Predictions
from labkit.metrics.bleu import tokens_of
from labkit.metrics.evaluation import Evaluation, gold_of

Constraints = Mapping[str, str]


class DomainCase(NamedTuple):
    """A dialogue whose goal has the domain, as Inform sees it."""

    key: str
    turns: list[tuple[str, dict[str, str]]]  # of the turns about the domain: the reply, the domain's belief state
    goal: dict[str, str]  # the constraints that a venue must meet
    inform: bool  # labkit's verdict


def domain_cases(predictions: Predictions, corpus: Corpus, split: str, domain: str) -> list[DomainCase]:
    """The dialogues in which Inform of a domain is decided by what was offered.

    Those whose user names the venue are left out: they pass, whatever is said.
    """
    evaluation = Evaluation(predictions, gold_of(corpus, split))
    cases = []
    for key in evaluation.predictions:
        goal = corpus.goals.get(key, {})
        if domain not in goal or "name" in goal[domain]["informable"]:
            continue
        verdicts = {verdict.domain: verdict.inform for verdict in evaluation.verdicts(key)}
        case = DomainCase(key, _turns_about(domain, evaluation, key), goal[domain]["informable"], verdicts[domain])
        cases.append(case)
    return cases


def _turns_about(domain: str, evaluation: Evaluation, key: str) -> list[tuple[str, dict[str, str]]]:
    turns = []
    replies = [turn["response"] for turn in evaluation.predictions[key]]
    for reply, turn in zip(replies, evaluation.inputs(key), strict=True):
        if domain in turn.active:
            turns.append((reply, dict(turn.state.get(domain, {}))))
    return turns


class Finder:
    """A look-up of one domain: constraints → ids of the venues that meet them, as the scorer's own."""

    def __init__(self, corpus: Corpus, split: str, domain: str):
        self.database = gold_of(corpus, split).database
        self.domain = domain

    def __call__(self, constraints: Constraints) -> set[str]:
        """A new set, which the caller may change."""
        return set(self.database.query(self.domain, constraints))


def bleu_texts(predictions: Predictions, corpus: Corpus, split: str) -> tuple[list[list[str]], list[list[str]]]:
    """(replies, references) of all turns as the tokens that BLEU counts."""
    evaluation = Evaluation(predictions, gold_of(corpus, split))
    references = []
    for texts in evaluation.references.values():
        references.extend(texts)
    return [tokens_of(text) for text in evaluation.texts], [tokens_of(text) for text in references]
