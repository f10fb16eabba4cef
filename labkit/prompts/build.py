"""Prompts and training examples: token for token the same beginning."""

from collections.abc import Sequence
from typing import NamedTuple

from labkit.corpora.search import VenueDatabase
from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.prompts.chat import chat_prompt, messages
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import Exchange, check_alternation, check_format, exchange_at, exchanges
from labkit.prompts.sequences import IGNORED, Example, Piece, Prompt, tokenised, tokens_of
from labkit.prompts.text import one_line

RECIPES = ("dialogues", "turns")
# segments that the model has to write and what stands between them: state, (db line,) `bot>` and reply, or the reply
WRITTEN = {"state": 3, "changes": 3, "db": 4, "changes-db": 4}


def prompts(
    dialogue: Dialogue,
    codec: TextCodec,
    format: str = "turns",
    max_length: int = 1024,
    *,
    instruction: str = "",
    lexical: bool = False,
    shots: Sequence[Dialogue] = (),
    chat: bool = False,
    database: VenueDatabase | None = None,
) -> list[Prompt]:
    """The prompt of every bot turn in at most `max_length` tokens: the oldest whole turns go, the last user turn stays.

    In formats with a state a prompt ends in `state>`. When the state is written, append a newline, in `db` and
    `changes-db` the line `labkit.prompts.format.database_line`, and `codec.encode("bot>")`, and go on.
    Before the history come `instruction` (one line of text) and `shots`, whole dialogues as worked examples (Brown et
    al. 2020); neither is truncated. `chat` puts all of it into the tokenizer's chat template, which is how an
    instruction-tuned model was taught to be asked; the instruction is then the system's message.

    Raises:
        LabError: `chat` and a tokenizer without a template, one whose template refuses, or another format than turns;
            a `max_length` below 1; the `db` format without a `database`.
    """
    check_length(max_length)
    if chat:
        head = _chat_head(instruction, shots, format, lexical)
        said = messages(dialogue, format, lexical)
        n_turns = len(said) // 2
        ids = [chat_prompt(head, said[: 2 * turn + 1], codec, max_length) for turn in range(n_turns)]
    else:
        before = _head(codec, instruction, [exchanges(shot, format, lexical, database=database) for shot in shots])
        pieces = exchanges(dialogue, format, lexical, database=database)
        ids = _plain_prompts(pieces, codec, format, before, max_length)
    return [Prompt(tokens, dialogue.dialogue_id, turn) for turn, tokens in enumerate(ids)]


def prompt_of_turn(
    dialogue: Dialogue,
    codec: TextCodec,
    format: str = "turns",
    max_length: int = 1024,
    *,
    turn: int = -1,
    instruction: str = "",
    lexical: bool = False,
    shots: Sequence[Dialogue] = (),
    chat: bool = False,
    database: VenueDatabase | None = None,
) -> Prompt:
    """The prompt of one bot turn, as `prompts` gives it, without those of the others.

    `turn` counts user turns; -1 is the last one, which nobody need have answered yet.

    Raises:
        LabError: as `prompts`, and where the dialogue has no such turn.
    """
    check_length(max_length)
    check_format(format, database)
    check_alternation(dialogue)
    n_asked = (len(dialogue.turns) + 1) // 2
    if not -n_asked <= turn < n_asked:
        found = f"turn {turn} of {n_asked}"
        raise LabError(f"dialogue {dialogue.dialogue_id} has no such user turn", found, "choose another turn")
    turn %= n_asked
    if chat:
        head = _chat_head(instruction, shots, format, lexical)
        said = messages(dialogue, format, lexical)[: 2 * turn + 1]
        return Prompt(chat_prompt(head, said, codec, max_length), dialogue.dialogue_id, turn)
    before = _head(codec, instruction, [exchanges(shot, format, lexical, database=database) for shot in shots])
    opening, _ = _split_reply(exchange_at(dialogue, turn, format, lexical, database), codec, format)
    history: list[list[int]] = []  # latest first, and no more than fits
    room = max_length - len(before) - len(opening)
    for earlier in reversed(range(turn)):
        tokens = tokens_of(exchange_at(dialogue, earlier, format, lexical, database), codec)
        room -= len(tokens)
        if room < 0:
            break
        history.append(tokens)
    return Prompt(_joined([before, *reversed(history), opening]), dialogue.dialogue_id, turn)


def check_length(max_length: int) -> None:
    """Raises LabError where nothing would fit."""
    if max_length < 1:
        raise LabError("a prompt has at least one token", f"max_length={max_length}", "choose 1 or more")


def _plain_prompts(
    pieces: Sequence[Exchange], codec: TextCodec, format: str, head: list[int], max_length: int
) -> list[list[int]]:
    """Token ids of every prompt: `head`, as much of the history as fits, and the user's turn."""
    history: list[list[int]] = []  # one entry an exchange: what stays begins with `user>`, as every window in training
    result = []
    for exchange in pieces:
        opening, reply = _split_reply(exchange, codec, format)
        kept = _latest([*history, opening], max_length - len(head))
        result.append(_joined([head, *kept]))
        history.append(opening + reply)
    return result


