"""Checkers of notebook 0: number types and dialogues as data."""

from collections.abc import Callable

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.notebook.exercises import Wrong, choice, exercise

choice(
    "0.1",
    "A number type for this machine",
    "A CPU without bfloat16 instructions and a free Colab T4: which number type does each compute in, and why?",
    {
        "a": (
            "bfloat16 on both: half the memory is always faster",
            "Half the memory is not half the time: where there is no hardware for it, bfloat16 is emulated. A training "
            "step was measured to take 21 times as long as in float32 on such a CPU.",
        ),
        "b": (
            "float32 on the CPU, float16 on the T4: each has hardware for that type and none for bfloat16",
            "Yes. What counts is what the device computes natively; that is why the READY card gives a reason.",
        ),
        "c": (
            "float16 on both: bfloat16 is less precise, so float16 is the better half",
            "float16 has the finer steps, but a CPU has no fast float16 arithmetic either. See the reason on the card.",
        ),
        "d": (
            "4-bit on both: QLoRA computes in 4 bits",
            "QLoRA stores weights in 4 bits and computes in a 16- or 32-bit type, which still has to be chosen.",
        ),
    },
    right="b",
    hints=(
        "Read the line `dtype` on the READY card: it gives the type and the reason.",
        "A type that a device has no instructions for is emulated; think of each device on its own.",
    ),
)


@exercise(
    "0.2",
    "Count the bot's turns",
    hints=(
        "`dialogue.turns` is a list; each turn has a `speaker`, which is `user` or `bot`.",
        "A dialogue may end with the user, so half the number of turns is not always right.",
        "`len`, or a `sum` over the turns with a condition; `dialogue.bot_turns` is the lab's own property.",
    ),
)
def bot_turns(count: Callable) -> str:
    for speakers in ((USER, BOT), (USER, BOT, USER, BOT), (USER, BOT, USER), (USER,), ()):
        dialogue = Dialogue("EXAMPLE.json", ("hotel",), [Turn(speaker, f"i am the {speaker}") for speaker in speakers])
        got, expected = count(dialogue), speakers.count(BOT)
        if got != expected:
            who = ", ".join(speakers) or "nobody"
            raise Wrong(f"In a dialogue where the speakers are {who}, the bot speaks {expected} times; you say {got}.")
    return "A dialogue has one reply to score for each of these turns."
