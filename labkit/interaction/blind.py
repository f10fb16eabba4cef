"""A blind comparison: which of two replies is better? Nobody who answers knows which system wrote which.

How a notebook calls it:

    test = blind_test(corpus["test"][:20], greedy, beams, names=("greedy", "beams"))      # two Predictions
    form(test, "first.json", annotator="me")                 # labkit.notebook.blind_form; it writes first.json
    form(test.swap(), "second.json", annotator="you")        # the same pairs, positions swapped
    mine, yours = read_answers(test, "first.json"), read_answers(test, "second.json")
    print(verdicts(test, mine, yours))                       # who won, kappa, how often the first position did
    score_differences(test, lambda pair, reply: len(reply))  # {pair: b - a}, to correlate with the verdicts
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from labkit.corpora.types import Dialogue, Predictions
from labkit.errors import LabError
from labkit.interaction.scores import Share
from labkit.metrics.agreement import Agreement, cohens_kappa, rank_correlation
from labkit.metrics.statistics import mcnemar
from labkit.prompts.format import spoken, spoken_lines
from labkit.storage import read_json, write_json

FIRST, SECOND, SAME = "first", "second", "same"
CHOICES = (FIRST, SECOND, SAME)
HISTORY = 5  # turns that are shown before the two replies, the user's last one included


@dataclass(frozen=True)
class Pair:
    """Two replies to the same user turn."""

    id: str  # dialogue and number of the turn
    history: tuple[str, ...]  # the last turns, "user> …" and "bot> …"
    a: str
    b: str
    reference: str  # what the corpus' bot said
    b_is_first: bool  # the position in which it is shown

    @property
    def shown(self) -> tuple[str, str]:
        """The two replies in the order in which they are shown."""
        return (self.b, self.a) if self.b_is_first else (self.a, self.b)

    def verdict(self, choice: str) -> str:
        """The system that a choice of a position means: "a", "b" or "same"."""
        if choice == SAME:
            return SAME
        return "b" if (choice == FIRST) == self.b_is_first else "a"


@dataclass(frozen=True)
class BlindTest:
    """Pairs of replies of two systems."""

    names: tuple[str, str]  # of the systems a and b
    pairs: tuple[Pair, ...]

    def swap(self) -> "BlindTest":
        """The same pairs, each with its positions swapped: for a second annotator, or a second day."""
        swapped = []
        for pair in self.pairs:
            other_order = not pair.b_is_first
            swapped.append(replace(pair, b_is_first=other_order))
        return replace(self, pairs=tuple(swapped))

    @property
    def fingerprint(self) -> str:
        """The same for the same pairs, in whatever positions; it does not tell who wrote what."""
        told = []
        for pair in self.pairs:
            in_no_order = sorted(pair.shown)
            told.append((pair.id, pair.history, in_no_order))
        text = json.dumps(told)  # half a character is an escape in it
        digest = hashlib.sha256(text.encode())
        return digest.hexdigest()[:12]

    @property
    def is_swapped(self) -> bool:
        """Which of the two orders this is, in a way that does not tell who wrote what."""
        first, second = self.pairs[0].shown
        return first > second


def blind_test(
    dialogues: Sequence[Dialogue],
    a: Predictions,
    b: Predictions,
    *,
    names: tuple[str, str] = ("a", "b"),
    n: int = 20,
    seed: int = 2022,
) -> BlindTest:
    """Draw turns at which two systems replied differently; in half of them, by lot, b is shown first.

    Args:
        a, b: replies to the turns of the same dialogues, as `labkit.predict` gives them.
        n: pairs, as far as there are so many.

    Raises:
        LabError: no turn with two different replies, or fewer than one pair wished for.
    """
    if n < 1:
        raise LabError(f"{n} pairs", "", "choose n from 1 on")
    found = []
    for dialogue in dialogues:
        found += _pairs(dialogue, a, b)
    if not found:
        known = f"{len(dialogues)} dialogues"
        raise LabError("there is nothing to compare", known, "give dialogues that both systems answered differently")
    draw = Random(seed)
    n_pairs = min(n, len(found))
    chosen = draw.sample(found, n_pairs)
    orders = [number % 2 == 0 for number in range(n_pairs)]
    draw.shuffle(orders)
    pairs = []
    for pair, b_is_first in zip(chosen, orders, strict=True):
        pairs.append(replace(pair, b_is_first=b_is_first))
    return BlindTest(names, tuple(pairs))


def _pairs(dialogue: Dialogue, a: Predictions, b: Predictions) -> list[Pair]:
    """The turns of a dialogue that both systems answered, in different words."""
    lines = spoken_lines(dialogue, True)
    references = spoken(dialogue, False)[1::2]
    by_a = a.get(dialogue.key, ())
    by_b = b.get(dialogue.key, ())
    result = []
    for turn, (one, other, reference) in enumerate(zip(by_a, by_b, references, strict=False)):
        reply_a = one["response"]
        reply_b = other["response"]
        if reply_a.split() == reply_b.split():
            continue
        end = 2 * turn + 1
        begin = max(0, end - HISTORY)
        pair = Pair(
            id=f"{dialogue.key}/{turn}",
            history=tuple(lines[begin:end]),
            a=reply_a,
            b=reply_b,
            reference=reference,
            b_is_first=False,
        )
        result.append(pair)
    return result


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What one annotator found: {id of a pair: "a", "b" or "same"}, and the positions that were chosen."""

    annotator: str
    verdicts: Mapping[str, str]
    choices: Mapping[str, str]

    @property
    def first(self) -> Share:
        """How often the reply in the first position was chosen, of all that were not "same"."""
        chosen = list(self.choices.values())
        n_first = chosen.count(FIRST)
        n_second = chosen.count(SECOND)
        return Share(n_first, n_first + n_second)


