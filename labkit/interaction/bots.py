"""What can be talked to: a bot gets the conversations so far, all at once, and gives a reply to each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from labkit.corpora.search import Database, VenueDatabase
from labkit.corpora.types import BOT, USER, Dialogue, Reply, State, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.grammar import StateGrammar
from labkit.decoding.kept import KeptCaches
from labkit.decoding.predict import answer_all
from labkit.errors import LabError
from labkit.models import LanguageModel, folded

STATES = ("own", "tracked", "user")
Track = Callable[[State, str, str], State]  # (state before, the bot's last reply, what the user says) -> state


@dataclass
class Talk:
    """A conversation so far. User turns hold what the user meant (acts, state) beside what was said."""

    key: str
    users: list[Turn] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    @property
    def state_before(self) -> State:
        """What the bot believed at its last reply."""
        return self.replies[-1].get("state", {}) if self.replies else {}

    @property
    def last_reply(self) -> str:
        return self.replies[-1]["response"] if self.replies else ""


class Bot(Protocol):
    """Something that replies. `states` names where its belief states come from: one of `STATES`."""

    states: str

    def reply(self, talks: Sequence[Talk]) -> list[Reply]:
        """A reply, with its "state", to the last user turn of each conversation; none depends on the others."""
        ...


class ModelBot:
    """A language model that hears its own words: the history holds what it said, not what a corpus says.

    Args:
        format: that the model was tuned in.
        states: "own" (it writes them), "tracked" (`track` makes them from what is said) or "user" (optimistic: it is
            given what the user means, so no misunderstanding is possible).
        database: what the `db` format looks states up in.
        grammar: `labkit.state_grammar(corpus)`, so that every state that the model writes is valid.

    Raises:
        LabError: states that the format cannot have, or tracked ones without a tracker.
    """

    def __init__(
        self,
        lm: LanguageModel,
        config: DecodingConfig | None = None,
        *,
        format: str = "turns",
        states: str = "user",
        track: Track | None = None,
        database: Database | VenueDatabase | None = None,
        grammar: StateGrammar | None = None,
        max_length: int = 1024,
    ):
        if states not in STATES:
            raise LabError(f"no states are called {states!r:.40}", "", f"choose {', '.join(STATES)}")
        if states == "own" and format == "turns":
            what = "a model of the format 'turns' writes no states of its own"
            raise LabError(what, "", "choose states tracked or user, or tune a model with format='state'")
        if states == "tracked" and track is None:
            raise LabError(
                "tracked states need a tracker", "", "give track=labkit.interaction.Tracker.of(corpus, split)"
            )
        self.lm = lm
        self.config = config or DecodingConfig()
        self.format = format
        self.states = states
        self.track = track
        self.database = database
        self.grammar = grammar
        self.max_length = max_length
        self.kept: KeptCaches | None = KeptCaches()  # what was read of each conversation at earlier turns

    @cached_property
    def _speaks(self) -> LanguageModel:
        """The model as it talks: the same, with its adapter in its weights, which is quicker."""
        return folded(self.lm)

    def reply(self, talks: Sequence[Talk]) -> list[Reply]:
        """See `Bot`."""
        dialogues = [self._heard(talk) for talk in talks]
        states = self._states(talks)
        return answer_all(
            self._speaks,
            dialogues,
            self.config,
            format=self.format,
            states=states,
            max_length=self.max_length,
            database=self.database,
            grammar=self.grammar,
            kept=self.kept,
        )

    def _heard(self, talk: Talk) -> Dialogue:
        """The conversation as the bot knows it: words, replies, its own states; nothing that the user meant."""
        turns = []
        for number, user in enumerate(talk.users):
            replied = number < len(talk.replies)
            state = talk.replies[number].get("state", {}) if replied else {}
            turns.append(Turn(USER, user.utterance, state))
            if replied:
                turns.append(Turn(BOT, talk.replies[number]["response"], state))
        return Dialogue(talk.key, (), turns)

    def _states(self, talks: Sequence[Talk]) -> list[State] | None:
        """The states to reply from; None where the model writes its own."""
        if self.states == "own":
            return None
        if self.states == "user":
            return [talk.users[-1].state for talk in talks]
        return [self.track(talk.state_before, talk.last_reply, talk.users[-1].utterance) for talk in talks]
