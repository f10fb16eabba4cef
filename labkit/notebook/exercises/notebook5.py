"""Checkers of notebook 5: early stopping, BIO tags, span F1, a conversation of a wished length."""

from collections.abc import Callable, Sequence

import numpy as np

from labkit.corpora.types import Span
from labkit.metrics import spans
from labkit.notebook.exercises import Wrong, exercise
from labkit.prompts.format import dialogue_header


def kept_validation(scores: Sequence[float], patience: int) -> int:
    """Index of the best score, the first of equals, before `patience` validations in a row were no better."""
    best = 0
    for at, score in enumerate(scores):
        best = at if score > scores[best] else best
        if at - best >= patience:
            break
    return best


@exercise("5.1")
def early_stopping(kept: Callable) -> str:
    cases = [([5, 5, 5, 1], 9), ([1, 3, 2, 3, 9], 2), ([1, 2, 3, 4], 2), ([3, 2, 1, 9], 3), ([2, 1, 3, 2, 2, 9], 2)]
    for scores, patience in cases:
        got, expected = kept(scores, patience), kept_validation(scores, patience)
        if not isinstance(got, int | np.integer) or not 0 <= got < len(scores):
            raise Wrong(f"Return the index of a validation, a number from 0 to {len(scores) - 1}; yours is {got!r}.")
        if got != expected:
            why = "an equal score is no better one" if scores[got] == scores[expected] else "count where the run ends"
            raise Wrong(f"Scores {scores}, patience {patience}: kept is number {expected}, you say {got}; {why}.")
    return "The same rule as labkit's; a patience that is too short takes noise for the end of learning."


def _tagged(text: str, *values: tuple[str, str]) -> tuple[str, list[Span]]:
    places = ((slot, value, text.index(value)) for slot, value in values)
    return text, [Span("Hotel-Inform", slot, value, start, start + len(value)) for slot, value, start in places]


@exercise("5.2")
def bio(tags_of: Callable) -> str:
    one = _tagged("a room at the gilded swan, in the north.", ("name", "the gilded swan"), ("area", "north"))
    beside = _tagged("north west", ("area", "north"), ("area", "west"))
    for text, marked in (one, beside, _tagged("thank you"), _tagged("cheap!", ("pricerange", "cheap"))):
        found = spans.words(text)
        got, expected = list(tags_of(found, marked)), spans.bio_tags(found, marked)
        if len(got) != len(found):
            raise Wrong(f"{text!r} has {len(found)} words, so {len(found)} tags; you give {len(got)}.")
        for (start, end), mine, right in zip(found, got, expected, strict=True):
            if mine != right:
                raise Wrong(f"{text!r}: the word {text[start:end]!r} should get {right}, yours gets {mine!r}.")
    return "B- tells where a value begins, so two values side by side stay two."


@exercise("5.3")
def f1(own: Callable) -> str:
    area, name, longer = ("hotel-area", 2, 3), ("hotel-name", 0, 2), ("hotel-name", 0, 3)
    cases = {
        "one end is wrong": ([{name}, {area}], [{longer}, {area}]),
        "the same span in two utterances, found in one": ([{area}, {area}], [{area}, set()]),
        "a long utterance and a short one": ([{area, name, ("hotel-day", 4, 5)}, {area}], [{area}, {area, name}]),
        "nothing was predicted": ([{area}], [set()]),
        "nothing to find, nothing predicted": ([set()], [set()]),
    }
    for case, (gold, predicted) in cases.items():
        got, expected = own(gold, predicted), spans.span_f1(gold, predicted)["f1"]
        number = isinstance(got, int | float | np.number)
        if not number or not np.isclose(got, expected, atol=0.01):
            scale = ": per cent, please" if number and np.isclose(100 * got, expected) else ""
            raise Wrong(
                f"{case.capitalize()} (gold {gold}, predicted {predicted}): F1 {expected:.1f}, not {got}{scale}."
            )
    return "Half a name is no name: a span counts whole or not at all, as in CoNLL-2003."


@exercise("5.5")
def conversation(converse: Callable) -> str:
    for n in (2, 6, 1):
        asked: list[str] = []

        def write(text: str, asked: list[str] = asked) -> str:
            asked.append(text)
            if len(asked) > 20:
                raise Wrong("The model was asked more than 20 times: who ends the conversation?")
            return f"line {len(asked)}"

        lines = [f"{'bot' if at % 2 else 'user'}> line {at + 1}" for at in range(n)]
        got = list(converse(write, n))
        told = [dialogue_header(n) + "".join(f"{line}\n" for line in lines[:at]) for at in range(n)]
        told = [text + line.split()[0] for text, line in zip(told, lines, strict=True)]
        for at, (mine, right) in enumerate(zip(asked, told, strict=False)):
            if mine != right:
                raise Wrong(f"For turn {at + 1} of {n} the model should read {right!r}; yours reads {mine!r}.")
        if len(asked) != n or got != lines:
            raise Wrong(f"{n} turns should give {lines}; you asked the model {len(asked)} times and give {got}.")
    return "The header asks for the length; who speaks, and when it is over, your loop decides."
