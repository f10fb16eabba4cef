"""Checkers of the scores that students compute themselves: Inform, BLEU, the paired bootstrap, joint accuracy."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from labkit.metrics.bleu import bleu_counts, bleu_score
from labkit.metrics.statistics import bootstrap_p
from labkit.notebook.exercises.answers import Wrong, number, truth
from labkit.notebook.exercises.texts import cases, texts

Constraints = Mapping[str, str]
Find = Callable[[Constraints], set[str]]
Turn = tuple[str, dict[str, str]]  # a delexicalised reply, and the belief state of its turn: {slot: value}
Tokens = list[str]
_ORDERS = (1, 2, 3, 4)
_EXACT = 0.006  # a score to two decimals is right
_OF_RESAMPLES = 1e-9


# --- 1.8 --------------------------------------------------------------------------------------------------------------


def inform(own: Callable) -> str:
    """Check 1.8: Inform for the dialogues of one domain."""
    exercise = texts()["1.8"]
    find = _database(exercise["venues"])
    for case in cases("1.8"):
        turns = [(reply, dict(state)) for reply, state in case["turns"]]
        goal = case["goal"]
        expected = case["expected"]
        returned = own(turns, goal, find)
        answer = truth(returned)
        if answer != expected:
            why = case["why"]
            told = _told(turns, goal, find)
            raise Wrong(f"{told}. Inform is {expected} here: {why}.")
    return "This is Inform in a domain. A dialogue passes if it passes in every domain of its goal."


def _database(venues: Sequence[Constraints]) -> Find:
    """A look-up: constraints → the names of the venues that meet them all."""

    def find(constraints: Constraints) -> set[str]:
        found = set()
        for venue in venues:
            if constraints.items() <= venue.items():
                found.add(venue["name"])
        return found

    return find


def _told(turns: Sequence[Turn], goal: Constraints, find: Find) -> str:
    """A dialogue in words: what the goal wants and finds, then each turn."""
    said = []
    for reply, state in turns:
        found = sorted(find(state))
        said.append(f"{reply!r} with the state {state}, which finds {found}")
    dialogue = "; then ".join(said)
    wanted = sorted(find(goal))
    return f"The goal {goal} finds {wanted}. The bot says {dialogue}"


# --- 1.9 --------------------------------------------------------------------------------------------------------------


def bleu(own: Callable) -> str:
    """Check 1.9: clipped n-gram precision and the brevity penalty."""
    for case in cases("1.9"):
        hypotheses = [text.split() for text in case["hypotheses"]]
        references = [text.split() for text in case["references"]]
        answer = own(hypotheses, references)
        got = number(answer, "BLEU")
        expected = _bleu(hypotheses, references)
        if abs(got - expected) <= _EXACT:
            continue
        why = _which_bleu(got, hypotheses, references)
        said = case["hypotheses"]
        right = case["references"]
        told = f"replies {said}, references {right}"
        raise Wrong(f"{told}: BLEU is {expected:.2f}; yours is {got:.2f}.{why}")
    return "The same as sacrebleu's, wherever each order has a match; without one, sacrebleu smooths a little."


def _bleu(hypotheses: Sequence[Tokens], references: Sequence[Tokens]) -> float:
    """Corpus BLEU without smoothing: 0 where an order has no match."""
    said = [" ".join(tokens) for tokens in hypotheses]
    right = [" ".join(tokens) for tokens in references]
    counts = bleu_counts(said, right).sum(axis=0)  # [10]
    matches = counts[: len(_ORDERS)]
    return bleu_score(counts) if matches.all() else 0.0


def _which_bleu(got: float, hypotheses: Sequence[Tokens], references: Sequence[Tokens]) -> str:
    """The explanation of the one mistake that gives this figure; empty where none does."""
    for mistake, explanation in _BLEU_MISTAKES.items():
        theirs = _mistaken_bleu(hypotheses, references, mistake)
        if abs(got - theirs) <= _EXACT:
            return f" {explanation}"
    if abs(100 * got - _bleu(hypotheses, references)) <= _EXACT:
        return " Per cent, please."
    return ""


_BLEU_MISTAKES = {
    "not clipped": "An n-gram counts at most as often as it stands in the reference: that is what clipped means.",
    "no penalty": "That is without the brevity penalty: replies that are too short must lose.",
    "always penalised": "The brevity penalty is never above 1: long replies gain nothing by their length.",
    "upside down": "The brevity penalty has the lengths the wrong way round.",
    "arithmetic": "The four precisions are joined by the geometric mean: the exponential of the mean logarithm.",
    "mean of replies": "Add up matches and lengths over all replies, then divide once; a mean of scores is no BLEU.",
}


def _mistaken_bleu(hypotheses: Sequence[Tokens], references: Sequence[Tokens], mistake: str) -> float:
    """What a student gets who makes one of _BLEU_MISTAKES."""
    if mistake == "mean of replies":
        scores = []
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            score = _bleu([hypothesis], [reference])
            scores.append(score)
        return float(np.mean(scores))
    precisions = []
    for n in _ORDERS:
        clipped = mistake != "not clipped"
        matches, total = _matches(hypotheses, references, n, clipped)
        precisions.append(matches / max(total, 1))
    if not all(precisions):
        return math.nan
    length = sum(map(len, hypotheses))
    length_of_references = sum(map(len, references))
    logarithms = np.log(precisions)
    mean = np.exp(logarithms.mean())
    if mistake == "arithmetic":
        mean = np.mean(precisions)
    penalty = _penalty(length, length_of_references, mistake)
    return float(100 * mean * penalty)


def _penalty(length: int, length_of_reference: int, mistake: str) -> float:
    if mistake == "no penalty":
        return 1.0
    exponent = 1 - length_of_reference / length
    if mistake == "upside down":
        exponent = 1 - length / length_of_reference
    if mistake != "always penalised":
        exponent = min(0.0, exponent)
    return math.exp(exponent)


def _matches(
    hypotheses: Sequence[Tokens],
    references: Sequence[Tokens],
    n: int,
    clipped: bool,
) -> tuple[int, int]:
    """(n-grams of the replies that their references have, all n-grams of the replies)."""
    matches = 0
    total = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        said = _grams(hypothesis, n)
        right = _grams(reference, n)
        total += sum(said.values())
        for gram, times in said.items():
            in_reference = right[gram]
            if clipped:
                times = min(times, in_reference)
            if in_reference:
                matches += times
    return matches, total


def _grams(tokens: Tokens, n: int) -> Counter[tuple[str, ...]]:
    starts = range(len(tokens) - n + 1)
    return Counter(tuple(tokens[start : start + n]) for start in starts)


# --- 3.7 --------------------------------------------------------------------------------------------------------------


def paired_bootstrap(own: Callable) -> str:
    """Check 3.7: p of a difference, by resampled dialogues."""
    draw = np.random.default_rng(37)
    for n, shift in ((12, 0.4), (12, -0.4), (30, 0.0), (25, 1.5)):
        a = draw.normal(size=(n, 2))
        gains = draw.normal(shift, 0.8, size=(n, 2))
        b = a + gains
        draws = draw.integers(0, n, size=(60, n))
        answer = own(a, b, _ratio, draws)
        got = number(answer, "p")
        differences = []
        for chosen in draws:
            difference = _ratio(b[chosen]) - _ratio(a[chosen])
            differences.append(difference)
        drawn = np.array(differences)  # [B]
        found = _ratio(b) - _ratio(a)
        expected = bootstrap_p(drawn, found)
        if abs(got - expected) <= _OF_RESAMPLES:
            continue
        why = _which_p(got, drawn, found)
        told = f"{n} dialogues, {len(draws)} resamples, a difference of {found:+.2f}"
        raise Wrong(f"{told}: p is {expected:.4f}; yours is {got:.4f}.{why}")
    return "Riezler and Maxwell (2005): labkit's `compare` computes the p of BLEU in this way."


def _ratio(rows: np.ndarray) -> float:
    """A score of some dialogues [D, 2] that is no mean of their own scores, as BLEU is none."""
    first, second = rows.mean(axis=0)
    return float(np.tanh(first) + 0.1 * second)


_P_MISTAKES = {
    "mean": "The resamples scatter around what was found, not around 0. Take their mean away first: chance alone has "
    "no favourite.",
    "one side": "A difference in the other direction is as extreme: compare absolute values.",
    "vanishes": "That is how often the difference vanishes. The question is how often chance alone makes one as large.",
}


def _which_p(got: float, drawn: np.ndarray, found: float) -> str:
    """What a student did who gets this p from the differences on the resamples [B]."""
    from_mean = drawn - drawn.mean()  # [B]
    is_extreme = np.abs(from_mean) >= abs(found)  # [B]
    if abs(got - is_extreme.mean()) <= _OF_RESAMPLES:
        return " Nothing is known below 1 in B + 1: count the difference that was found as one more resample."
    towards_found = drawn * np.sign(found)  # [B]
    counted = {
        "mean": np.abs(drawn) >= abs(found),
        "one side": from_mean >= found,
        "vanishes": towards_found <= 0,
    }
    for mistake, is_counted in counted.items():
        p = (is_counted.sum() + 1) / (len(drawn) + 1)
        if abs(got - p) <= _OF_RESAMPLES:
            return f" {_P_MISTAKES[mistake]}"
    if not 0 <= got <= 1:
        return " A p is a share, from 0 to 1."
    return " Does one draw choose the same dialogues of both systems?"


# --- 5.7 --------------------------------------------------------------------------------------------------------------


def joint_accuracy(own: Callable) -> str:
    """Check 5.7: turns whose whole state is right, `dontcare` left out on both sides."""
    for case in cases("5.7"):
        predicted = case["predicted"]
        annotated = case["annotated"]
        answer = own(predicted, annotated)
        got = number(answer, "Joint accuracy")
        expected = case["expected"]
        if abs(got - expected) <= _EXACT:
            continue
        scale = ""
        if abs(100 * got - expected) <= _EXACT:
            scale = ": per cent, please"
        name = case["name"]
        told = f"predicted {predicted}, annotated {annotated}"
        raise Wrong(f"When {name} ({told}): {expected:.1f}, not {got:.4g}{scale}.")
    return "With this figure the annotation scores 100, whatever it does not care about."
