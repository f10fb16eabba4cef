"""Predictions against what the corpus holds: both normalised, checked, and added up to scores."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

import numpy as np

from labkit.corpora.types import BOT, USER, Predictions, dialogue_key
from labkit.errors import LabError
from labkit.metrics.bleu import N_COUNTS, bleu_counts, bleu_score
from labkit.metrics.checks import printable
from labkit.metrics.dst import StateCounts
from labkit.metrics.gold import Gold, gold_of
from labkit.metrics.intervals import GOAL, INFORM, N_TALLIES, SUCCESS
from labkit.metrics.lexical import refuse_lexical
from labkit.metrics.notes import notes
from labkit.metrics.prepared import Prepared
from labkit.metrics.richness import richness
from labkit.metrics.scores import DomainCount, Explanation, Rates, Scores
from labkit.metrics.success import TOTAL, TurnInput, Verdict, active_domains, change, follow, judge, passed

__all__ = ["Evaluation", "Gold", "Predictions", "gold_of"]

Flags = dict[str, tuple[bool, bool]]  # {domain or "total": (Inform, Success)} of a dialogue
Counts = dict[str, DomainCount]  # by domain, and of all as "total"


class Evaluation(Prepared):
    """Predictions on a split, and all that is computed from them: scores and explanations.

    Raises:
        LabError: malformed predictions or none, or dialogues or turns that the split doesn't have; when scored: a goal
            or the booked domains of a dialogue hold something of a wrong type.
    """

    def refuse_lexical(self) -> None:
        """Raise LabError if names and numbers stand where the references have placeholders."""
        refuse_lexical(self.replies, self.references, self.gold)

    def scores(self) -> Scores:
        """All scores, from tallies of the dialogues."""
        flags: dict[str, Flags] = {}  # of the dialogues with a goal
        for key in self.predictions:
            if key in self.gold.corpus.goals:
                verdicts = self.verdicts(key)
                flags[key] = passed(verdicts)
        counts = _counts_by_domain(flags.values())
        tallies = self._tallies(flags)
        rates = _rates(counts)
        dst = None
        joint_counts = None
        if self.has_states:
            dst, joint_counts = self._tracking()
        return Scores(
            bleu=bleu_score(tallies[:, :N_COUNTS].sum(axis=0)),
            inform=rates["inform"].pop(TOTAL, None),
            success=rates["success"].pop(TOTAL, None),
            per_domain=rates if flags else {},
            richness=richness(self.texts),
            dst=dst,
            n_dialogues=len(self.predictions),
            n_turns=len(self.texts),
            notes=tuple(notes(self)),
            keys=list(self.predictions),
            tallies=tallies,
            domain_counts={domain: row for domain, row in counts.items() if domain != TOTAL},
            joint_counts=joint_counts,
            explain=self.explain,
        )

    def _tracking(self) -> tuple[dict[str, float], np.ndarray]:
        """(figures of state tracking, turns whose whole state is right and turns by dialogue [D, 2])."""
        counts = StateCounts()
        so_far = [(0, 0)]
        for key, states in self.states.items():
            for predicted, gold in zip(states, self.gold.states(key), strict=False):
                counts.add(predicted, gold)
            so_far.append((counts.ours.joint, counts.ours.turns))
        return counts.figures(), np.diff(so_far, axis=0)

    def _tallies(self, flags: Mapping[str, Flags]) -> np.ndarray:
        """What adds up to the scores, by dialogue: [D, 13], see labkit.metrics.intervals."""
        references = []
        for texts in self.references.values():
            references.extend(texts)
        counts = bleu_counts(self.texts, references)  # [turns, 10]
        tallies = np.zeros((len(self.predictions), N_TALLIES), dtype=np.int64)
        start = 0
        for row, (key, turns) in enumerate(self.predictions.items()):
            end = start + len(turns)
            of_dialogue = counts[start:end]  # [turns of the dialogue, 10]
            tallies[row, :N_COUNTS] = of_dialogue.sum(axis=0)
            if key in flags:
                inform, success = flags[key][TOTAL]
                tallies[row, INFORM] = inform
                tallies[row, SUCCESS] = success
                tallies[row, GOAL] = 1
            start = end
        return tallies

    def inputs(self, key: str) -> list[TurnInput]:
        """What Inform and Success look at in each turn of a dialogue."""
        replies = self.replies[key]
        states = self.states[key]
        booked = self.gold.booked(key, len(replies))
        active = self._active(key)
        inputs = []
        for number, reply in enumerate(replies):
            turn_input = TurnInput(
                reply=reply,
                state=states[number],
                active=active[number],
                booked=booked[number],
            )
            inputs.append(turn_input)
        return inputs

    def _active(self, key: str) -> list[list[str]]:
        """The domains that each turn is about: as predicted, or else as the states tell."""
        if self.has_active:
            return [turn["active_domains"] for turn in self.predictions[key]]
        return active_domains(self.states[key])

    def verdicts(self, key: str) -> list[Verdict]:
        """How a dialogue with a goal did in each domain of it."""
        goal = self.gold.goal(key)
        database = self.gold.database
        inputs = self.inputs(key)
        *_, final_offers = follow(goal, inputs, database)
        return judge(goal, final_offers, database)

    def explain(self, dialogue_id: str) -> Explanation:
        """Turn by turn, what was offered and told, and what the goal wanted.

        Raises:
            LabError: the dialogue was not predicted, or it has no goal.
        """
        key = dialogue_key(dialogue_id)
        if key not in self.predictions or key not in self.gold.corpus.goals:
            found = "it is not among the predictions, or has no goal"
            raise LabError(f"dialogue {printable(key)} cannot be explained", found, "choose another")
        verdicts = self.verdicts(key)
        inform, success = passed(verdicts)[TOTAL]
        return Explanation(
            dialogue_id=key,
            inform=inform,
            success=success,
            verdicts=tuple(verdicts),
            turns=tuple(self._steps(key)),
        )

    def _users(self, key: str) -> list[str]:
        """What the user said before each bot turn."""
        said = []
        before = ""
        for turn in self.gold.dialogues[key].turns:
            if turn.speaker == USER:
                before = turn.utterance
            elif turn.speaker == BOT:
                said.append(before)
        return said

    def _steps(self, key: str) -> Iterator[tuple[str, str, str]]:
        """(user, reply, what was offered and told) of each turn that was predicted."""
        users = self._users(key)
        changes = self._changes(key)
        for number, turn in enumerate(self.predictions[key]):
            user = printable(users[number])
            response = printable(turn["response"])
            what_changed = printable(changes[number])
            yield user, response, what_changed

    def _changes(self, key: str) -> list[str]:
        """What each turn newly offered and told."""
        goal = self.gold.goal(key)
        database = self.gold.database
        inputs = self.inputs(key)
        changes = []
        before_and_after = pairwise(follow(goal, inputs, database))
        for turn, (before, after) in zip(inputs, before_and_after, strict=True):
            changes.append(change(goal, turn, before, after, database))
        return changes


def _counts_by_domain(dialogues: Iterable[Flags]) -> Counts:
    """How many dialogues pass, by domain and in all."""
    counts: Counts = {}
    for flags in dialogues:
        for domain, (inform, success) in flags.items():
            count = counts.get(domain, DomainCount())
            counts[domain] = DomainCount(
                inform=count.inform + inform,
                success=count.success + success,
                n=count.n + 1,
            )
    return counts


def _rates(counts: Counts) -> Rates:
    """Per cent, rounded to one digit, by domain and in all ("total")."""
    inform = {}
    success = {}
    for domain, count in counts.items():
        inform[domain] = round(100 * count.inform / count.n, 1)
        success[domain] = round(100 * count.success / count.n, 1)
    return {"inform": inform, "success": success}
