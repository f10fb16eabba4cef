"""Where conversations die: of each that failed, what the user was waiting for when it ended."""

from collections import Counter
from collections.abc import Sequence

from labkit.corpora.types import State, Values
from labkit.interaction.acts import understood
from labkit.interaction.agenda import PATIENCE
from labkit.interaction.play import Conversation
from labkit.interaction.progress import ASKED_AGAIN, Progress
from labkit.interaction.wishes import DONT_CARE
from labkit.metrics.normalization import normalise_state

LANGUAGE = "language"  # the last replies said nothing that the user understood
STATE = "state"  # the bot believed something else than the user had said
QUESTION = "repeated question"  # it asked for what had been said
OFFER = "offer"  # nothing right was offered
BOOKING = "booking"  # what was right was not booked
REQUEST = "request"  # what the user asked for was not told
CAUSES = (LANGUAGE, STATE, QUESTION, OFFER, BOOKING, REQUEST)


def cause_of(one: Conversation) -> str:
    """Why a conversation failed, "" where it did not. The first of `CAUSES` that fits: each can lead to those after it.

    It is a reading of the end: the last replies, and the wish that the conversation ended in. What went wrong before,
    and was forgiven, is in `one.events`.
    """
    if one.success or not one.replies:
        return ""
    here = _unfulfilled(one)
    if _says_nothing(one):
        return LANGUAGE
    if _believes_otherwise(one, here.wish.domain):
        return STATE
    if _asks_again(one):
        return QUESTION
    if not here.settled:
        return OFFER
    if here.wish.booking and not here.booked:
        return BOOKING
    return REQUEST


def causes(conversations: Sequence[Conversation]) -> dict[str, int]:
    """{cause: conversations that died of it}, every cause of `CAUSES` in its order."""
    found = Counter(cause_of(one) for one in conversations)
    return {cause: found[cause] for cause in CAUSES}


def _unfulfilled(one: Conversation) -> Progress:
    """The wish that the user was at, or the first that is open."""
    if not one.agenda.current.done:
        return one.agenda.current
    return next((wish for wish in one.agenda.domains if not wish.done), one.agenda.current)


def _says_nothing(one: Conversation) -> bool:
    """None of the last replies had an act or a placeholder that a user can do anything with."""
    last = list(zip(one.replies, one.acts, strict=True))[-PATIENCE:]
    for reply, acts in last:
        heard = understood(reply["response"], acts)
        if heard.acts or heard.offers or heard.told:
            return False
    return True


def _believes_otherwise(one: Conversation, domain: str) -> bool:
    said = _wanted(one.users[-1].state, domain)
    believed = _wanted(one.replies[-1].get("state", {}), domain)
    return said != believed


def _wanted(state: State, domain: str) -> Values:
    """The slots of a domain, spelt as scoring spells them, without those that may have any value."""
    slots = normalise_state({domain: dict(state.get(domain, {}))}).get(domain, {})
    return {slot: value for slot, value in slots.items() if value != DONT_CARE}


def _asks_again(one: Conversation) -> bool:
    first_of_last = len(one.replies) - PATIENCE
    return any(event.kind == ASKED_AGAIN and event.turn >= first_of_last for event in one.events)
