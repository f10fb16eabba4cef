"""Conversations as a corpus: in memory for scoring, and in MultiWOZ's raw layout for a file that can be read back."""

from collections.abc import Sequence

from labkit.corpora.types import BOT, Acts, Corpus, Dialogue, Predictions, Turn
from labkit.interaction.acts import Labels
from labkit.interaction.play import Conversation
from labkit.storage import Json

SPLIT = "test"
BOOKS = ("Book", "NoBook")  # acts that MultiWOZ has under "Booking"
GENERAL = ("bye", "greet", "reqmore", "welcome", "thank")


def as_predictions(conversations: Sequence[Conversation]) -> Predictions:
    """The bot's replies and belief states, in mwzeval's format."""
    return {one.key: list(one.replies) for one in conversations}


def as_corpus(conversations: Sequence[Conversation], corpus: Corpus) -> Corpus:
    """The conversations as the test split of a corpus of their own, with the goals and the database of `corpus`."""
    goals = {}
    booked = {}
    for one in conversations:
        goals[one.key] = corpus.goals[one.key]
        booked[one.key] = [list(domains) for domains in one.booked]
    return Corpus(
        name=f"{corpus.name}, conversations",
        splits={SPLIT: [as_dialogue(one) for one in conversations]},
        source=f"conversations with a simulated user, goals of {corpus.name}",
        stand_in=corpus.stand_in,
        goals=goals,
        booked=booked,
        database=corpus.database,
        schema=corpus.schema,
    )


def as_dialogue(one: Conversation) -> Dialogue:
    """A conversation as a dialogue: the states are the user's, the bot's acts as the user understood them."""
    turns = []
    for user, reply, labels in zip(one.users, one.replies, one.acts, strict=True):
        bot = Turn(BOT, reply["response"], user.state, bot_acts(labels, _domain(user)))
        turns += [user, bot]
    services = tuple(progress.wish.domain for progress in one.agenda.domains)
    return Dialogue(one.key, services, turns)


def _domain(user: Turn) -> str:
    """The domain that a user turn is about, with a capital: "Hotel"."""
    for act in user.acts:
        return act.split("-")[0]
    return "general"


def bot_acts(labels: Labels, domain: str) -> Acts:
    """Labels of the classifier in MultiWOZ's annotation.

    >>> bot_acts(frozenset({"Request area", "Inform"}), "Hotel")
    {'Hotel-Inform': [('none', 'none')], 'Hotel-Request': [('area', '?')]}
    """
    acts: Acts = {}
    for label in sorted(labels):
        kind, _, slot = label.partition(" ")
        owner = domain
        if kind in GENERAL:
            owner = "general"
        elif kind in BOOKS or slot.startswith("book"):
            owner = "Booking"
        pairs = acts.setdefault(f"{owner}-{kind}", [])
        pairs.append((slot, "?") if slot else ("none", "none"))
    return acts


def as_raw(conversations: Sequence[Conversation], corpus: Corpus) -> Json:
    """The same corpus in the raw layout that `labkit.corpora.multiwoz.from_raw` reads."""
    played = as_corpus(conversations, corpus)
    acts = {}
    dialogues = []
    for dialogue in played[SPLIT]:
        acts[dialogue.dialogue_id] = {str(number): _raw_acts(turn) for number, turn in enumerate(dialogue.turns)}
        dialogues.append(_raw_dialogue(dialogue))
    return {
        "name": played.name,
        "source": played.source,
        "stand_in": played.stand_in,
        "splits": {SPLIT: dialogues},
        "dialog_acts": acts,
        "goals": played.goals,
        "booked_domains": played.booked,
        "database": played.database,
        "schema": played.schema,
    }


def _raw_acts(turn: Turn) -> Json:
    spans = [[span.act, span.slot, span.value, span.start, span.end] for span in turn.spans]
    return {"dialog_act": turn.acts, "span_info": spans}


def _raw_dialogue(dialogue: Dialogue) -> Json:
    turns = []
    for number, turn in enumerate(dialogue.turns):
        is_bot = turn.speaker == BOT
        frames = []
        if not is_bot:
            frames = [_raw_frame(domain, turn) for domain in dialogue.services]
        turns.append(
            {
                "turn_id": str(number),
                "speaker": "SYSTEM" if is_bot else "USER",
                "utterance": turn.utterance,
                "frames": frames,
            }
        )
    return {"dialogue_id": dialogue.dialogue_id, "services": list(dialogue.services), "turns": turns}


def _raw_frame(domain: str, turn: Turn) -> Json:
    slots = []
    for span in turn.spans:
        if span.domain == domain:
            name = f"{domain}-{span.slot}"
            slots.append({"slot": name, "value": span.value, "start": span.start, "exclusive_end": span.end})
    values = {f"{domain}-{slot}": [value] for slot, value in turn.state.get(domain, {}).items()}
    state = {"active_intent": "NONE", "requested_slots": [], "slot_values": values}
    return {"service": domain, "actions": [], "slots": slots, "state": state}
