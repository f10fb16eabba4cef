"""Dialogue state tracking: what a predicted belief state shares with the annotated one."""

from collections.abc import Iterable
from dataclasses import dataclass

from labkit.corpora.types import State
from labkit.metrics.database import DONT_CARE, partial_ratio

FlatState = dict[tuple[str, str], str]  # {(domain, slot): value}
SAME = 95  # partial_ratio above which two values are the same
THEIRS = "_mwzeval"  # the ending of the names of mwzeval's figures
MWZEVALS_TINY = 1e-10  # what mwzeval adds to every divisor


def state_tracking(pairs: Iterable[tuple[State, State]]) -> dict[str, float]:
    """Joint goal accuracy and slot F1 (per cent), slot precision and recall (0 to 1) of (predicted, gold) states.

    A slot with a wrong value counts as one too many and as one that is missing. "dontcare" is no constraint and no
    part of a state, on neither side, so that the annotated states themselves score 100.

    mwzeval leaves "dontcare" out of the annotated states only: the annotation itself gets 84 there on MiniWOZ. Its
    four figures stand beside ours, as "joint_accuracy_mwzeval" and so on. Where nobody says "dontcare" they are the
    same, but for the 1e-10 that mwzeval adds to every divisor.
    """
    counts = StateCounts()
    for predicted, gold in pairs:
        counts.add(predicted, gold)
    return counts.figures()


def as_mwzeval(figures: dict[str, float]) -> dict[str, float]:
    """mwzeval's own four figures, under its names, out of those of `state_tracking`."""
    names = [name for name in figures if not name.endswith(THEIRS)]
    return {name: figures[name + THEIRS] for name in names}


class StateCounts:
    """What the figures are made of, added up turn by turn, as labkit and as mwzeval count."""

    def __init__(self) -> None:
        self.ours = _Slots()
        self.theirs = _Slots()

    def add(self, predicted: State, gold: State) -> None:
        """Count one turn."""
        flat_prediction = _flat(predicted)
        flat_gold = _flat(gold)
        self.theirs.add(flat_prediction, flat_gold)
        self.ours.add(_constraints(flat_prediction), _constraints(flat_gold))

    def figures(self) -> dict[str, float]:
        """What `state_tracking` returns."""
        figures = self.ours.figures()
        for name, figure in self.theirs.figures(MWZEVALS_TINY).items():
            figures[name + THEIRS] = figure
        return figures


@dataclass(slots=True)
class _Slots:
    """Turns and their slots, counted."""

    turns: int = 0
    joint: int = 0  # turns whose whole state is right
    correct: int = 0  # slots with the right value
    predicted: int = 0  # slots of predicted states
    annotated: int = 0  # slots of annotated states

    def add(self, predicted: FlatState, gold: FlatState) -> None:
        correct = 0
        for slot, value in predicted.items():
            if slot in gold and partial_ratio(value, gold[slot]) > SAME:
                correct += 1
        self.turns += 1
        if correct == len(predicted) == len(gold):
            self.joint += 1
        self.correct += correct
        self.predicted += len(predicted)
        self.annotated += len(gold)

    def figures(self, tiny: float = 0.0) -> dict[str, float]:
        """The four figures; `tiny` is added to every divisor."""
        precision = _ratio(self.correct, self.predicted + tiny)
        recall = _ratio(self.correct, self.annotated + tiny)
        return {
            "joint_accuracy": _ratio(self.joint, self.turns + tiny) * 100,
            "slot_f1": _ratio(2 * precision * recall, precision + recall + tiny) * 100,
            "slot_precision": precision,
            "slot_recall": recall,
        }


def _ratio(part: float, whole: float) -> float:
    """A ratio of nothing to nothing is 0."""
    return part / whole if whole else 0.0


def _constraints(state: FlatState) -> FlatState:
    """The state without slots whose value the user does not care about."""
    if DONT_CARE.isdisjoint(state.values()):
        return state
    return {slot: value for slot, value in state.items() if value not in DONT_CARE}


def _flat(state: State) -> FlatState:
    flat = {}
    for domain, slots in state.items():
        for slot, value in slots.items():
            flat[domain, slot] = value
    return flat
