"""Checkers of notebook 5's open tasks: not whether an idea is good, but whether it can be used as it is meant.

Whether it helps is measured in the notebook, on dev dialogues.
"""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields, replace

import numpy as np

from labkit.corpora.types import BOT, USER, Dialogue, Span, State, Turn
from labkit.errors import LabError
from labkit.metrics.spans import Tagged, words
from labkit.notebook.exercises.answers import Unreadable, Wrong, array, number, shown, times
from labkit.notebook.exercises.texts import cases
from labkit.training.checks import check_config
from labkit.training.config import FinetuneConfig

MOST_SHOTS = 2
_SET_ALREADY = ("full_finetune", "reinitialise", "bits", "eval_steps")
check_config(FinetuneConfig())  # so that what it imports is there already: a check has few seconds


# --- 5.a --------------------------------------------------------------------------------------------------------------


def shots(own: Callable) -> str:
    """Check 5.a: worked examples that are chosen for a dialogue."""
    for case in cases("5.a"):
        opening = case["opening"]
        bare = _dialogue(opening, {})
        chosen = _chosen(own, bare)
        annotated = _dialogue(opening, {"train": {"day": "sunday", "departure": "ely"}})
        others = _chosen(own, annotated)
        if [shot.dialogue_id for shot in chosen] != [shot.dialogue_id for shot in others]:
            raise Wrong(
                f"For the opening {opening!r} you choose other examples when the turn has another annotation. "
                "A system that runs has none: look at what is said only."
            )
    return "Whether an example that fits helps more than any example is what the next lines measure."


def _dialogue(opening: str, state: State) -> Dialogue:
    spans: tuple[Span, ...] = ()
    if state:
        spans = (Span(act="Train-Inform", slot="day", value=opening[:3], start=0, end=3),)
    user = Turn(USER, opening, state=state, spans=spans)
    bot = Turn(BOT, "certainly.", state=state)
    services = tuple(state) or ("hotel",)
    return Dialogue("ASKED.json", services, [user, bot])


def _chosen(own: Callable, dialogue: Dialogue) -> list[Dialogue]:
    """The student's examples for a dialogue.

    Raises:
        Wrong: it is no list of one or two dialogues, or the dialogue itself is among them.
    """
    answer = own(dialogue)
    if isinstance(answer, Dialogue):
        raise Wrong("Return a list, even of one dialogue: `[example]`.")
    chosen = list(answer)
    for shot in chosen:
        if not isinstance(shot, Dialogue):
            raise Wrong(f"Each example is a dialogue out of `library`; you give {shown(shot)}.")
        if shot.dialogue_id == dialogue.dialogue_id:
            raise Wrong("The dialogue itself is among its examples: the model would read what it is asked for.")
    if not 1 <= len(chosen) <= MOST_SHOTS:
        raise Wrong(f"Choose one or two examples, or there is no room for the history; you give {len(chosen)}.")
    return chosen


# --- 5.b --------------------------------------------------------------------------------------------------------------


def own_score(own: Callable) -> str:
    """Check 5.b: a score of one's own for replies."""
    scores = {}
    for case in cases("5.b"):
        name = case["name"]
        predictions = {}
        for key, texts in case["replies"].items():
            predictions[key] = [{"response": text} for text in texts]
        scores[name] = _score(own, predictions, name)
        if _score(own, predictions, name) != scores[name]:
            raise Wrong(f"The same replies ({name}) get two scores: an early stop would be a matter of luck.")
    useful = scores["useful replies"]
    for name in ("always the same word", "empty replies"):
        if scores[name] >= useful:
            raise Wrong(
                f"{name.capitalize()} get {scores[name]:.4g}, useful replies {useful:.4g}: such a score keeps the "
                "wrong adapter. The higher the better."
            )
    return "Now it watches a run. What it rewards is what you get: read a few replies before you trust it."


def _score(own: Callable, predictions: dict, name: str) -> float:
    answer = own(predictions)
    score = number(answer, "The score")
    if not math.isfinite(score):
        raise Wrong(f"For {name} your score is {score}: a run cannot be chosen by that.")
    return score


# --- 5.c --------------------------------------------------------------------------------------------------------------


