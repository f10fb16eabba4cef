"""Inform and Success: did the system offer what the user's goal wants, and tell what the user asked for?

Defined by Budzianowski et al. (2018), here in the form of Nekvinda & Dušek (2021). Both are read off delexicalised
replies: where one holds NAME or TRAINID, the system offers what its belief state finds in the database at that turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from labkit.corpora.types import Goal, State
from labkit.metrics.database import DOMAINS, VenueDatabase

REQUESTABLE = ("PHONE", "ADDRESS", "POST", "REFERENCE", "TRAINID")
WITHOUT_ENTITY = ("taxi", "police", "hospital")  # the database has nothing to offer here


def active_domains(states: Sequence[State]) -> list[list[str]]:
    """The domain that each turn is about (one or none), estimated from what changed in the belief state.

    A domain stays active until others change and it does not; of these, the one with most slots is next.
    """
    current, before, changed_before = None, {}, []
    result: list[list[str]] = []
    for state in states:
        changed = [domain for domain in state if state[domain].items() - before.get(domain, {}).items()]
        if not changed and current is None:
            result.append([])
            continue
        if changed and current not in changed:
            current = max(changed, key=lambda domain: len(state[domain]))
        elif not changed and len(changed_before) > 1:  # two were set at once and one is dealt with: on to the other
            current = next((domain for domain in changed_before if domain in state and domain != current), current)
        before, changed_before = state, changed
        result.append([current])
    return result


class TurnInput(NamedTuple):
    """What is looked at in one system turn: the normalised reply and the state, active and booked domains."""

    reply: str
    state: State
    active: Sequence[str]
    booked: Sequence[str]


class Offer(NamedTuple):
    """How things stand in a domain after a turn: ids on offer, and requestable slots told so far."""

    entities: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()


def follow(goal: Goal, turns: Sequence[TurnInput], database: VenueDatabase) -> Iterator[dict[str, Offer]]:
    """{domain: offer} of the goal's domains before the first turn, and then after each."""
    offers = {domain: Offer() for domain in goal}
    yield offers
    for turn in turns:
        now = {domain: _offer(domain, turn, offers[domain], database) for domain in goal if domain in turn.active}
        offers = offers | now
        yield offers


def _offer(domain: str, turn: TurnInput, last: Offer, database: VenueDatabase) -> Offer:
    entities = last.entities
    if domain in DOMAINS and ("TRAINID" if domain == "train" else "NAME") in turn.reply:
        found = database.query(domain, turn.state[domain]) if domain in turn.state else frozenset()
        entities = entities if entities and entities <= found else found  # a wider search takes no offer back
    # a reference that could not be known, since nothing was booked, does not count
    told = {slot for slot in REQUESTABLE if slot in turn.reply and (slot != "REFERENCE" or domain in turn.booked)}
    return Offer(entities, last.told | told)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a dialogue did in one domain of its goal, and why."""

    domain: str
    inform: bool
    reason: str
    missing: tuple[str, ...]  # requestable slots that the goal has and no reply told
    wanted: str = field(repr=False)  # the goal in words

    def __str__(self) -> str:
        missing = f"; never told {', '.join(self.missing)}" if self.missing else ""
        return f"{'✗✓'[self.inform]} {self.domain} (wanted {self.wanted}): {self.reason}{missing}"


def judge(goal: Goal, offers: dict[str, Offer], database: VenueDatabase) -> list[Verdict]:
    """A verdict for each domain of the goal, from where things stand at the end of the dialogue."""
    return [_verdict(domain, parts, offers[domain], database) for domain, parts in goal.items()]


def _verdict(domain: str, parts: dict[str, Any], offer: Offer, database: VenueDatabase) -> Verdict:
    inform, offered, constraints, asked = True, offer.entities, parts["informable"], parts["requestable"]
    if "name" in constraints:
        reason = "the user named the venue"
    elif domain in WITHOUT_ENTITY:
        reason = "there is no entity to offer"
    elif not offered:
        inform = domain == "train" and "TRAINID" not in asked
        reason = "nothing was offered" + ", and no train id was asked for" * inform
    else:
        wanted = database.query(domain, constraints)
        inform, reason = offered <= wanted, f"{len(offered & wanted)} of the {len(offered)} on offer meet the goal"
    wanted = ", ".join([*(f"{slot}={value}" for slot, value in constraints.items()), *asked])
    return Verdict(domain, inform, reason, tuple(sorted(set(asked) - offer.told)), wanted)


def passed(verdicts: Sequence[Verdict]) -> dict[str, tuple[bool, bool]]:
    """{domain or "total": (Inform, Success)}. Success in a domain presupposes Inform in all of them."""
    inform = all(verdict.inform for verdict in verdicts)
    result = {verdict.domain: (verdict.inform, inform and not verdict.missing) for verdict in verdicts}
    return result | {"total": (inform, inform and all(success for _, success in result.values()))}


def change(goal: Goal, turn: TurnInput, before: dict[str, Offer], after: dict[str, Offer], db: VenueDatabase) -> str:
    """What a turn newly offers and tells, in words."""
    changes = []
    for domain, (entities, told) in after.items():
        if entities != before[domain].entities:
            fit = len(entities & db.query(domain, goal[domain]["informable"]))
            changes.append(f"offers {len(entities)} {domain}(s), {fit} meet the goal")
        if new := told - before[domain].told:
            changes.append(f"tells {domain} {', '.join(sorted(new))}")
    return f"about {', '.join(filter(None, turn.active)) or 'nothing yet'}: {'; '.join(changes) or '–'}"
