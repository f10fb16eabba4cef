"""Whole conversations, both speakers, as a model of the `dialogs` format writes them."""

from collections.abc import Sequence

from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.models import LanguageModel
from labkit.prompts import dialogue_header


def write_conversations(
    lm: LanguageModel, wishes: Sequence[int], config: DecodingConfig, *, longest: int
) -> list[list[str]]:
    """The lines of one conversation for each wish: `wishes` are numbers of turns, as the header names them.

    All conversations are written together, a line at a time. The model ends one itself, with its end token where a new
    line would begin; nothing counts turns for it. One that does not end is cut off after `longest` lines. Two
    conversations of the same wish draw different random numbers.

    Raises:
        LabError: as `generate`, for one when the model has no room for a further line.
    """
    prompts = [[*lm.codec.prefix, *lm.codec.encode(dialogue_header(wish))] for wish in wishes]
    conversations: list[list[str]] = [[] for _ in wishes]
    going = list(range(len(wishes)))
    while going:
        keys = [f"conversation {index}, line {len(conversations[index])}" for index in going]
        replies = generate(lm, [prompts[index] for index in going], config, keys=keys)
        still = []
        for index, reply in zip(going, replies, strict=True):
            line = lm.codec.decode(reply)
            if not line:
                continue
            conversations[index].append(line)
            prompts[index] += lm.codec.encode(f"{line}\n")
            if len(conversations[index]) < longest:
                still.append(index)
        going = still
    return conversations
