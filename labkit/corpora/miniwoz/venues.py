"""Restaurants, hotels and attractions: the user says what for, the system searches and offers."""

from labkit.corpora.miniwoz.bookings import serve
from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import Entity, query
from labkit.corpora.miniwoz.goals import SLOTS, Task
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.wording import Say, nouns

SHOWN = ("area", "food", "pricerange", "stars", "type", "internet", "parking", "address", "phone", "postcode")


def find_venue(talk: Conversation, task: Task) -> None:
    """A venue is found, offered, and booked or asked about."""
    act = task.domain.capitalize()
    found = _search(talk, task)
    entity = pick(talk.rng, found)
    others = [one for one in found if one is not entity]
    if others and talk.chance(0.2):  # the first offer is not taken
        talk.bot(_offer(task, entity, f"{act}-Inform"))
        talk.user(Say(f"{act}-Inform", "another"))
        entity = pick(talk.rng, others)
        others = [one for one in found if one is not entity]
    _present(talk, task, entity, others)
    talk.venue[task.domain] = entity
    serve(talk, task, entity)


def _present(talk: Conversation, task: Task, entity: Entity, others: list[Entity]) -> None:
    """The offer that the user takes: one venue with details, or the choice between two."""
    act = task.domain.capitalize()
    bookable = task.domain in ("restaurant", "hotel") and talk.chance(0.85)
    closing = Say("Booking-Inform", "offerbook") if bookable else Say("general-reqmore", "moreinfo")
    if others and talk.chance(0.5 if bookable else 0.2):
        names = {"name": entity["name"], "name2": pick(talk.rng, others)["name"]}
        talk.bot(Say(f"{act}-Select", "select", names))
        return
    offer = _offer(task, entity, f"{act}-Recommend" if talk.chance(0.4) else f"{act}-Inform")
    colour = talk.perhaps(Say("", f"{task.domain}_colour"), 0.3)
    talk.bot(offer, colour, talk.perhaps(closing, 0.8 if bookable else 0.4))


def _search(talk: Conversation, task: Task) -> list[Entity]:
    """Constraints are said, asked for, given up and corrected, until what is found meets them all."""
    if "name" in task.informable:
        talk.open(task, f"{task.domain}_named", task.informable)
        return query(task.domain, task.informable)
    domain = task.domain
    wanted = {**task.informable, **task.first}
    todo = shuffled(talk.rng, list(wanted))
    given = talk.first_few(todo, 1, whole=0.1)
    talk.open(task, f"{domain}_open", {slot: wanted[slot] for slot in given})
    todo = todo[len(given) :]
    has_shrugged = False
    while True:
        found = query(domain, talk.state[domain])
        spare = [slot for slot in _spare(talk, domain, found) if slot not in todo]
        if _is_wrong(talk, task, found):
            _mend(talk, task, found)
        elif todo and found and talk.chance(0.25):  # an offer too early
            talk.bot(_offer(task, pick(talk.rng, found), f"{domain.capitalize()}-Inform"))
            todo = talk.tell(task, f"{domain}_give", wanted, todo)
        elif len(found) > 2 and spare and not has_shrugged and talk.chance(0.3):
            has_shrugged = True
            count = talk.narrow(domain, found)
            slot = pick(talk.rng, spare)
            talk.bot(count, talk.request(domain, [slot]))
            talk.shrug(task, slot)
        elif todo:
            talk.bot(talk.narrow(domain, found), talk.request(domain, todo[:1]))
            todo = talk.tell(task, f"{domain}_give", wanted, todo)
        else:
            return found


def _spare(talk: Conversation, domain: str, found: list[Entity]) -> list[str]:
    """Slots that the user has not spoken of and in which the venues found differ."""
    unsaid = [slot for slot in SLOTS[domain] if slot not in talk.state[domain]]
    return [slot for slot in unsaid if len({one[slot] for one in found}) > 1]


def _is_wrong(talk: Conversation, task: Task, found: list[Entity]) -> bool:
    """The user has said the value that was a slip, or that finds nothing."""
    for slot, value in task.first.items():  # one at most
        return talk.state[task.domain].get(slot) == value and (task.slip or not found)
    return False


def _mend(talk: Conversation, task: Task, found: list[Entity]) -> None:
    """Nothing was found, or the user misspoke: the value is changed to the one of the goal, or given up."""
    act = task.domain.capitalize()
    slot = next(iter(task.first))
    what = {"_what": nouns(talk.rng, [slot])}
    nothing = Say(f"{act}-NoOffer", f"{task.domain}_nooffer", talk.sayable(task.domain))
    ask = talk.perhaps(Say(f"{act}-Request", "tryelse", asks=(slot,), flags=what), 0.6)
    if found:
        talk.bot(talk.count(task.domain, found))
    else:
        talk.bot(nothing, ask)
    if slot in task.informable:
        rule = "correct" if task.slip else f"{task.domain}_relax"
        talk.user(talk.inform(task, rule, {slot: task.informable[slot]}))
    else:
        talk.shrug(task, slot)


def _offer(task: Task, entity: Entity, act: str) -> Say:
    """An offer with a few details of the venue."""
    details = {slot: entity.get(slot, "?") for slot in SHOWN}
    details["entrancefee"] = entity.get("entrance fee", "?")
    values = {"name": entity["name"]}
    for slot, value in details.items():
        if value not in ("?", "no"):
            values[slot] = value
    return Say(act, f"{task.domain}_offer", values)
