"""Right and wrong answers to the exercises of notebook 0; test_proofs.py judges them all."""

from fractions import Fraction

import numpy as np
import torch

RIGHT = {
    "0.1": ["b", " B ", "b)", "(B).", "'b'", ["b"]],
    "0.2": [
        lambda d: len(d.bot_turns),
        lambda d: sum(turn.speaker == "bot" for turn in d.turns),
        lambda d: torch.tensor(len(d.bot_turns)),
        lambda d: Fraction(len(d.bot_turns)),
        lambda d: np.array(len(d.bot_turns)),
    ],
    "0.3": [
        (20.0, 6000, 5.0),
        (20.0, 6000, torch.tensor(5.0)),
        (20.0, 6000, Fraction(5)),
        (np.float64(31.4), 7372, 7372 / 31.4 // 60 + 1),
    ],
}
WRONG = {  # (answer, words of the message that it must get)
    "0.1": [("a", "emulated"), ("d", "stores weights in 4 bits"), ("bf16", "one letter"), ("ab", "one letter")],
    "0.2": [
        (lambda d: len(d.turns), "speaks 1 time; you say 2"),
        (lambda d: len(d.turns) / 2, "user, bot, user"),
        (lambda d: 2, "speaks 1 time;"),
        (lambda d: len(d.turns) // 2, "the speakers are bot, user, bot"),
        (lambda d: d.bot_turns, "should be a number; you gave [Turn("),
    ],
    "0.3": [
        ((20.0, 6000, 300.0), "would be 0.3 a second; you measured 20.0"),
        ((20.0, 6000, 20 * 6000 / 60), "2,000 minutes for 6,000 replies"),
        ((20.0, 6000, 0), "endlessly many"),
        ((20.0, 6000, "5 min"), "minutes should be a number"),
    ],
}
