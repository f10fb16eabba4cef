"""Prompts and training examples: token for token the same beginning."""

from collections.abc import Sequence

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.prompts.chat import _chat_prompts, _messages, _split_reply
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import exchanges
from labkit.prompts.sequences import IGNORED, Example, Prompt, _latest, _tokens
from labkit.prompts.text import one_line

RECIPES = ("dialogues", "turns")


def prompts(
    dialogue: Dialogue,
    codec: TextCodec,
    format: str = "turns",
    max_length: int = 1024,
    instruction: str = "",
    lexical: bool = False,
    shots: Sequence[Dialogue] = (),
    chat: bool = False,
) -> list[Prompt]:
    """The prompt of every bot turn in at most `max_length` tokens: the oldest whole turns go, the last user turn stays.

    In the `state` format a prompt ends in `state>`; when the state is written, append `codec.encode("bot>")` and go on.
    Before the history come `instruction` (one line of text) and `shots`, whole dialogues as worked examples (Brown et
    al. 2020); neither is truncated. `chat` puts all of it into the tokenizer's chat template, which is how an
    instruction-tuned model was taught to be asked; the instruction is then the system's message.

    Raises:
        LabError: `chat` and a tokenizer without a template, one whose template refuses, or another format than turns.
    """
    if chat:
        head = [{"role": "system", "content": one_line(instruction)}] if instruction else []
        head += [message for shot in shots for message in _messages(shot, format, lexical)]
        return _chat_prompts(dialogue.dialogue_id, head, _messages(dialogue, format, lexical), codec, max_length)
    head = codec.prefix + (codec.encode(one_line(instruction) + "\n") if instruction else [])
    for shot in shots:
        head += [token for exchange in exchanges(shot, format, lexical) for token in _tokens(exchange, codec)[0]]
    history: list[list[int]] = []  # one entry an exchange: what stays begins with `user>`, as every window in training
    result = []
    for turn, exchange in enumerate(exchanges(dialogue, format, lexical)):
        opening, reply = _split_reply(exchange, codec, format)
        kept = _latest([*history, opening], max_length - len(head))
        result.append(Prompt(head + [token for piece in kept for token in piece], dialogue.dialogue_id, turn))
        history.append(opening + reply)
    return result


def examples(
    dialogue: Dialogue,
    codec: TextCodec,
    format: str = "turns",
    recipe: str = "dialogues",
    max_length: int = 1024,
    lexical: bool = False,
    train_on_source: bool = False,
) -> list[Example]:
    """Training sequences of a dialogue, the end token after its last turn.

    recipe="dialogues": one pass over the dialogue with the loss on all its replies; a dialogue longer than `max_length`
    becomes overlapping windows of whole exchanges, and each reply has its loss in exactly one of them.
    recipe="turns": one sequence a reply, the history before it without a loss.
    """
    if recipe not in RECIPES:
        raise LabError(f"unknown recipe {recipe!r}", "", f"choose one of {', '.join(RECIPES)}")
    pieces = [_tokens(exchange, codec, train_on_source) for exchange in exchanges(dialogue, format, lexical)]
    if not pieces:
        return []
    pieces[-1] = (pieces[-1][0] + codec.end, pieces[-1][1] + codec.end)
    room = max_length - len(codec.prefix)
    windows = _windows([len(ids) for ids, _ in pieces], room, step=1 if recipe == "turns" else None)
    return [_example(pieces, window, codec, dialogue.dialogue_id, room) for window in windows]


def _windows(lengths: list[int], room: int, step: int | None = None) -> list[tuple[int, int, int]]:
    """(first, first with a loss, end) of each window; at most half the room is history that was trained before."""
    windows, trained = [], 0
    while trained < len(lengths):
        first, end = trained, trained + 1
        history = room - lengths[trained] if step else min(room // 2, room - lengths[trained])
        if sum(lengths) <= room:
            history = room
        while first and sum(lengths[first - 1 : trained]) <= history:
            first -= 1
        while end < len(lengths) and end - trained != step and sum(lengths[first : end + 1]) <= room:
            end += 1
        windows.append((first, trained, end))
        trained = end
    return windows


def _example(
    pieces: list[tuple[list[int], list[int]]],
    window: tuple[int, int, int],
    codec: TextCodec,
    dialogue_id: str,
    room: int,
) -> Example:
    first, trained, end = window
    ids = [token for piece, _ in pieces[first:end] for token in piece]
    labels = [IGNORED] * sum(len(piece) for piece, _ in pieces[first:trained])
    labels += [label for _, piece in pieces[trained:end] for label in piece]
    # a single exchange longer than the room loses its beginning: the reply and its end are what is learnt
    ids, labels = ids[-room:], labels[-room:]
    return Example(codec.prefix + ids, [IGNORED] * len(codec.prefix) + labels, dialogue_id)