FIELDS = {"test": str, "swapped": bool, "annotator": str, "choices": dict}  # of a file of answers


def record(test: BlindTest, choices: Mapping[str, str], annotator: str) -> dict[str, object]:
    """What stands in a file of answers; whoever reads it does not see which system was chosen."""
    return {
        "test": test.fingerprint,
        "swapped": test.is_swapped,
        "annotator": annotator,
        "choices": dict(choices),
    }


def write_answers(test: BlindTest, choices: Mapping[str, str], path: Path | str, *, annotator: str) -> Path:
    """Write {id of a pair: "first", "second" or "same"}, whole or not at all; the same annotator may go on.

    Raises:
        LabError: choices that cannot be; the file is another annotator's or another test's; or it cannot be written.
    """
    answers_of(test, choices, annotator)
    path = Path(path)
    if path.exists():
        earlier = read_json(path)
        own = record(test, {}, annotator)
        for name in ("test", "annotator", "swapped"):
            if _field(earlier, name) != own[name]:
                raise LabError(f"{path} holds other answers", f"another {name}", "name a file of your own")
    return write_json(path, record(test, choices, annotator))


def _field(told: object, name: str) -> object:
    return told.get(name) if isinstance(told, dict) else None


def read_answers(test: BlindTest, path: Path | str) -> Answers:
    """The answers in a file, whether the form was shown as `test` or as `test.swap()`.

    Raises:
        LabError: no such file, not the answers to this test, or choices that cannot be.
    """
    told = read_json(path)
    for name, kind in FIELDS.items():
        if not isinstance(_field(told, name), kind):
            raise LabError(f"{path} holds no answers", f"no {name}", "give the file that the form wrote")
    if told["test"] != test.fingerprint:
        found = f"it is of the test {told['test']:.20}, and this one is {test.fingerprint}"
        raise LabError(f"{path} answers another test", found, "make the test from the same dialogues and replies")
    as_shown = test if told["swapped"] == test.is_swapped else test.swap()
    return answers_of(as_shown, told["choices"], told["annotator"])


