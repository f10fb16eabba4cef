"""Replies to all turns of dialogues, in the benchmark's format."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from labkit.bars import progress_bar
from labkit.corpora.types import Dialogue, Predictions, Reply, State
from labkit.decoding.batches import packed
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate, stream
from labkit.models import LanguageModel
from labkit.prompts.build import check_length, prompt_of_turn, prompts
from labkit.prompts.format import BOT_MARK, state_line
from labkit.prompts.text import parse_state

STATE_TOKENS = 192  # room for a belief state, which is longer than a reply; rows leave at its newline
STATE_ENDING = 8  # room for the tokens of a newline and `bot>` after it, in whatever tokenizer

Progress = Callable[[int], None]  # called with how many replies were written since


@dataclass(frozen=True)
class _Asker:
    """How turns are asked: the settings of a call of `predict`, and the prompts that they make."""

    lm: LanguageModel
    config: DecodingConfig
    format: str = "turns"
    max_length: int = 1024
    instruction: str = ""
    shots: Sequence[Dialogue] = ()
    chat: bool = False

    @property
    def room(self) -> int:
        """Tokens that a prompt may have, so that what is to be written fits in the model too."""
        needed = self.config.max_new_tokens
        if self.format == "state":
            needed += STATE_TOKENS + STATE_ENDING
        return max(1, min(self.max_length, self.lm.context_length - needed))

    def all_turns(self, dialogue: Dialogue) -> list[list[int]]:
        asked = prompts(
            dialogue,
            self.lm.codec,
            self.format,
            self.room,
            instruction=self.instruction,
            shots=self.shots,
            chat=self.chat,
        )
        return [prompt.input_ids for prompt in asked]

    def last_turn(self, dialogue: Dialogue) -> list[int]:
        asked = prompt_of_turn(
            dialogue,
            self.lm.codec,
            self.format,
            self.room,
            instruction=self.instruction,
            shots=self.shots,
            chat=self.chat,
        )
        return asked.input_ids


def predict(
    lm: LanguageModel,
    dialogues: Sequence[Dialogue],
    config: DecodingConfig | None = None,
    *,
    format: str = "turns",
    max_length: int = 1024,
    instruction: str = "",
    shots: Sequence[Dialogue] = (),
    chat: bool = False,
    own_states: bool = True,
    on_batch: Callable[[Predictions], None] | None = None,
) -> Predictions:
    """The model's reply to every user turn, each from its gold history; in the `state` format with the state it wrote.

    There the history holds the states that the model wrote at earlier turns. With `own_states=False` it holds the
    annotated ones: a state is then mostly copied from the one before, and its accuracy says little.
    A history too long for `max_length` or the model loses its oldest turns. `on_batch` gets the predictions of whole
    dialogues as they are done: what an interrupted run can keep. `instruction` and the worked examples `shots` are text
    before the history; they are never cut. `chat` asks in the model's own chat template (see `labkit.prompts.prompts`).

    Raises:
        LabError: as `generate` and `labkit.prompts.prompts`.
    """
    check_length(max_length)
    config = config or DecodingConfig()
    ask = _Asker(lm, config, format, max_length, instruction, shots, chat)
    known = {dialogue.key: dialogue for dialogue in dialogues}
    asked = {key: ask.all_turns(dialogue) for key, dialogue in known.items()}
    longest_first = sorted(asked, key=lambda key: -max(map(len, asked[key]), default=0))
    n_replies = sum(map(len, asked.values()))
    in_turn = format == "state" and own_states  # then a dialogue writes one reply at a time
    done: Predictions = {}
    with progress_bar(total=n_replies, desc=f"{lm.name} writes replies", unit="reply") as bar:
        for keys in packed(longest_first, lambda key: 1 if in_turn else len(asked[key]), config.batch_size):
            if in_turn:
                new = _answers_in_turn(ask, [known[key] for key in keys], bar.update)
            else:
                new = _answers(ask, {key: asked[key] for key in keys}, bar.update)
            done.update(new)
            if on_batch:
                on_batch(new)
    return {key: done[key] for key in asked}


def answer(
    lm: LanguageModel, dialogue: Dialogue, config: DecodingConfig | None = None, state: State | None = None
) -> Reply:
    """State and reply to the last user turn of a dialogue, {"response", "state"}; the bot turn after it is not read.

    A `state` that something else has tracked stands where the model would have written its own.
    """
    config = config or DecodingConfig()
    ask = _Asker(lm, config, "state")
    prompt = ask.last_turn(dialogue)
    if state is None:
        return _answers(ask, {dialogue.key: [prompt]})[dialogue.key][0]
    prompt = prompt + lm.codec.encode(state_line(state)) + lm.codec.encode(BOT_MARK)
    reply = generate(lm, [prompt], config)[0]
    return {"response": lm.codec.decode(reply), "state": state}


@dataclass(frozen=True)
class AnswerSoFar:
    """How far an answer is written."""

    state: State
    response: str | None = None  # None as long as the state is being written


def stream_answer(
    lm: LanguageModel, dialogue: Dialogue, config: DecodingConfig | None = None, state: State | None = None
) -> Iterator[AnswerSoFar]:
    """`answer` as it is written: how far it is after every token. The last one is what `answer` returns.

    Beams come all at once: which of them is the reply shows at the end.
    """
    config = config or DecodingConfig()
    if config.strategy == "beam":
        whole = answer(lm, dialogue, config, state)
        yield AnswerSoFar(whole["state"], whole["response"])
        return
    codec = lm.codec
    prompt = _Asker(lm, config, "state").last_turn(dialogue)
    if state is not None:
        prompt = prompt + codec.encode(state_line(state)) + codec.encode(BOT_MARK)
        yield from _stream_reply(lm, prompt, config, state)
        return
    key = f"{dialogue.key}/0"  # of the random numbers, as in `_answers`
    longer = replace(config, max_new_tokens=STATE_TOKENS)
    written: list[int] = []
    for token in stream(lm, prompt, longer, key=f"{key}/state"):
        if token not in codec.stop_ids:
            written.append(token)
        text = codec.decode(written)
        yield AnswerSoFar(parse_state(text))
    state = parse_state(codec.decode(written))
    prompt = prompt + written + codec.encode("\n") + codec.encode(BOT_MARK)
    yield from _stream_reply(lm, prompt, config, state, key=key)


def _stream_reply(
    lm: LanguageModel, prompt: list[int], config: DecodingConfig, state: State, *, key: str | None = None
) -> Iterator[AnswerSoFar]:
    """The reply after a state, as it is written."""
    yield AnswerSoFar(state, "")
    written: list[int] = []
    for token in stream(lm, prompt, config, key=key):
        if token not in lm.codec.stop_ids:
            written.append(token)
        text = lm.codec.decode(written)
        yield AnswerSoFar(state, text)


def _answers_in_turn(ask: _Asker, dialogues: Sequence[Dialogue], progress: Progress) -> Predictions:
    """States and replies of some dialogues, a turn of all of them at a time: the next turn reads the written states."""
    heard = {dialogue.key: replace(dialogue, turns=[]) for dialogue in dialogues}  # so far, with the model's states
    done: Predictions = {dialogue.key: [] for dialogue in dialogues}
    longest = max(len(dialogue.turns) // 2 for dialogue in dialogues)
    for turn in range(longest):
        asked = {}
        for dialogue in dialogues:
            pair = dialogue.turns[2 * turn : 2 * turn + 2]
            if len(pair) == 2:
                heard[dialogue.key].turns.extend(pair)
                asked[dialogue.key] = [ask.last_turn(heard[dialogue.key])]
        for key, (reply,) in _answers(ask, asked, progress, first=turn).items():
            user = heard[key].turns[-2]
            heard[key].turns[-2] = replace(user, state=reply["state"])
            done[key].append(reply)
    return done


def _answers(
    ask: _Asker, asked: dict[str, list[list[int]]], progress: Progress | None = None, first: int = 0
) -> Predictions:
    """Replies to the prompts of a few dialogues, {key: prompts}, which begin at the turn `first`."""
    names = []
    histories = []
    for key, some in asked.items():
        for turn, prompt in enumerate(some, start=first):
            names.append(f"{key}/{turn}")
            histories.append(prompt)
    states: list[State] = []
    if ask.format == "state":
        states, histories = _write_states(ask, histories, names)

    def count(replies: dict[int, list[int]]) -> None:
        if progress:
            progress(len(replies))

    written = generate(ask.lm, histories, ask.config, keys=names, on_batch=count)
    replies: list[Reply] = [{"response": ask.lm.codec.decode(ids)} for ids in written]
    for reply, state in zip(replies, states, strict=False):
        reply["state"] = state
    in_order = iter(replies)
    return {key: [next(in_order) for _ in some] for key, some in asked.items()}


def _write_states(ask: _Asker, histories: list[list[int]], names: list[str]) -> tuple[list[State], list[list[int]]]:
    """The belief states that the model writes, and the prompts with them, which the replies go on from."""
    codec = ask.lm.codec
    longer = replace(ask.config, max_new_tokens=STATE_TOKENS)
    written = generate(ask.lm, histories, longer, keys=[f"{name}/state" for name in names])
    states = [parse_state(codec.decode(ids)) for ids in written]
    ending = codec.encode("\n") + codec.encode(BOT_MARK)
    prompts = [prompt + ids + ending for prompt, ids in zip(histories, written, strict=True)]
    return states, prompts
