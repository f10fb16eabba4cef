"""Two bots on the same goals: is the difference more than chance?

print(compare_conversations(before, after))     # two results of labkit.converse
"""

from collections.abc import Callable
from dataclasses import replace

from labkit.errors import LabError
from labkit.interaction.play import Conversation
from labkit.interaction.scores import ConversationScores
from labkit.metrics.intervals import Comparison, Difference, share_difference
from labkit.metrics.statistics import holm

Passed = Callable[[Conversation], bool]
PASSED: dict[str, Passed] = {
    "success": lambda one: one.success,
    "strict": lambda one: one.strict_success,
    "completed": lambda one: not one.agenda.abandoned,
}


def compare_conversations(a: ConversationScores, b: ConversationScores) -> Comparison:
    """The differences b − a of Success, strict Success and the share that the user did not leave, on the same goals.

    Exact McNemar tests, corrected for the three of them (Holm), and 95 % intervals of paired shares (Bonett & Price
    2012).

    Raises:
        LabError: the two have no goal in common.
    """
    first = {one.key: one for one in a.conversations}
    pairs = []
    for one in b.conversations:
        if one.key in first:
            pairs.append((first[one.key], one))
    if not pairs:
        raise LabError("two bots cannot be compared", "they played no goal in common", "play the same split")
    notes = []
    if len(pairs) < max(a.n, b.n):
        notes.append(f"note: of {a.n} and {b.n} conversations, {len(pairs)} have the same goals")
    if a.states != b.states:
        notes.append(f"note: the states are not from the same source ({a.states}, {b.states})")
    found = [_difference(pairs, passed) for passed in PASSED.values()]
    adjusted = holm([difference.p for difference in found])
    differences = {}
    for name, difference, p_holm in zip(PASSED, found, adjusted, strict=True):
        differences[name] = replace(difference, p_holm=p_holm)
    return Comparison(differences, len(pairs), tuple(notes))


def _difference(pairs: list[tuple[Conversation, Conversation]], passed: Passed) -> Difference:
    import numpy as np

    a_passes = np.array([passed(a) for a, _ in pairs], dtype=bool)  # [G]
    b_passes = np.array([passed(b) for _, b in pairs], dtype=bool)  # [G]
    return share_difference(a_passes, b_passes)
