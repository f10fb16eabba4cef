"""Bookings of what was found, and questions about it."""

from random import Random

from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import CITY, Entity
from labkit.corpora.miniwoz.goals import Task
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.wording import Say, nouns, small_talk

EXTRAS: dict[str, list[str]] = CITY["extras"]  # {domain: what users ask beside what their goal says}
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
    if task.domain in EXTRAS and talk.chance(0.17):
        extra = pick(talk.rng, EXTRAS[task.domain])
        is_unknown = extra == "entrancefee" and entity["entrance fee"] == "?"
        if not is_unknown:
            questions.append(extra)
    return questions


def _answer(talk: Conversation, task: Task, slots: list[str], entity: Entity) -> None:
    details = {}
    for column, value in entity.items():
        slot = column.replace(" ", "").lower()
        details[slot] = value
    while slots:
        now = talk.first_few(slots, 1)
        slots = slots[len(now) :]
        what = {"_what": nouns(talk.rng, now)}
        ask = Say(
            act=task.act("Request"),
            rule="ask",
            asks=tuple(now),
            flags=what,
        )
        lead = "accept" if talk.chance(0.5) else "lead"
        talk.user(ask, lead=lead, share=0.55)
        values = {slot: details[slot] for slot in now}
        answer = Say(task.act("Inform"), "answer", values)
        talk.bot(answer, talk.more())


def _book(talk: Conversation, task: Task, entity: Entity) -> None:
    wishes = task.booking | task.unlucky
    wanted = _as_state(wishes)
    todo = shuffled(talk.rng, list(wanted))
    given = talk.first_few(todo, 0, whole=0.5)
    values = {}
    if "name" in entity and talk.chance(0.3):
        values["name"] = entity["name"]
    for slot in given:
        values[slot] = wanted[slot]
    book = talk.inform(task, f"{task.domain}_book", values)
    ask_reference = Say(task.act("Request"), "askref", asks=("ref",))
    perhaps_ask = talk.perhaps(ask_reference, 0.07)
    lead = "accept" if talk.chance(0.6) else "lead"
    talk.user(book, perhaps_ask, lead=lead, share=0.5)
    todo = todo[len(given) :]
    detail = f"{task.domain}_detail"
    talk.fill(task, detail, wanted, todo, together=0.65)
    for slot, value in task.unlucky.items():
        _try_again(talk, task, slot, value)
    _confirm(talk, task, entity)


def _as_state(booking: dict[str, str]) -> dict[str, str]:
    """The slots of a booking as the belief state spells them."""
    state = {}
    for slot, value in booking.items():
        state[f"book{slot}"] = value
    return state


def _try_again(talk: Conversation, task: Task, slot: str, value: str) -> None:
    """The first wish cannot be had; the user names another."""
    booking_slot = f"book{slot}"
    what = {"_what": nouns(talk.rng, [booking_slot])}
    refusal = Say("Booking-NoBook", "nobook", {booking_slot: value})
    again = Say(
        act="Booking-Request",
        rule="tryagain",
        asks=(booking_slot,),
        flags=what,
    )
    talk.bot(refusal, talk.perhaps(again, 0.6))
    other_value = task.booking[slot]
    retry = talk.inform(task, "retry", {booking_slot: other_value})
    talk.user(retry)


def _confirm(talk: Conversation, task: Task, entity: Entity) -> None:
    talk.booked.append(task.domain)
    values = _as_state(task.booking)
    values["ref"] = _reference(talk.rng)
    if task.domain == "train":
        values["trainid"] = entity["trainID"]
        values["price"] = _total_price(entity, task)
        confirmation = Say("Train-OfferBooked", "train_offerbooked", values)
        talk.bot(confirmation, talk.more())
        return
    values["name"] = entity["name"]
    confirmation = Say("Booking-Book", "booked", values)
    share = 0.25 if task.domain == "restaurant" else 0
    extra = talk.perhaps(small_talk("booked_extra"), share)
    talk.bot(confirmation, extra, talk.more())


def _reference(rng: Random) -> str:
    letters = [pick(rng, REFERENCE) for _ in range(REFERENCE_LENGTH)]
    return "".join(letters)


def _total_price(train: Entity, task: Task) -> str:
    """For all who travel; the database has the price of one ticket: "12.60 pounds"."""
    amount, _ = train["price"].split()
    people = int(task.booking["people"])
    total = float(amount) * people
    return f"{total:.2f} pounds"
