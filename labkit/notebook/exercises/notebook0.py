"""Checkers of notebook 0: number types and dialogues as data."""

from collections.abc import Callable

from labkit.corpora.types import BOT, Dialogue, Turn
from labkit.notebook.exercises.answers import Wrong, number, times
from labkit.notebook.exercises.texts import cases


def bot_turns(count: Callable) -> str:
    for case in cases("0.2"):
        speakers = case["speakers"]
        turns = [Turn(speaker, f"i am the {speaker}") for speaker in speakers]
        dialogue = Dialogue("EXAMPLE.json", ("hotel",), turns)
        got = number(count(dialogue), "The number of turns")
        expected = speakers.count(BOT)
        if got != expected:
            who = ", ".join(speakers) or "nobody"
            speaks = f"the bot speaks {times(expected, 'time')}"
            raise Wrong(f"In a dialogue where the speakers are {who}, {speaks}; you say {got:g}.")
    return "A dialogue has one reply to score for each of these turns."


def minutes_to_write(answer: tuple[float, int, float]) -> str:
    """`answer` is (replies per second as measured, number of replies, minutes that they will take)."""
    measured, wanted, given = answer
    rate = number(measured, "rate")
    replies = number(wanted, "replies")
    minutes = number(given, "minutes")
    needed = replies / rate / 60
    if 0.9 < minutes / needed < 1.1:
        return (
            "Batches make it faster, long histories slower: take it as a range, and measure again on what you will run."
        )
    implied = "endlessly many"
    if minutes > 0:
        implied = f"{replies / minutes / 60:,.1f}"
    told = f"{minutes:,.0f}" if abs(minutes) >= 100 else f"{minutes:.3g}"
    claim = f"{told} minutes for {replies:,.0f} replies would be {implied} a second"
    raise Wrong(f"{claim}; you measured {rate:,.1f}.")


CHECKERS = {"0.2": bot_turns, "0.3": minutes_to_write}
