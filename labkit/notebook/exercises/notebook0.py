"""Checkers of notebook 0: number types and dialogues as data."""

from collections.abc import Callable
from typing import Any

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.notebook.exercises import Wrong, exercise, number


@exercise("0.2")
def bot_turns(count: Callable) -> str:
    for speakers in ((USER, BOT), (USER, BOT, USER, BOT), (USER, BOT, USER), (USER,), ()):
        dialogue = Dialogue("EXAMPLE.json", ("hotel",), [Turn(speaker, f"i am the {speaker}") for speaker in speakers])
        got, expected = count(dialogue), speakers.count(BOT)
        if got != expected:
            who = ", ".join(speakers) or "nobody"
            raise Wrong(f"In a dialogue where the speakers are {who}, the bot speaks {expected} times; you say {got}.")
    return "A dialogue has one reply to score for each of these turns."


@exercise("0.3")
def minutes_to_write(answer: Any) -> str:
    """`answer` is (replies per second as measured, number of replies, minutes that they will take)."""
    rate, replies, minutes = (
        number(part, name) for part, name in zip(answer, ("rate", "replies", "minutes"), strict=True)
    )
    if not 0.9 < minutes * 60 * rate / replies < 1.1:
        implied = f"{replies / minutes / 60:,.1f}" if minutes > 0 else "endlessly many"
        raise Wrong(
            f"{minutes:,.3g} minutes for {replies:,.0f} replies would be {implied} a second; you measured {rate:,.1f}."
        )
    return "Batches make it faster, long histories slower: take it as a range, and measure again on what you will run."