def _head(codec: TextCodec, instruction: str, shots: Sequence[Sequence[Exchange]]) -> list[int]:
    """What stands before every history."""
    pieces = [codec.prefix]
    if instruction:
        pieces.append(codec.encode(one_line(instruction) + "\n"))
    for shot in shots:
        for exchange in shot:
            pieces.append(tokens_of(exchange, codec))
    return _joined(pieces)


def _chat_head(instruction: str, shots: Sequence[Dialogue], format: str, lexical: bool) -> list[dict[str, str]]:
    """The same as messages."""
    head = []
    if instruction:
        head.append({"role": "system", "content": one_line(instruction)})
    for shot in shots:
        head.extend(messages(shot, format, lexical, answered=True))
    return head


def _split_reply(exchange: Exchange, codec: TextCodec, format: str) -> tuple[list[int], list[int]]:
    """Tokens up to what the model has to write, and the tokens from there on."""
    cut = len(exchange) - WRITTEN.get(format, 1)
    return tokens_of(exchange[:cut], codec), tokens_of(exchange[cut:], codec)


def _latest(pieces: list[list[int]], room: int) -> list[list[int]]:
    """The longest tail of `pieces` with at most `room` tokens; the last piece is always kept."""
    first = len(pieces) - 1
    size = len(pieces[first])
    while first > 0 and size + len(pieces[first - 1]) <= room:
        first -= 1
        size += len(pieces[first])
    return pieces[first:]


def _joined(pieces: Sequence[list[int]]) -> list[int]:
    ids: list[int] = []
    for piece in pieces:
        ids.extend(piece)
    return ids


def examples(
    dialogue: Dialogue,
    codec: TextCodec,
    format: str = "turns",
    recipe: str = "dialogues",
    max_length: int = 1024,
    *,
    lexical: bool = False,
    train_on_source: bool = False,
    database: VenueDatabase | None = None,
) -> list[Example]:
    """Training sequences of a dialogue, the end token after its last turn.

    recipe="dialogues": one pass over the dialogue with the loss on all its replies; a dialogue longer than `max_length`
    becomes overlapping windows of whole exchanges, and each reply has its loss in exactly one of them.
    recipe="turns": one sequence a reply, the history before it without a loss.

    Raises:
        LabError: an unknown recipe or format, a `max_length` below 1, the `db` format without a `database`.
    """
    check_length(max_length)
    if recipe not in RECIPES:
        raise LabError(f"unknown recipe {recipe!r}", "", f"choose one of {', '.join(RECIPES)}")
    whole = exchanges(dialogue, format, lexical, database=database)
    pieces = [tokenised(exchange, codec, train_on_source) for exchange in whole]
    if not pieces:
        return []
    pieces[-1].ids.extend(codec.end)
    pieces[-1].labels.extend(codec.end)
    room = max_length - len(codec.prefix)
    windows = _windows([len(piece.ids) for piece in pieces], room, one_by_one=recipe == "turns")
    return [_example(pieces, window, codec, dialogue.dialogue_id, room) for window in windows]


class Window(NamedTuple):
    """Exchanges `first` up to, not including, `end`; those before `trained` are history without a loss."""

    first: int
    trained: int
    end: int


def _windows(lengths: list[int], room: int, one_by_one: bool) -> list[Window]:
    """Windows of at most `room` tokens; at most half the room is history that was trained before."""
    everything_fits = sum(lengths) <= room
    windows = []
    trained = 0
    while trained < len(lengths):
        history = room - lengths[trained]  # tokens that history may take
        if everything_fits:
            history = room
        elif not one_by_one:
            history = min(room // 2, history)
        first = _first_that_fits(lengths, trained, history)
        end = trained + 1
        if not one_by_one:
            while end < len(lengths) and sum(lengths[first : end + 1]) <= room:
                end += 1
        windows.append(Window(first, trained, end))
        trained = end
    return windows


def _first_that_fits(lengths: list[int], end: int, room: int) -> int:
    """Where the longest run of pieces before `end` with at most `room` tokens begins."""
    first = end
    while first > 0 and sum(lengths[first - 1 : end]) <= room:
        first -= 1
    return first


def _example(pieces: Sequence[Piece], window: Window, codec: TextCodec, dialogue_id: str, room: int) -> Example:
    ids: list[int] = []
    labels: list[int] = []
    for index in range(window.first, window.end):
        piece = pieces[index]
        ids.extend(piece.ids)
        labels.extend(piece.labels if index >= window.trained else [IGNORED] * len(piece.ids))
    # a single exchange longer than the room loses its beginning: the reply and its end are what is learnt
    ids = ids[-room:]
    labels = labels[-room:]
    no_loss = [IGNORED] * len(codec.prefix)
    return Example(codec.prefix + ids, no_loss + labels, dialogue_id)
