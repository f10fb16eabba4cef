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
    gold = gold_of(corpus, split)
    evaluation = Evaluation(predictions, gold)
    cases = []
    for key in evaluation.predictions:
        goal = corpus.goals.get(key, {})
        if domain not in goal:
            continue
        constraints = goal[domain]["informable"]
        if "name" in constraints:
            continue
        turns = _turns_about(domain, evaluation, key)
        verdicts = evaluation.verdicts(key)
        (passes,) = [verdict.inform for verdict in verdicts if verdict.domain == domain]
        case = DomainCase(key, turns, constraints, passes)
        cases.append(case)
    return cases


def _turns_about(domain: str, evaluation: Evaluation, key: str) -> list[tuple[str, dict[str, str]]]:
    turns = []
    predicted = evaluation.predictions[key]
    inputs = evaluation.inputs(key)
    for said, turn in zip(predicted, inputs, strict=True):
        if domain not in turn.active:
            continue
        reply = said["response"]
        state = turn.state.get(domain, {})
        turns.append((reply, dict(state)))
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
    gold = gold_of(corpus, split)
    evaluation = Evaluation(predictions, gold)
    replies = [tokens_of(text) for text in evaluation.texts]
    references = []
    for texts in evaluation.references.values():
        tokens = [tokens_of(text) for text in texts]
        references.extend(tokens)
    return replies, references
