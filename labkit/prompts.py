"""Dialogue → text → tokens: one format for history and target, so that every prompt is a prefix of what was trained.

    turns    user> i want a cheap place to eat\\nbot> how about [restaurant_name] ?\\n
    state    the same, with `state> restaurant food=italian; area=centre\\n` before each reply
    dialogs  `turns> 8\\n` and then the whole dialogue, all of it target

Text is tokenised segment by segment and the ids are joined, so no token ever spans the border between a prompt and its
reply: what the model is asked to go on from is token for token what it was trained on.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from labkit.corpora.slots import placeholder
from labkit.corpora.types import BOT, Dialogue, State, Turn
from labkit.errors import LabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMATS = ("turns", "state", "dialogs")
RECIPES = ("dialogues", "turns")
IGNORED = -100  # the label of tokens without a loss (torch.nn.CrossEntropyLoss.ignore_index)


# --- text -------------------------------------------------------------------------------------------------------------


def delexicalise(turn: Turn, domain: str = "") -> str:
    """The utterance with every annotated value replaced by its placeholder, on one line.

    `domain` stands in where an act names none ("Booking-Book"). "dontcare" is a value but no text, and stays out.
    """
    pieces, end = [], 0
    for span in turn.spans:
        if span.start < end or span.value == "dontcare":
            continue
        owner = span.domain if span.domain not in ("booking", "general") else domain
        pieces += [turn.utterance[end : span.start], placeholder(owner, span.slot)]
        end = span.end
    return one_line("".join([*pieces, turn.utterance[end:]]))


def lexicalise(reply: str, entity: dict[str, Any], state: dict[str, str] | None = None) -> str:
    """Fill the placeholders of a reply from a database entity, then from the belief state; for reading only."""
    values = {_slot(key): str(value) for source in (state or {}, entity) for key, value in source.items()}
    return re.sub(r"\[(?:[\w ]*_)?([\w ]+)\]", lambda found: values.get(_slot(found[1]), found[0]), reply)


def _slot(name: str) -> str:
    name = name.lower().replace(" ", "").removeprefix("book")
    return {"reference": "ref", "arrive": "arriveby", "leave": "leaveat"}.get(name, name)


def one_line(text: str) -> str:
    """A turn is one line of the prompt: line breaks and runs of spaces become one space."""
    return " ".join(text.split())


def state_text(state: State) -> str:
    """`restaurant food=italian; area=centre | hotel stars=4`, domains and slots in alphabetical order."""
    domains = ((domain, sorted(slots.items())) for domain, slots in sorted(state.items()) if slots)
    return " | ".join(f"{domain} " + "; ".join(f"{slot}={value}" for slot, value in slots) for domain, slots in domains)


def parse_state(text: str) -> State:
    """The belief state that a model wrote; what does not parse is left out, since a model may write anything."""
    state: State = {}
    for part in text.split("|"):
        domain, _, slots = part.strip().partition(" ")
        pairs = (pair.split("=", 1) for pair in slots.split(";") if "=" in pair)
        values = {slot.strip(): value.strip() for slot, value in pairs if slot.strip() and value.strip()}
        if domain and values:
            state[domain] = values
    return state


# --- segments ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text that is tokenised on its own. The loss is on segments with `target` set."""

    text: str
    target: bool = False


Exchange = list[Segment]  # a user turn and the bot turn that answers it; the reply is the last target segment


def exchanges(dialogue: Dialogue, format: str = "turns", lexical: bool = False) -> list[Exchange]:
    """A dialogue as segments, one list for each user turn with its reply.

    Replies are delexicalised, in history and target, since BLEU, Inform and Success are defined on placeholders; a user
    turn stays as the user said it, since nobody marks its values for a system that runs. `lexical` keeps names and
    numbers in the replies too.

    Raises:
        LabError: unknown format, or two turns in a row by one speaker.
    """
    if format not in FORMATS:
        raise LabError(f"unknown prompt format {format!r}", "", f"choose one of {', '.join(FORMATS)}")
    _check_alternation(dialogue)
    pairs = zip(dialogue.turns[::2], dialogue.turns[1::2], strict=False)
    result = [_exchange(user, bot, format, lexical) for user, bot in pairs]
    if format == "dialogs" and result:
        result[0].insert(0, Segment(dialogue_header(2 * len(result))))
    return result


def dialogue_header(n_turns: int) -> str:
    """The line that asks for a conversation of a wished length (a control code; Keskar et al. 2019, CTRL)."""
    return f"turns> {n_turns}\n"


def _check_alternation(dialogue: Dialogue) -> None:
    for index, turn in enumerate(dialogue.turns):
        if (turn.speaker == BOT) != bool(index % 2):
            place, found = f"dialogue {dialogue.dialogue_id}, turn {index}", f"the {turn.speaker} speaks out of turn"
            raise LabError(place, found, "mend the corpus file")


def _exchange(user: Turn, bot: Turn, format: str, lexical: bool) -> Exchange:
    said = one_line(user.utterance)
    reply = one_line(bot.utterance) if lexical else delexicalise(bot, current_domain(bot.state, user))
    if format == "dialogs":
        return [Segment(text, target=True) for text in ("user>", f" {said}\n", "bot>", f" {reply}\n")]
    if format == "state":
        state = [Segment(f"user> {said}\nstate>"), Segment(f" {state_text(user.state)}\n", True), Segment("bot>")]
        return [*state, Segment(f" {reply}\n", True)]
    return [Segment(f"user> {said}\nbot>"), Segment(f" {reply}\n", True)]


