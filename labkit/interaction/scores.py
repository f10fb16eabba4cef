"""What whole conversations are worth: shares with Wilson's intervals, and mwzeval's rule on the same ones beside them.

Success: every wish of the goal is fulfilled in the user's eyes, and the user did not leave. Strict Success: besides,
no offer came while much was unsaid and many venues fitted, none was wrong or in another domain, and nothing was booked
before all was said. A patient user forgives these; a person may not.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean

from labkit.corpora.types import Corpus
from labkit.errors import LabError
from labkit.interaction.play import Conversation
from labkit.interaction.progress import ASKED_AGAIN, FAULTS, Progress
from labkit.interaction.records import SPLIT, as_corpus, as_predictions
from labkit.metrics import evaluate
from labkit.metrics.statistics import Interval, wilson


@dataclass(frozen=True)
class Share:
    """So many of so many, in per cent, with Wilson's 95 % interval. `print` it."""

    passed: int
    n: int

    @property
    def percent(self) -> float | None:
        """None of none."""
        return 100 * self.passed / self.n if self.n else None

    @property
    def interval(self) -> Interval | None:
        """In per cent."""
        if not self.n:
            return None
        low, high = wilson(self.passed, self.n)
        return 100 * low, 100 * high

    def __str__(self) -> str:
        if not self.n:
            return "–"
        low, high = self.interval
        return f"{self.percent:5.1f}  [{low:.1f}, {high:.1f}]  {self.passed} of {self.n}"


@dataclass(frozen=True)
class Account:
    """How a conversation went, turn by turn; `print` it, or look at it with `labkit.notebook.talks.show_account`."""

    dialogue_id: str
    success: bool
    strict_success: bool
    wishes: tuple[str, ...]  # a line for each domain
    turns: tuple[tuple[str, str, str], ...]  # (user, reply, what the user thought of it)
    ending: str

    @property
    def heading(self) -> str:
        marks = {True: "✓", False: "✗"}
        return f"{self.dialogue_id}: Success {marks[self.success]}  strict {marks[self.strict_success]}  {self.ending}"

    def __str__(self) -> str:
        lines = [self.heading]
        lines += [f"  {wish}" for wish in self.wishes]
        for user, reply, thought in self.turns:
            lines += [f"  user> {user}", f"  bot> {reply}"]
            if thought:
                lines.append(f"      {thought}")
        return "\n".join(lines)


