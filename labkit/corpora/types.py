"""Dialogues as data: one set of types for every corpus."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from labkit.errors import LabError

if TYPE_CHECKING:
    import datasets

USER, BOT = "user", "bot"
State = dict[str, dict[str, str]]  # {domain: {slot: value}}, e.g. {"hotel": {"area": "north", "bookday": "friday"}}
Goal = dict[str, dict[str, Any]]  # {domain: {"informable": {slot: value}, "requestable": [SLOT], "booking": [slot]}}
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
    """One utterance with its annotation. A bot turn repeats the belief state of the user turn before it."""

    speaker: str  # USER or BOT
    utterance: str
    state: State = field(default_factory=dict)
    acts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # {"Restaurant-Inform": [(slot, value)]}
    spans: tuple[Span, ...] = ()  # sorted by start, not overlapping


@dataclass(slots=True)
class Dialogue:
    """A dialogue: user and bot take turns, the user begins."""

    dialogue_id: str
    services: tuple[str, ...]
    turns: list[Turn]

    @property
    def key(self) -> str:
        """The id as goals and predictions spell it (mwzeval's spelling): lower case, no `.json`."""
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
    booked: dict[str, list[list[str]]] = field(default_factory=dict)  # by key: domains booked by each bot turn
    database: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # {domain: entities}
    schema: list[dict[str, Any]] = field(default_factory=list)
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
        sizes = ", ".join(f"{split} {len(dialogues):,}" for split, dialogues in self.splits.items())
        return f"<Corpus {self.name}{' (stand-in)' * self.stand_in}: {sizes} dialogues>"

    def dataset(self, split: str) -> "datasets.Dataset":
        """The split as a `datasets.Dataset`, one row a dialogue: dialogue_id, services, turns (speaker, utterance)."""
        import datasets

        def row(dialogue: Dialogue) -> dict[str, Any]:
            turns = [{"speaker": turn.speaker, "utterance": turn.utterance} for turn in dialogue.turns]
            return {"dialogue_id": dialogue.dialogue_id, "services": list(dialogue.services), "turns": turns}

        return datasets.Dataset.from_list([row(dialogue) for dialogue in self[split]])
