"""Checkers of notebook 0: number types and dialogues as data."""

from collections.abc import Callable

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.notebook.exercises import Wrong, exercise


@exercise("0.2")
def bot_turns(count: Callable) -> str:
    for speakers in ((USER, BOT), (USER, BOT, USER, BOT), (USER, BOT, USER), (USER,), ()):
        dialogue = Dialogue("EXAMPLE.json", ("hotel",), [Turn(speaker, f"i am the {speaker}") for speaker in speakers])
        got, expected = count(dialogue), speakers.count(BOT)
        if got != expected:
            who = ", ".join(speakers) or "nobody"
            raise Wrong(f"In a dialogue where the speakers are {who}, the bot speaks {expected} times; you say {got}.")
    return "A dialogue has one reply to score for each of these turns."