def answers_of(test: BlindTest, choices: Mapping[str, str], annotator: str) -> Answers:
    """Choices of positions as verdicts about systems.

    Raises:
        LabError: a pair or a choice that there is not.
    """
    pairs = {pair.id: pair for pair in test.pairs}
    found = {}
    for name, choice in choices.items():
        if name not in pairs or choice not in CHOICES:
            known = f"{name!r:.40}: {choice!r:.40}"
            raise LabError("no such answer", known, f"choose {', '.join(CHOICES)} for a pair of the test")
        found[name] = pairs[name].verdict(choice)
    return Answers(annotator, found, dict(choices))


# --- what they say ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdicts:
    """What annotators found about two systems; `print` it."""

    names: tuple[str, str]
    n_pairs: int
    answers: tuple[Answers, ...]
    agreement: Agreement | None  # of the first two, on the pairs that both have judged
    changed: Share | None  # pairs of which the first two chose different systems; "same" changes nothing

    def wins(self, one: Answers) -> tuple[int, int]:
        """How often a and b were found better."""
        found = list(one.verdicts.values())
        return found.count("a"), found.count("b")

    def __str__(self) -> str:
        a, b = self.names
        lines = [f"{self.n_pairs} pairs of {a} (a) and {b} (b), blind"]
        for one in self.answers:
            wins_a, wins_b = self.wins(one)
            n_decided = wins_a + wins_b
            n_same = len(one.verdicts) - n_decided
            share = Share(wins_b, n_decided)
            p = mcnemar(wins_a, wins_b)  # a sign test: of the decided pairs, as many for a as for b
            lines.append(
                f"{one.annotator}: a {wins_a}, b {wins_b}, same {n_same}; b of the decided {share}; p = {p:.3f}"
            )
            lines.append(f"    first position chosen {one.first}")
        if self.agreement:
            lines.append(str(self.agreement))
            lines.append(f"another system chosen    {self.changed}")
        return "\n".join(lines)


def verdicts(test: BlindTest, *answers: Answers) -> Verdicts:
    """Sum up what one, two or more annotators found; kappa is that of the first two.

    Raises:
        LabError: the first two have judged no pair in common.
    """
    agreement = None
    changed = None
    if len(answers) > 1:
        one, other = answers[:2]
        by_one = []
        by_other = []
        for pair in test.pairs:
            if pair.id in one.verdicts and pair.id in other.verdicts:
                by_one.append(one.verdicts[pair.id])
                by_other.append(other.verdicts[pair.id])
        agreement = cohens_kappa(by_one, by_other)
        changed = changed_verdicts(one, other)
    return Verdicts(test.names, len(test.pairs), tuple(answers), agreement, changed)


def changed_verdicts(one: Answers, other: Answers) -> Share:
    """Of the pairs that both decided, those of which they chose different systems.

    With `test` and `test.swap()` for the same annotator, it is the position bias: who reads the replies chooses the
    same system in either order.
    """
    n_decided = 0
    n_changed = 0
    for name, found in one.verdicts.items():
        again = other.verdicts.get(name, SAME)
        if found != SAME and again != SAME:
            n_decided += 1
            n_changed += found != again
    return Share(n_changed, n_decided)


def score_differences(test: BlindTest, score: Callable[[Pair, str], float]) -> dict[str, float]:
    """{id of a pair: score of b's reply - score of a's}; `score` gets the pair, with its reference, and a reply."""
    differences = {}
    for pair in test.pairs:
        score_a = score(pair, pair.a)
        score_b = score(pair, pair.b)
        differences[pair.id] = score_b - score_a
    return differences


def correlation(answers: Answers, differences: Mapping[str, float]) -> float | None:
    """Kendall's tau-b of verdicts (b better 1, same 0, a better -1) and differences b - a of a score.

    Raises:
        LabError: fewer than two pairs have both.
    """
    worth = {"a": -1.0, SAME: 0.0, "b": 1.0}
    found = []
    scores = []
    for name, verdict in answers.verdicts.items():
        if name in differences:
            found.append(worth[verdict])
            scores.append(differences[name])
    return rank_correlation(found, scores)
