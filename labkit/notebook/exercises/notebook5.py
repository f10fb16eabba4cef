"""Checkers of notebook 5: early stopping, BIO tags, span F1, a conversation of a wished length."""

from collections.abc import Callable, Sequence

import numpy as np

from labkit.corpora.types import Span
from labkit.metrics import spans
from labkit.notebook.exercises import scores_by_hand, training_by_hand, your_turns
from labkit.notebook.exercises.answers import Wrong, number, shown, times, whole_number
from labkit.notebook.exercises.texts import cases
from labkit.prompts.format import BOT_MARK, USER_MARK, dialogue_header

_ROUNDED = 0.0501  # F1 to one decimal is right


def kept_validation(scores: Sequence[float], patience: int) -> int:
    """Index of the best score, the first of equals, before `patience` validations in a row were no better."""
    best = 0
    for at, score in enumerate(scores):
        if score > scores[best]:
            best = at
        if at - best >= patience:
            break
    return best


def early_stopping(kept: Callable) -> str:
    for case in cases("5.1"):
        scores = case["scores"]
        patience = case["patience"]
        answer = kept(scores, patience)
        got = whole_number(answer)
        if got is None or not 0 <= got < len(scores):
            last = len(scores) - 1
            mine = shown(answer)
            raise Wrong(f"Return the index of a validation, a number from 0 to {last}; yours is {mine}.")
        expected = kept_validation(scores, patience)
        if got == expected:
            continue
        why = "count where the run ends"
        if scores[got] == scores[expected]:
            why = "an equal score is no better one"
        told = f"Scores {scores}, patience {patience}"
        raise Wrong(f"{told}: kept is number {expected}, you say {got}; {why}.")
    return "The same rule as labkit's; a patience that is too short takes noise for the end of learning."


def _spans(text: str, values: list[tuple[str, str]]) -> list[Span]:
    """A span for each (slot, value), at the value's first place in the text."""
    marked = []
    for slot, value in values:
        start = text.index(value)
        end = start + len(value)
        span = Span(
            act="Hotel-Inform",
            slot=slot,
            value=value,
            start=start,
            end=end,
        )
        marked.append(span)
    return marked


def bio(tags_of: Callable) -> str:
    for case in cases("5.2"):
        text = case["text"]
        values = case["values"]
        marked = _spans(text, values)
        found = spans.words(text)
        answer = tags_of(found, marked)
        got = list(answer)
        n_words = len(found)
        n_tags = len(got)
        if n_tags != n_words:
            words = times(n_words, "word")
            tags = times(n_words, "tag")
            raise Wrong(f"{text!r} has {words}, so {tags}; you give {n_tags}.")
        expected = spans.bio_tags(found, marked)
        for (start, end), mine, right in zip(found, got, expected, strict=True):
            if mine != right:
                word = text[start:end]
                tag = shown(mine)
                raise Wrong(f"{text!r}: the word {word!r} should get {right}, yours gets {tag}.")
    return "B- tells where a value begins, so two values side by side stay two."


def f1(own: Callable) -> str:
    for case in cases("5.3"):
        gold = _as_sets(case["gold"])
        predicted = _as_sets(case["predicted"])
        answer = own(gold, predicted)
        got = number(answer, "F1")
        scores = spans.span_f1(gold, predicted)
        expected = scores["f1"]
        error = abs(got - expected)
        if error <= _ROUNDED:
            continue
        scale = ""
        if np.isclose(100 * got, expected):
            scale = ": per cent, please"
        name = case["name"].capitalize()
        told = f"{name} (gold {gold}, predicted {predicted})"
        raise Wrong(f"{told}: F1 {expected:.1f}, not {got:.4g}{scale}.")
    return "Half a name is no name: a span counts whole or not at all, as in CoNLL-2003."


def _as_sets(utterances: list[list[list]]) -> list[spans.Tagged]:
    """The spans of each utterance, as TOML lists them, as a set."""
    sets = []
    for utterance in utterances:
        tagged = {tuple(span) for span in utterance}
        sets.append(tagged)
    return sets


class _Writer:
    """A model that answers "line 1", "line 2", … and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str) -> str:
        self.asked.append(text)
        if len(self.asked) > 20:
            raise Wrong("The model was asked more than 20 times: who ends the conversation?")
        return f"line {len(self.asked)}"

    def __deepcopy__(self, memory: dict) -> "_Writer":
        return self  # a student's function gets this one, not a copy: the checker reads what it was asked


def conversation(converse: Callable) -> str:
    for n in (2, 6, 1):
        write = _Writer()
        answer = converse(write, n)
        got = list(answer)
        should_read, lines = _right_conversation(n)
        for mine, right in zip(write.asked, should_read, strict=False):
            if mine != right:
                turn = 1 + should_read.index(right)
                read = shown(mine)
                raise Wrong(f"For turn {turn} of {n} the model should read {right!r}; yours reads {read}.")
        asked = len(write.asked)
        if asked != n or got != lines:
            turns = times(n, "turn")
            calls = times(asked, "time")
            given = shown(got)
            raise Wrong(f"{turns} should give {lines}; you asked the model {calls} and give {given}.")
    return "The header asks for the length; who speaks, and when it is over, your loop decides."


def _right_conversation(n: int) -> tuple[list[str], list[str]]:
    """What the model reads before each of n turns, and the lines that come of it."""
    read = []
    lines: list[str] = []
    text = dialogue_header(n)
    for turn in range(1, n + 1):
        is_user = turn % 2 == 1
        speaker = USER_MARK if is_user else BOT_MARK
        line = f"{speaker} line {turn}"
        read.append(text + speaker)
        lines.append(line)
        text += f"{line}\n"
    return read, lines


CHECKERS = {
    "5.a": your_turns.shots,
    "5.1": early_stopping,
    "5.1b": training_by_hand.callback,
    "5.b": your_turns.own_score,
    "5.c": your_turns.change,
    "5.2": bio,
    "5.3": f1,
    "5.d": your_turns.features,
    "5.e": your_turns.tracker,
    "5.5": conversation,
    "5.7": scores_by_hand.joint_accuracy,
}
