"""Inform and Success: did the system offer what the user's goal wants, and tell what the user asked for?

Defined by Budzianowski et al. (2018), here in the form of Nekvinda & Dušek (2021). Both are read off delexicalised
replies: where one holds NAME or TRAINID, the system offers what its belief state finds in the database at that turn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from labkit.corpora.types import Goal, State
from labkit.metrics.database import DOMAINS, VenueDatabase

REQUESTABLE = ("PHONE", "ADDRESS", "POST", "REFERENCE", "TRAINID")
WITHOUT_ENTITY = ("taxi", "police", "hospital")  # the database has nothing to offer here
TOTAL = "total"  # stands beside the domains, for the whole dialogue
MARKS = {True: "✓", False: "✗"}


def active_domains(states: Sequence[State]) -> list[list[str]]:
    """The domain that each turn is about (one or none), estimated from what changed in the belief state.

    A domain stays active until others change and it does not; of these, the one with most slots is next.
    """
    current: str | None = None
    before: State = {}
    changed_before: list[str] = []
    result: list[list[str]] = []
    for state in states:
        changed = _changed_domains(before, state)
        if not changed and current is None:
            result.append([])
            continue
        if changed and current not in changed:
            current = max(changed, key=lambda domain: len(state[domain]))
        elif not changed and len(changed_before) > 1:  # two were set at once and one is dealt with: on to the other
            current = _other(changed_before, state, current)
        before = state
        changed_before = changed
        result.append([current])
    return result


def _other(domains: Sequence[str], state: State, current: str) -> str:
    """The first of the domains that the state has and that is not the current one, if there is such a domain."""
    for domain in domains:
        if domain in state and domain != current:
            return domain
    return current


def _changed_domains(before: State, state: State) -> list[str]:
    """The domains with a slot that is new or has a new value."""
    changed = []
    for domain, slots in state.items():
        slots_before = before.get(domain, {})
        if slots.items() - slots_before.items():
            changed.append(domain)
    return changed


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
        offers = dict(offers)
        for domain in goal:
            if domain in turn.active:
                offers[domain] = _offer_after(turn, domain, offers[domain], database)
        yield offers


def _offer_after(turn: TurnInput, domain: str, last: Offer, database: VenueDatabase) -> Offer:
    entities = last.entities
    offering_word = "TRAINID" if domain == "train" else "NAME"
    if domain in DOMAINS and offering_word in turn.reply:
        found = _found(turn.state, domain, database)
        is_wider_search = bool(entities) and entities <= found
        if not is_wider_search:  # a wider search takes no offer back
            entities = found
    return Offer(entities, last.told | _told(turn, domain))


def _found(state: State, domain: str, database: VenueDatabase) -> frozenset[str]:
    """Ids of the entities that a belief state finds."""
    if domain not in state:
        return frozenset()
    return database.query(domain, state[domain])


def _told(turn: TurnInput, domain: str) -> set[str]:
    """The requestable slots that a reply tells."""
    told = {slot for slot in REQUESTABLE if slot in turn.reply}
    if domain not in turn.booked:
        told.discard("REFERENCE")  # it could not be known, since nothing was booked
    return told


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a dialogue did in one domain of its goal, and why."""

    domain: str
    inform: bool
    reason: str
    missing: tuple[str, ...]  # requestable slots that the goal has and no reply told
    wanted: str = field(repr=False)  # the goal in words

    def __str__(self) -> str:
        mark = MARKS[self.inform]
        text = f"{mark} {self.domain} (wanted {self.wanted}): {self.reason}"
        if self.missing:
            missing = ", ".join(self.missing)
            text += f"; never told {missing}"
        return text


def judge(goal: Goal, offers: Mapping[str, Offer], database: VenueDatabase) -> list[Verdict]:
    """A verdict for each domain of the goal, from where things stand at the end of the dialogue."""
    return [_verdict(goal, domain, offers[domain], database) for domain in goal]


def _verdict(goal: Goal, domain: str, offer: Offer, database: VenueDatabase) -> Verdict:
    constraints: dict[str, str] = goal[domain]["informable"]
    requested: list[str] = goal[domain]["requestable"]
    inform, reason = _informed(domain, constraints, requested, offer.entities, database)
    missing = set(requested) - offer.told
    wishes = [f"{slot}={value}" for slot, value in constraints.items()]
    wishes.extend(requested)
    return Verdict(
        domain=domain,
        inform=inform,
        reason=reason,
        missing=tuple(sorted(missing)),
        wanted=", ".join(wishes),
    )


def _informed(
    domain: str,
    constraints: Mapping[str, str],
    requested: Sequence[str],
    offered: frozenset[str],
    database: VenueDatabase,
) -> tuple[bool, str]:
    """(Inform in one domain, why)."""
    if "name" in constraints:
        return True, "the user named the venue"
    if domain in WITHOUT_ENTITY:
        return True, "there is no entity to offer"
    if not offered and domain == "train" and "TRAINID" not in requested:
        return True, "nothing was offered, and no train id was asked for"
    if not offered:
        return False, "nothing was offered"
    wanted = database.query(domain, constraints)
    n_fitting = len(offered & wanted)
    return offered <= wanted, f"{n_fitting} of the {len(offered)} on offer meet the goal"


def passed(verdicts: Sequence[Verdict]) -> dict[str, tuple[bool, bool]]:
    """{domain or "total": (Inform, Success)}. Success in a domain presupposes Inform in all of them."""
    inform = all(verdict.inform for verdict in verdicts)
    success = inform and not any(verdict.missing for verdict in verdicts)
    result = {}
    for verdict in verdicts:
        result[verdict.domain] = (verdict.inform, inform and not verdict.missing)
    result[TOTAL] = (inform, success)
    return result


def change(
    goal: Goal,
    turn: TurnInput,
    before: Mapping[str, Offer],
    after: Mapping[str, Offer],
    database: VenueDatabase,
) -> str:
    """What a turn newly offers and tells, in words."""
    changes = []
    for domain, (entities, told) in after.items():
        if entities != before[domain].entities:
            wanted = database.query(domain, goal[domain]["informable"])
            n_fitting = len(entities & wanted)
            changes.append(f"offers {len(entities)} {domain}(s), {n_fitting} meet the goal")
        newly_told = told - before[domain].told
        if newly_told:
            slots = ", ".join(sorted(newly_told))
            changes.append(f"tells {domain} {slots}")
    topics = ", ".join(filter(None, turn.active)) or "nothing yet"
    what_changed = "; ".join(changes) or "–"
    return f"about {topics}: {what_changed}"