@dataclass(frozen=True)
class ConversationScores:
    """Scores of whole conversations with one bot; `print` it."""

    conversations: Sequence[Conversation]
    corpus: Corpus  # that the goals are of
    states: str  # where the bot's belief states come from: own, tracked or user
    seconds: float | None = None
    notes: tuple[str, ...] = field(default=())
    grammar: str = "none"  # what the states that the bot writes are held to

    @property
    def n(self) -> int:
        return len(self.conversations)

    @property
    def success(self) -> Share:
        return Share(sum(one.success for one in self.conversations), self.n)

    @property
    def strict_success(self) -> Share:
        return Share(sum(one.strict_success for one in self.conversations), self.n)

    @property
    def abandoned(self) -> Share:
        """Conversations that the user left: nothing led anywhere any more."""
        return Share(sum(one.agenda.abandoned for one in self.conversations), self.n)

    @property
    def bookings(self) -> Share:
        """Of the bookings that goals ask for, those that were made."""
        asked = [one for one in self._progress() if one.wish.booking]
        return Share(sum(one.booked for one in asked), len(asked))

    @property
    def turns_to_success(self) -> float | None:
        """User turns of a conversation that succeeded, on average; None where none did."""
        lengths = [len(one.users) for one in self.conversations if one.success]
        return mean(lengths) if lengths else None

    @property
    def asked_again(self) -> int:
        """Questions for what had been said, in all."""
        return self.events[ASKED_AGAIN]

    @cached_property
    def events(self) -> Counter[str]:
        """How often each fault happened, in all conversations."""
        return Counter(event.kind for one in self.conversations for event in one.events)

    @property
    def by_domain(self) -> dict[str, Share]:
        """{domain: goals in which the domain's wish was fulfilled}."""
        fulfilled: dict[str, list[bool]] = {}
        for one in self._progress():
            fulfilled.setdefault(one.wish.domain, []).append(one.done)
        return {domain: Share(sum(done), len(done)) for domain, done in sorted(fulfilled.items())}

    def _progress(self) -> list[Progress]:
        return [progress for one in self.conversations for progress in one.agenda.domains]

    @cached_property
    def by_mwzeval(self) -> dict[str, Share]:
        """Inform and Success of the same conversations by mwzeval's rule, which looks at replies and states only."""
        played = as_corpus(self.conversations, self.corpus)
        scores = evaluate(as_predictions(self.conversations), played, SPLIT, allow_lexical=True)
        if scores.inform is None or scores.success is None:
            return {}
        return {
            "inform": Share(round(scores.inform * self.n / 100), self.n),
            "success": Share(round(scores.success * self.n / 100), self.n),
        }

    def explain(self, dialogue_id: str) -> Account:
        """How one conversation went.

        Raises:
            LabError: there is none of this id.
        """
        for one in self.conversations:
            if one.key == dialogue_id:
                return account(one)
        raise LabError(f"no conversation {dialogue_id!r:.60}", f"there are {self.n}", "take a key of `conversations`")

    def to_record(self) -> dict[str, object]:
        """As JSON, for a file or a row of the board."""
        record: dict[str, object] = {"n": self.n, "states": self.states, "grammar": self.grammar}
        shares = {
            "success": self.success,
            "strict_success": self.strict_success,
            "abandoned": self.abandoned,
            "bookings": self.bookings,
        }
        shares |= {f"mwzeval_{name}": share for name, share in self.by_mwzeval.items()}
        record["shares"] = {name: _recorded(share) for name, share in shares.items()}
        record["by_domain"] = {domain: _recorded(share) for domain, share in self.by_domain.items()}
        record["turns_to_success"] = self.turns_to_success
        record["asked_again"] = self.asked_again
        record["faults"] = {kind: self.events[kind] for kind in FAULTS}
        record["seconds"] = self.seconds
        return record

    def __str__(self) -> str:
        source = self.states
        if self.grammar != "none":
            source += f", grammar {self.grammar}"
        lines = [f"{self.n} conversations, states {source}, 95 % intervals"]
        lines.append(f"Success            {self.success}")
        lines.append(f"strict Success     {self.strict_success}")
        lines += [f"mwzeval's {name:<8s} {share}" for name, share in self.by_mwzeval.items()]
        lines.append(f"abandoned          {self.abandoned}")
        lines.append(f"bookings           {self.bookings}")
        if self.turns_to_success is not None:
            lines.append(f"turns to success   {self.turns_to_success:5.1f}")
        lines.append(f"asked again        {self.asked_again:5d}")
        lines += [f"{kind:<23s}{self.events[kind]:d}" for kind in FAULTS if self.events[kind]]
        lines += [f"{domain:<18s} {share}" for domain, share in self.by_domain.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def _recorded(share: Share) -> dict[str, object]:
    return {"passed": share.passed, "n": share.n, "percent": share.percent, "interval": share.interval}


def account(one: Conversation) -> Account:
    """How a conversation went, in words."""
    thoughts: dict[int, list[str]] = {}
    for event in one.events:
        thoughts.setdefault(event.turn, []).append(f"{event.kind}: {event.about}")
    turns = []
    for number, (user, reply) in enumerate(zip(one.users, one.replies, strict=True)):
        turns.append((user.utterance, reply["response"], "; ".join(thoughts.get(number, []))))
    ending = "the user left" if one.agenda.abandoned else f"ended after {len(turns)} turns"
    return Account(
        dialogue_id=one.key,
        success=one.success,
        strict_success=one.strict_success,
        wishes=tuple(_in_words(progress) for progress in one.agenda.domains),
        turns=tuple(turns),
        ending=ending,
    )


def _in_words(progress: Progress) -> str:
    """How far a wish has come."""
    wish = progress.wish
    wanted = ", ".join(f"{slot}={value}" for slot, value in (wish.wanted | wish.booking).items())
    missing = []
    if progress.unsaid:
        missing.append(f"never said {', '.join(progress.unsaid)}")
    if not progress.settled:
        missing.append("nothing right was offered")
    if wish.booking and not progress.booked:
        missing.append("not booked")
    if progress.settled and progress.questions:
        missing.append(f"never told {', '.join(progress.questions)}")
    mark = "✓" if progress.done else "✗"
    return f"{mark} {wish.domain} ({wanted}): {'; '.join(missing) or 'all that was wished'}"
