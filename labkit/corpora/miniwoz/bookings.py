"""Bookings of what was found, and questions about it."""

from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import CITY, Entity
from labkit.corpora.miniwoz.goals import Task
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.wording import Say, nouns

REFERENCE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"  # the letters of a reference number: no I and no O
REFERENCE_LENGTH = 8


def serve(talk: Conversation, task: Task, entity: Entity) -> None:
    """The booking of the venue or train that was found and the questions about it, in either order."""
    questions = _questions(talk, task, entity)
    questions_first = talk.chance(0.4)
    if questions_first:
        _answer(talk, task, questions, entity)
    if task.booking:
        _book(talk, task, entity)
    if not questions_first:
        _answer(talk, task, questions, entity)


def _questions(talk: Conversation, task: Task, entity: Entity) -> list[str]:
    """The slots that the user asks for: those of the goal, and now and then another."""
    questions = [slot for slot in task.requests if slot != "ref"]
    if task.domain in CITY["extras"] and talk.chance(0.17):
        extra = pick(talk.rng, CITY["extras"][task.domain])
        if extra != "entrancefee" or entity["entrance fee"] != "?":
            questions.append(extra)
    return questions


def _answer(talk: Conversation, task: Task, slots: list[str], entity: Entity) -> None:
    act = task.domain.capitalize()
    details = {**entity, "entrancefee": entity.get("entrance fee"), "trainid": entity.get("trainID")}
    while slots:
        now = talk.first_few(slots, 1)
        slots = slots[len(now) :]
        ask = Say(f"{act}-Request", "ask", asks=tuple(now), flags={"_what": nouns(talk.rng, now)})
        talk.user(ask, lead="accept" if talk.chance(0.5) else "lead", share=0.55)
        talk.bot(Say(f"{act}-Inform", "answer", {slot: details[slot] for slot in now}), talk.more())


def _book(talk: Conversation, task: Task, entity: Entity) -> None:
    wishes = {**task.booking, **task.unlucky}
    wanted = {f"book{slot}": value for slot, value in wishes.items()}
    todo = shuffled(talk.rng, list(wanted))
    given = talk.first_few(todo, 0, whole=0.5)
    said = {}
    if "name" in entity and talk.chance(0.3):
        said["name"] = entity["name"]
    for slot in given:
        said[slot] = wanted[slot]
    book = talk.inform(task, f"{task.domain}_book", said)
    reference = talk.perhaps(Say(f"{task.domain.capitalize()}-Request", "askref", asks=("ref",)), 0.07)
    talk.user(book, reference, lead="accept" if talk.chance(0.6) else "lead", share=0.5)
    talk.fill(task, f"{task.domain}_detail", wanted, todo[len(given) :], together=0.65)
    for slot, value in task.unlucky.items():
        _try_again(talk, task, slot, value)
    _confirm(talk, task, entity)


def _try_again(talk: Conversation, task: Task, slot: str, value: str) -> None:
    """The first wish cannot be had; the user names another."""
    what = {"_what": nouns(talk.rng, [f"book{slot}"])}
    again = Say("Booking-Request", "tryagain", asks=(f"book{slot}",), flags=what)
    talk.bot(Say("Booking-NoBook", "nobook", {f"book{slot}": value}), talk.perhaps(again, 0.6))
    talk.user(talk.inform(task, "retry", {f"book{slot}": task.booking[slot]}))


def _confirm(talk: Conversation, task: Task, entity: Entity) -> None:
    talk.booked.append(task.domain)
    values = {f"book{slot}": value for slot, value in task.booking.items()}
    values["ref"] = "".join(pick(talk.rng, REFERENCE) for _ in range(REFERENCE_LENGTH))
    if task.domain == "train":
        pounds = float(entity["price"].split()[0]) * int(task.booking["people"])
        values["trainid"] = entity["trainID"]
        values["price"] = f"{pounds:.2f} pounds"
        talk.bot(Say("Train-OfferBooked", "train_offerbooked", values), talk.more())
    else:
        extra = talk.perhaps(Say("", "booked_extra"), 0.25 if task.domain == "restaurant" else 0)
        values["name"] = entity["name"]
        talk.bot(Say("Booking-Book", "booked", values), extra, talk.more())