def change(answer: Mapping[str, object]) -> str:
    """`answer` holds fields of FinetuneConfig for another training from scratch."""
    if not isinstance(answer, Mapping) or not answer:
        raise Wrong(f'Give a dict with at least one field, such as {{"max_steps": 400}}; you gave {shown(answer)}.')
    known = [field.name for field in fields(FinetuneConfig)]
    for name in answer:
        if name in _SET_ALREADY:
            raise Wrong(
                f"{name} is set by the cell: it trains all weights, from new ones, in 32 bits, and looks four times."
            )
        if name not in known:
            wrong = shown(name)
            names = ", ".join(known)
            raise Wrong(f"FinetuneConfig has no field {wrong}; it has {names}.")
    try:
        from_scratch = FinetuneConfig(full_finetune=True, reinitialise=True, bits=32)
        config = replace(from_scratch, **answer)
        check_config(config)
    except LabError as error:
        raise Wrong(f"This configuration cannot be trained: {error}") from None
    if config == from_scratch:
        raise Wrong("These are the values that the configuration has anyway.")
    return "Guess the loss before you look, and count the steps: more of them cost more."


# --- 5.d --------------------------------------------------------------------------------------------------------------


def features(own: Callable) -> str:
    """Check 5.d: features of words, made of a model's hidden states."""
    draw = np.random.default_rng(54)
    widths = set()
    for n_words in (1, 2, 7):
        states = draw.normal(size=(n_words, 5))
        got = _rows(own, states)
        widths.add(got.shape[1])
    if len(widths) > 1:
        different = sorted(widths)
        raise Wrong(f"Every word needs as many features as any other; yours have {different}.")
    states = draw.normal(size=(6, 5))
    before = _rows(own, states)
    states[3] += 1
    after = _rows(own, states)
    moved = (after != before).any(axis=1)  # [W]
    if not moved[3]:
        raise Wrong("Row i is about word i; yours does not change when that word's state does.")
    if not moved[2]:
        raise Wrong(
            "A word's row does not change when the state of the word after it does. That is what the tagger misses: "
            "at `gilded` it has not seen `swan`."
        )
    return "Each word now sees what comes after it. Does it help? The score says."


def _rows(own: Callable, states: np.ndarray) -> np.ndarray:
    """The student's features [W, F] of some states [W, H]."""
    answer = own(states.copy())
    try:
        shape = np.shape(answer)
    except (TypeError, ValueError):
        raise Unreadable(answer, "Expected features [W, F], all rows of one length.") from None
    rows = array(answer, shape, "features")
    n_words = times(len(states), "word")
    if rows.ndim != 2 or len(rows) != len(states):
        raise Wrong(f"For {n_words} expected a row for each; yours has shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise Wrong(f"For {n_words} a feature is no finite number.")
    return rows


# --- 5.e --------------------------------------------------------------------------------------------------------------


def tracker(own: Callable) -> str:
    """Check 5.e: the belief state after a user turn."""
    for case in cases("5.e"):
        text = case["text"]
        before = case["state"]
        expected = case["expected"]
        tagger = _tagger(text, case["values"])
        answer = own(deepcopy(before), text, tagger)
        got = _state(answer)
        if getattr(own, "changed_its_input", False):
            raise Wrong("`state` itself is left as it is: later turns still need it. Copy it, and the dicts in it.")
        if _lower(got) != expected:
            values = case["values"]
            why = case["why"]
            told = f"State {before}, then {text!r} with the values {values}"
            raise Wrong(f"{told}: expected {expected}, yours is {got}. {why}")
    return "Whether it beats the model's own states is what the next lines measure."


def _tagger(text: str, values: list[list[str]]) -> Callable[[str], Tagged]:
    """A tagger that finds these values, each (domain-slot, text), and nothing in other texts."""
    places = words(text)
    spans = set()
    for name, value in values:
        start = text.lower().index(value.lower())
        end = start + len(value)
        inside = [at for at, (first, last) in enumerate(places) if first < end and last > start]
        spans.add((name, inside[0], inside[-1] + 1))

    def tagger(asked: str) -> Tagged:
        return set(spans) if asked == text else set()

    return tagger


def _state(answer: object) -> State:
    """A student's belief state as dicts of texts.

    Raises:
        Unreadable: it is none.
    """
    if not isinstance(answer, Mapping) or not all(isinstance(slots, Mapping) for slots in answer.values()):
        raise Unreadable(answer, "Expected a belief state, {domain: {slot: value}}.")
    return {str(domain): dict(slots) for domain, slots in answer.items()}


def _lower(state: State) -> State:
    """In lower case, without domains that have no slot."""
    lowered: State = {}
    for domain, slots in state.items():
        if slots:
            lowered[domain] = {slot: str(value).lower() for slot, value in slots.items()}
    return lowered
