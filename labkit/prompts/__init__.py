"""Dialogue → text → tokens: one format for history and target, so that every prompt is a prefix of what was trained.

    turns    user> i want a cheap place to eat\\nbot> how about [restaurant_name] ?\\n
    state    the same, with `state> restaurant food=italian; area=centre\\n` before each reply
    db       the same, with `db> restaurant 3\\n` between the two: so many entities that the state finds
    changes  as state, but only what the turn changed: `state> restaurant area=north\\n`; changes-db with the look-up
    dialogs  `turns> 8\\n` and then the whole dialogue, all of it target

Text is tokenised segment by segment and the ids are joined, so no token ever spans the border between a prompt and its
reply: what the model is asked to go on from is token for token what it was trained on.
"""

from labkit.prompts.build import RECIPES, examples, prompt_of_turn, prompts
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import (
    BOT_MARK,
    DB_MARK,
    FORMATS,
    STATE_MARK,
    USER_MARK,
    Exchange,
    Segment,
    current_domain,
    dialogue_header,
    exchanges,
    spoken,
    spoken_lines,
)
from labkit.prompts.sequences import IGNORED, Example, Prompt
from labkit.prompts.text import delexicalise, lexicalise, one_line, parse_state, state_text

__all__ = [
    "BOT_MARK",
    "DB_MARK",
    "FORMATS",
    "IGNORED",
    "RECIPES",
    "STATE_MARK",
    "USER_MARK",
    "Example",
    "Exchange",
    "Prompt",
    "Segment",
    "TextCodec",
    "current_domain",
    "delexicalise",
    "dialogue_header",
    "examples",
    "exchanges",
    "lexicalise",
    "one_line",
    "parse_state",
    "prompt_of_turn",
    "prompts",
    "spoken",
    "spoken_lines",
    "state_text",
]
