"""Trains and taxis."""

from dataclasses import replace
from random import Random

from labkit.corpora.miniwoz.bookings import serve
from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import Entity, database, query
from labkit.corpora.miniwoz.goals import Task
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.wording import Say, small_talk

OFFERED = ("departure", "destination", "day", "price", "duration", "trainID", "leaveAt", "arriveBy")  # of a train


def find_train(talk: Conversation, task: Task) -> None:
    """A train is found, offered, and booked or asked about: the last that arrives in time, or the first that leaves."""
    wanted = task.informable
    todo = shuffled(talk.rng, list(wanted))
    n_given = 1 + int(talk.rng.random() * 3)
    given = todo[:n_given]
    todo = todo[n_given:]
    values = {slot: wanted[slot] for slot in given}
    talk.open(task, "train_open", values)
    talk.fill(task, "train_give", wanted, todo, together=0.25)
    found = query("train", wanted)
    train = found[0]
    if "arriveby" in wanted:
        train = found[-1]
    _offer_train(talk, train, found)
    serve(talk, task, train)


def _offer_train(talk: Conversation, train: Entity, found: list[Entity]) -> None:
    details = {column.lower(): train[column] for column in OFFERED}
    count = talk.count("train", found)
    count_share = 0.35 if len(found) > 1 else 0
    offer = Say("Train-Inform", "train_offer", details)
    booking = Say("Train-OfferBook", "train_offerbook")
    talk.bot(
        talk.perhaps(count, count_share),
        offer,
        talk.perhaps(small_talk("train_extra"), 0.15),
        talk.perhaps(booking, 0.85),
    )


def order_taxi(talk: Conversation, task: Task) -> None:
    """A taxi is ordered, between two venues that were found before where there are such."""
    wanted = dict(task.informable)
    for slot, domain in task.same.items():
        venue = talk.venue[domain]
        wanted[slot] = venue["name"]
    by_reference = bool(task.same) and talk.chance(0.45)  # "between the two"
    by_name = replace(task, same={})
    todo = shuffled(talk.rng, list(wanted))
    if by_reference:
        todo.sort(key=lambda slot: slot not in task.same)
        given = talk.first_few(todo, 2, whole=0.1)
    else:
        given = todo[:1]
    values = {slot: wanted[slot] for slot in given}
    talk.open(task if by_reference else by_name, "taxi_open", values)
    todo = todo[len(given) :]
    talk.fill(by_name, "taxi_give", wanted, todo, together=0)
    car = _car(talk.rng)
    answer = Say("Taxi-Inform", "taxi_inform", wanted | car)
    talk.bot(answer, talk.more())


def _car(rng: Random) -> dict[str, str]:
    """A car's colour, make and phone number."""
    (cars,) = database()["taxi"]
    color = pick(rng, cars["taxi_colors"])
    make = pick(rng, cars["taxi_types"])
    number = int(rng.random() * 1e6)
    phone = f"07700{number:06}"  # a range kept free for fiction
    return {"type": f"{color} {make}", "phone": phone}
