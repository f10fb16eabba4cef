"""Trains and taxis."""

from dataclasses import replace

from labkit.corpora.miniwoz.bookings import serve
from labkit.corpora.miniwoz.conversation import Conversation
from labkit.corpora.miniwoz.database import database, query
from labkit.corpora.miniwoz.goals import Task
from labkit.corpora.miniwoz.grammar import pick, shuffled
from labkit.corpora.miniwoz.wording import Say


def find_train(talk: Conversation, task: Task) -> None:
    """A train is found, offered, and booked or asked about: the last that arrives in time, or the first that leaves."""
    wanted = task.informable
    todo = shuffled(talk.rng, list(wanted))
    given = todo[: 1 + int(talk.rng.random() * 3)]
    talk.open(task, "train_open", {slot: wanted[slot] for slot in given})
    talk.fill(task, "train_give", wanted, todo[len(given) :], together=0.25)
    found = query("train", wanted)
    train = found[-1] if "arriveby" in wanted else found[0]
    details = {slot: train[slot] for slot in ("departure", "destination", "day", "price", "duration")}
    details["trainid"] = train["trainID"]
    details["leaveat"] = train["leaveAt"]
    details["arriveby"] = train["arriveBy"]
    talk.bot(
        talk.perhaps(talk.count("train", found), 0.35 if len(found) > 1 else 0),
        Say("Train-Inform", "train_offer", details),
        talk.perhaps(Say("", "train_extra"), 0.15),
        talk.perhaps(Say("Train-OfferBook", "train_offerbook"), 0.85),
    )
    serve(talk, task, train)


def order_taxi(talk: Conversation, task: Task) -> None:
    """A taxi is ordered, between two venues that were found before where there are such."""
    venues = {slot: talk.venue[domain]["name"] for slot, domain in task.same.items()}
    wanted = task.informable | venues
    by_reference = bool(task.same) and talk.chance(0.45)  # "between the two"
    todo = shuffled(talk.rng, list(wanted))
    by_name = replace(task, same={})
    if by_reference:
        todo.sort(key=lambda slot: slot not in task.same)
        given = talk.first_few(todo, 2, whole=0.1)
        talk.open(task, "taxi_open", {slot: wanted[slot] for slot in given})
    else:
        given = todo[:1]
        talk.open(by_name, "taxi_open", {slot: wanted[slot] for slot in given})
    talk.fill(by_name, "taxi_give", wanted, todo[len(given) :], together=0)
    cars = database()["taxi"][0]
    color = pick(talk.rng, cars["taxi_colors"])
    make = pick(talk.rng, cars["taxi_types"])
    phone = f"07700{int(talk.rng.random() * 1e6):06}"  # a range kept free for fiction
    car = {"type": f"{color} {make}", "phone": phone}
    talk.bot(Say("Taxi-Inform", "taxi_inform", wanted | car), talk.more())
