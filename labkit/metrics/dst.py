"""Dialogue state tracking: what a predicted belief state shares with the annotated one."""

from collections.abc import Iterable

from labkit.corpora.types import State
from labkit.metrics.database import partial_ratio

SAME = 95  # partial_ratio above which two values are the same
_TINY = 1e-10  # a ratio of nothing to nothing is 0


def state_tracking(pairs: Iterable[tuple[State, State]]) -> dict[str, float]:
    """Joint goal accuracy and slot F1 (per cent), slot precision and recall (0 to 1) of (predicted, gold) states.

    A slot with a wrong value counts as one too many and as one that is missing.
    """
    turns = joint = correct = predicted = annotated = 0
    for said, gold in ((_flat(hypothesis), _flat(reference)) for hypothesis, reference in pairs):
        same = sum(slot in gold and partial_ratio(value, gold[slot]) > SAME for slot, value in said.items())
        turns, joint = turns + 1, joint + (same == len(said) == len(gold))
        correct, predicted, annotated = correct + same, predicted + len(said), annotated + len(gold)
    precision, recall = correct / (predicted + _TINY), correct / (annotated + _TINY)
    f1 = 2 * precision * recall / (precision + recall + _TINY) * 100
    joint_accuracy = joint / (turns + _TINY) * 100
    return {"joint_accuracy": joint_accuracy, "slot_f1": f1, "slot_precision": precision, "slot_recall": recall}


def _flat(state: State) -> dict[tuple[str, str], str]:
    return {(domain, slot): value for domain, slots in state.items() for slot, value in slots.items()}