def current_domain(state: State, user: Turn) -> str:
    """The venue domain that a booking act is about: the user's latest, else the one with a booking slot."""
    named = [act.split("-")[0].lower() for act in user.acts if act.split("-")[0].lower() in state]
    booked = [domain for domain, slots in state.items() if any(slot.startswith("book") for slot in slots)]
    return (named or booked[-1:] or list(state)[-1:] or [""])[0]


# --- tokens -----------------------------------------------------------------------------------------------------------


@dataclass
class TextCodec:
    """Segment text ↔ token ids for any tokenizer, with the ids that end a reply."""

    tokenizer: "PreTrainedTokenizerBase"
    _cache: dict[str, list[int]] = field(default_factory=dict, repr=False)

    @cached_property
    def prefix(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord: [bos] for Llama, nothing for GPT-NeoX."""
        plain = self.tokenizer.encode("a", add_special_tokens=False)
        special = self.tokenizer.encode("a")
        return special[: special.index(plain[0])] if plain and plain[0] in special else []

    @cached_property
    def stop_ids(self) -> list[int]:
        """Ids that end a reply: the end token, and every token whose text holds a newline (".\\n" in some)."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return sorted({i for i, text in enumerate(texts) if "\n" in text} | set(self.end))

    @property
    def end(self) -> list[int]:
        """The end token as a list of one, or of none where the tokenizer has no end token."""
        return [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]

    @property
    def pad_id(self) -> int:
        """An id to fill up batches with; masked everywhere, so any existing id will do and no embedding is added."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else (self.end or [0])[0]

    def encode(self, text: str) -> list[int]:
        """Token ids of one segment, its final newline always a token of its own."""
        if text not in self._cache:
            body = text.removesuffix("\n")
            tail = self._newline if body != text else []
            self._cache[text] = self.tokenizer.encode(body, add_special_tokens=False) + tail
        return self._cache[text]

    @cached_property
    def _newline(self) -> list[int]:
        # sentencepiece puts a space token before a lone newline; only the newline itself belongs to the format
        return self.tokenizer.encode("\n", add_special_tokens=False)[-1:]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a reply, up to its newline and without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.split("\n")[0].strip()


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence. `labels` are IGNORED where there is no loss; both lists have the same length."""

    input_ids: list[int]
    labels: list[int]
    dialogue_id: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model goes on from to answer one user turn."""

    input_ids: list[int]
    dialogue_id: str
    turn: int  # index of the bot turn among the bot turns of its dialogue


def _tokens(exchange: Exchange, codec: TextCodec, train_on_source: bool = False) -> tuple[list[int], list[int]]:
    """(ids, labels) of one exchange."""
    pieces = [(codec.encode(segment.text), segment.target or train_on_source) for segment in exchange]
    ids = [token for piece, _ in pieces for token in piece]
    labels = [token if target else IGNORED for piece, target in pieces for token in piece]
    return ids, labels


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


_Messages = list[dict[str, str]]  # as a chat template takes them


def _messages(dialogue: Dialogue, format: str, lexical: bool) -> _Messages:
    """User and assistant in turn, without the lab's own `user>` and `bot>`."""
    if format != "turns":
        raise LabError("a chat template is for replies", f"format={format!r}", "use format='turns', or chat=False")
    texts = [segment.text for exchange in exchanges(dialogue, format, lexical) for segment in exchange]
    said = [text.removeprefix("user> ").removesuffix("\nbot>").strip() for text in texts]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def _chat_prompts(key: str, head: _Messages, said: _Messages, codec: TextCodec, max_length: int) -> list[Prompt]:
    result = []
    for turn in range(len(said) // 2):
        asked = said[: 2 * turn + 1]
        shorter = (_rendered(head + asked[first:], codec) for first in range(0, len(asked), 2))
        fitting = (ids for ids in shorter if len(ids) <= max_length)
        result.append(Prompt(next(fitting, None) or _rendered([*head, asked[-1]], codec), key, turn))
    return result


def _rendered(messages: _Messages, codec: TextCodec) -> list[int]:
    from jinja2 import TemplateError

    try:
        text = codec.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (TemplateError, ValueError) as error:  # the latter where there is none
        action = "choose an instruction-tuned model, leave out what it refuses, or use chat=False"
        raise LabError("no chat template for these messages", str(error).splitlines()[0], action) from error
    return codec.tokenizer.encode(text, add_special_tokens=False)


def _split_reply(exchange: Exchange, codec: TextCodec, format: str) -> tuple[list[int], list[int]]:
    """Tokens up to what the model has to write, and the tokens from there on."""
    cut = len(exchange) - 1 if format != "state" else len(exchange) - 3
    return _tokens(exchange[:cut], codec)[0], _tokens(exchange[cut:], codec)[0]


def _latest(pieces: list[list[int]], room: int) -> list[list[int]]:
    """The longest tail of `pieces` with at most `room` tokens; the last piece is always kept."""
    sizes = accumulate(len(piece) for piece in reversed(pieces))  # of the last one, the last two …
    return pieces[-max(1, sum(size <= room for size in sizes)) :]


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
