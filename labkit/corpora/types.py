"""Dialogues as data: one set of types for every corpus."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, TypedDict

from labkit.errors import LabError
from labkit.storage import Json

USER = "user"
BOT = "bot"
Values = dict[str, str]  # {slot: value}
State = dict[str, Values]  # {domain: {slot: value}}, e.g. {"hotel": {"area": "north", "bookday": "friday"}}
Acts = dict[str, list[tuple[str, str]]]  # {"Restaurant-Inform": [(slot, value)]}
Booked = dict[str, list[list[str]]]  # {Dialogue.key: domains booked so far, after each bot turn}
# Json: MultiWOZ's files hold text in most fields, and lists, numbers and objects in a few ("location", "price").
Goal = dict[str, Json]  # {domain: {"informable": {slot: value}, "requestable": [SLOT], "booking": [slot]}}
Entity = Json  # a row of the database, {column: value}
Service = Json  # a service of the schema, {"service_name": name, "slots": [{"name": "hotel-area", …}]}
SPLIT_ALIASES = {"validation": "dev", "valid": "dev", "val": "dev"}


class Reply(TypedDict):
    """One bot turn as a system wrote it, in mwzeval's format."""

    response: str  # delexicalised: "[restaurant_name] is in the [area]"
    state: NotRequired[State]  # the belief state before the reply
    active_domains: NotRequired[list[str]]  # the domains that the reply is about


Predictions = dict[str, list[Reply]]  # {Dialogue.key: one reply for each bot turn}


def dialogue_key(dialogue_id: str) -> str:
    """A dialogue's id as goals and predictions spell it (mwzeval's spelling): lower case, no `.json` at the end.

    >>> dialogue_key("PMUL1234.json"), dialogue_key("conv.2024.001")
    ('pmul1234', 'conv.2024.001')
    """
    key = dialogue_id.lower()
    while key.endswith(".json"):  # so that the key of a key is the same key
        key = key.removesuffix(".json")
    return key


@dataclass(frozen=True, slots=True)
class Span:
    """A slot value in an utterance: characters `start` up to, not including, `end`."""

    act: str  # the act that it belongs to, e.g. "Restaurant-Inform"
    slot: str  # e.g. "name"
    value: str
    start: int
    end: int

    @property
    def domain(self) -> str:
        """The domain of the act, lower case; "booking" and "general" where the act names no venue."""
        return self.act.split("-")[0].lower()


@dataclass(slots=True)
class Turn:
    """One utterance with its annotation. A bot turn repeats the belief state of the user turn before it.

    Raises:
        LabError: the speaker is neither USER nor BOT.
    """

    speaker: str  # USER or BOT
    utterance: str
    state: State = field(default_factory=dict)
    acts: Acts = field(default_factory=dict)
    spans: tuple[Span, ...] = ()  # sorted by start, not overlapping

    def __post_init__(self) -> None:
        if self.speaker not in (USER, BOT):
            action = f"write {USER!r} or {BOT!r}"
            found = f"the speaker is {self.speaker!r:.80}"
            raise LabError("a turn of an unknown speaker", found, action)


@dataclass(slots=True)
class Dialogue:
    """A dialogue: user and bot take turns, the user begins."""

    dialogue_id: str
    services: tuple[str, ...]
    turns: list[Turn]

    @property
    def key(self) -> str:
        """The id as goals and predictions spell it, see `dialogue_key`."""
        return dialogue_key(self.dialogue_id)

    @property
    def bot_turns(self) -> list[Turn]:
        return [turn for turn in self.turns if turn.speaker == BOT]


@dataclass
class Corpus:
    """Dialogues by split, with what scoring needs. `stand_in` is True for MiniWOZ and is written in every result."""

    name: str
    splits: Mapping[str, list[Dialogue]]  # "train", "dev", "test"; a split that is not there is not a key
    source: str  # where it came from, for the results board
    stand_in: bool = False
    goals: dict[str, Goal] = field(default_factory=dict)  # by Dialogue.key; empty: no Inform and Success
    booked: Booked = field(default_factory=dict)
    database: dict[str, list[Entity]] = field(default_factory=dict)  # {domain: entities}
    schema: list[Service] = field(default_factory=list)
    folder: Path | None = None
    # What a room above has computed from this corpus and keeps as long as the corpus lives, under a name of its own.
    # `replace(corpus, …)` makes a corpus without it.
    derived: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, split: str) -> list[Dialogue]:
        """The dialogues of a split ("validation" is "dev").

        Raises:
            LabError: this corpus has no such split.
        """
        split = SPLIT_ALIASES.get(split, split)
        if split not in self.splits:
            found = f"it has {', '.join(self.splits)}"
            raise LabError(f"{self.name} has no split {split!r}", found, "choose one of these")
        return self.splits[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __repr__(self) -> str:
        sizes = []
        for split, dialogues in self.splits.items():
            size = len(dialogues)
            sizes.append(f"{split} {size:,}")
        counted = ", ".join(sizes)
        named = self.name
        if self.stand_in:
            named += " (stand-in)"
        return f"<Corpus {named}: {counted} dialogues>"
