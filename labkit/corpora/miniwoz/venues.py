"""Restaurants, hotels and attractions: the user says what for, the system searches and offers."""

from labkit.corpora.miniwoz.bookings import serve
from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import Entity, query
from labkit.corpora.miniwoz.goals import SLOTS, Task
from labkit.corpora.miniwoz.grammar import Values, pick, shuffled
from labkit.corpora.miniwoz.wording import Say, nouns, small_talk

SHOWN = (
    "area",
    "food",
    "pricerange",
    "stars",
    "type",
    "internet",
    "parking",
    "address",
    "phone",
    "postcode",
    "entrance fee",
)
BOOKABLE = ("restaurant", "hotel")
UNSAID = ("?", "no")  # values of the database that no offer names


def find_venue(talk: Conversation, task: Task) -> None:
    """A venue is found, offered, and booked or asked about."""
    found = _find(talk, task)
    entity = pick(talk.rng, found)
    others = _without(entity, found)
    if others and talk.chance(0.2):  # the first offer is not taken
        offer = _offer(task, entity, act="Inform")
        talk.bot(offer)
        another = Say(task.act("Inform"), "another")
        talk.user(another)
        entity = pick(talk.rng, others)
        others = _without(entity, found)
    _present(talk, task, entity, others)
    talk.venue[task.domain] = entity
    serve(talk, task, entity)


def _without(entity: Entity, found: list[Entity]) -> list[Entity]:
    return [other for other in found if other is not entity]


def _present(talk: Conversation, task: Task, entity: Entity, others: list[Entity]) -> None:
    """The offer that the user takes: one venue with details, or the choice between two."""
    is_bookable = task.domain in BOOKABLE and talk.chance(0.85)
    if is_bookable:
        closing = Say("Booking-Inform", "offerbook")
        closing_share = 0.8
        choice_share = 0.5
    else:
        closing = Say("general-reqmore", "moreinfo")
        closing_share = 0.4
        choice_share = 0.2
    if others and talk.chance(choice_share):
        other = pick(talk.rng, others)
        names = {
            "name": entity["name"],
            "name2": other["name"],
        }
        choice = Say(task.act("Select"), "select", names)
        talk.bot(choice)
        return
    act = "Recommend" if talk.chance(0.4) else "Inform"
    offer = _offer(task, entity, act)
    colour = small_talk(f"{task.domain}_colour")
    talk.bot(
        offer,
        talk.perhaps(colour, 0.3),
        talk.perhaps(closing, closing_share),
    )


def _find(talk: Conversation, task: Task) -> list[Entity]:
    """What meets the goal; a venue that the user names is there at once."""
    if "name" not in task.informable:
        return _search(talk, task)
    talk.open(task, f"{task.domain}_named", task.informable)
    return query(task.domain, task.informable)


def _search(talk: Conversation, task: Task) -> list[Entity]:
    """Constraints are said, asked for, given up and corrected, until what is found meets them all."""
    domain = task.domain
    give = f"{domain}_give"
    wanted = {**task.informable, **task.first}
    todo = shuffled(talk.rng, list(wanted))
    todo = _begin(talk, task, wanted, todo)
    has_shrugged = False
    while True:
        found = query(domain, talk.state[domain])
        spare = _spare(talk, domain, found, todo)
        if _is_wrong(talk, task, found):
            _mend(talk, task, found)
        elif todo and found and talk.chance(0.25):  # an offer too early
            early = pick(talk.rng, found)
            offer = _offer(task, early, act="Inform")
            talk.bot(offer)
            todo = talk.tell(task, give, wanted, todo)
        elif spare and not has_shrugged and talk.chance(0.3):
            has_shrugged = True
            _ask_in_vain(talk, task, found, spare)
        elif todo:
            count = talk.narrow(domain, found)
            question = talk.request(domain, todo[:1])
            talk.bot(count, question)
            todo = talk.tell(task, give, wanted, todo)
        else:
            return found


def _begin(talk: Conversation, task: Task, wanted: Values, todo: list[str]) -> list[str]:
    """The user says some of what is wanted; the rest is returned."""
    given = talk.first_few(todo, 1, whole=0.1)
    values = {slot: wanted[slot] for slot in given}
    talk.open(task, f"{task.domain}_open", values)
    return todo[len(given) :]


def _spare(talk: Conversation, domain: str, found: list[Entity], todo: list[str]) -> list[str]:
    """Slots that the user has not spoken of, and will not, and in which several venues found differ."""
    if len(found) < 3:
        return []
    spare = []
    for slot in SLOTS[domain]:
        if slot in talk.state[domain] or slot in todo:
            continue
        values = {entity[slot] for entity in found}
        if len(values) > 1:
            spare.append(slot)
    return spare


def _ask_in_vain(talk: Conversation, task: Task, found: list[Entity], spare: list[str]) -> None:
    """The system asks for one more constraint; the user has none."""
    count = talk.narrow(task.domain, found)
    slot = pick(talk.rng, spare)
    question = talk.request(task.domain, [slot])
    talk.bot(count, question)
    talk.shrug(task, slot)


def _is_wrong(talk: Conversation, task: Task, found: list[Entity]) -> bool:
    """The user has said the value that was a slip, or that finds nothing."""
    for slot, value in task.first.items():  # one at most
        said = talk.state[task.domain].get(slot)
        is_said = said == value
        return is_said and (task.slip or not found)
    return False


def _mend(talk: Conversation, task: Task, found: list[Entity]) -> None:
    """Nothing was found, or the user misspoke: the value is changed to the one of the goal, or given up."""
    (slot,) = task.first
    what = {"_what": nouns(talk.rng, [slot])}
    ask = Say(
        act=task.act("Request"),
        rule="tryelse",
        asks=(slot,),
        flags=what,
    )
    perhaps_ask = talk.perhaps(ask, 0.6)
    if found:
        count = talk.count(task.domain, found)
        talk.bot(count)
    else:
        sayable = talk.sayable(task.domain)
        nothing = Say(
            act=task.act("NoOffer"),
            rule=f"{task.domain}_nooffer",
            values=sayable,
        )
        talk.bot(nothing, perhaps_ask)
    if slot not in task.informable:
        talk.shrug(task, slot)
        return
    rule = "correct" if task.slip else f"{task.domain}_relax"
    value = {slot: task.informable[slot]}
    correction = talk.inform(task, rule, value)
    talk.user(correction)


def _offer(task: Task, entity: Entity, act: str) -> Say:
    """An offer with a few details of the venue."""
    values = {"name": entity["name"]}
    for column in SHOWN:
        value = entity.get(column, "?")
        if value not in UNSAID:
            slot = column.replace(" ", "")
            values[slot] = value
    return Say(
        act=task.act(act),
        rule=f"{task.domain}_offer",
        values=values,
    )
