"""Two replies to the same conversation of which one is better, as text and as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from labkit.corpora.search import VenueDatabase
from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.errors import LabError
from labkit.prompts.build import WRITTEN, check_length, prompt_of_turn
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import exchange_at
from labkit.prompts.sequences import IGNORED, Example, tokens_of


@dataclass(frozen=True)
class Preference:
    """Two replies to the last user turn of `context`, both delexicalised."""

    context: Dialogue  # its last turn is the user's, with the belief state that the bot had
    chosen: str
    rejected: str
    why: str = ""  # what was wrong with the rejected one


class PreferenceExample(NamedTuple):
    """Two training sequences with the same prompt. The labels are on the reply alone."""

    chosen: Example
    rejected: Example


def preference_examples(
    preferences: Sequence[Preference],
    codec: TextCodec,
    format: str = "turns",
    max_length: int = 1024,
    *,
    database: VenueDatabase | None = None,
) -> list[PreferenceExample]:
    """The token ids of preferences, in their order: the prompt as a model is asked, and each reply with its newline.

    A prompt that leaves no room for the longer reply in `max_length` loses its oldest turns, the same for both.

    Raises:
        LabError: a context whose last turn is not the user's, two replies that are the same, or as
            `labkit.prompts.prompts`.
    """
    check_length(max_length)
    result = []
    for one in preferences:
        _check(one)
        chosen = _written(one.context, one.chosen, codec, format, database)
        rejected = _written(one.context, one.rejected, codec, format, database)
        longest = max(sum(map(len, chosen)), sum(map(len, rejected)))
        room = max(1, max_length - longest)
        prompt = prompt_of_turn(one.context, codec, format, room, database=database).input_ids
        name = one.context.dialogue_id
        result.append(PreferenceExample(_example(prompt, chosen, name), _example(prompt, rejected, name)))
    return result


def _check(one: Preference) -> None:
    name = one.context.dialogue_id
    if not one.context.turns or one.context.turns[-1].speaker != USER:
        raise LabError(f"the context {name} does not end with a user turn", "", "leave out the reply")
    if one.chosen == one.rejected:
        raise LabError(f"{name} prefers a reply to itself", f"{one.chosen!r:.80}", "give two replies that differ")


class Written(NamedTuple):
    """The tokens after a prompt."""

    before: list[int]  # state, look-up and `bot>`, in formats that have them
    reply: list[int]


def _written(context: Dialogue, reply: str, codec: TextCodec, format: str, database: VenueDatabase | None) -> Written:
    """What stands after the prompt of a context's last turn, if this is the reply."""
    user = context.turns[-1]
    answered = replace(context, turns=[*context.turns, Turn(BOT, reply, user.state)])
    last = len(context.turns) // 2
    exchange = exchange_at(answered, last, format, database=database)
    first = len(exchange) - WRITTEN.get(format, 1)
    return Written(tokens_of(exchange[first:-1], codec), tokens_of(exchange[-1:], codec))


def _example(prompt: list[int], written: Written, name: str) -> Example:
    before = prompt + written.before
    return Example(before + written.reply, [IGNORED] * len(before) + written.reply, name)
