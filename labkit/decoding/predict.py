"""Replies to all turns of dialogues, in the benchmark's format."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from labkit.corpora.types import Dialogue, Predictions, State
from labkit.decoding.batches import _packed
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.models import LanguageModel
from labkit.prompts.build import prompts
from labkit.prompts.text import parse_state, state_text

STATE_TOKENS = 192  # room for a belief state, which is longer than a reply; rows leave at its newline


_Asked = dict[str, list[list[int]]]  # {Dialogue.key: prompts}


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
    """
    from tqdm.auto import tqdm

    config = config or DecodingConfig()
    ask = _asking(lm, config, format, max_length, instruction=instruction, shots=shots, chat=chat)
    asked = {d.key: [p.input_ids for p in ask(d)] for d in dialogues}
    longest_first = sorted(asked.items(), key=lambda pair: -max(map(len, pair[1]), default=0))
    in_turn = format == "state" and own_states  # then a dialogue writes one reply at a time
    answers = partial(_in_turn, lm, {d.key: d for d in dialogues}, ask) if in_turn else partial(_answers, lm)
    done: Predictions = {}
    with tqdm(total=sum(map(len, asked.values())), desc=f"{lm.name} writes replies", unit="reply") as bar:
        for some in _packed(longest_first, lambda pair: 1 if in_turn else len(pair[1]), config.batch_size):
            new = answers(dict(some), config, format == "state", lambda replies: bar.update(len(replies)))
            done |= new
            if on_batch:
                on_batch(new)
    return {key: done[key] for key in asked}


def answer(
    lm: LanguageModel, dialogue: Dialogue, config: DecodingConfig | None = None, state: State | None = None
) -> dict[str, Any]:
    """State and reply to the last user turn of a dialogue, {"response", "state"}; the bot turn after it is not read.

    A `state` that something else has tracked stands where the model would have written its own.
    """
    config = config or DecodingConfig()
    prompt = _asking(lm, config, "state")(dialogue)[-1].input_ids
    if state is None:
        ((reply,),) = _answers(lm, {dialogue.key: [prompt]}, config, True, None).values()
        return reply
    prompt = prompt + lm.codec.encode(f" {state_text(state)}\n") + lm.codec.encode("bot>")
    return {"response": lm.codec.decode(generate(lm, [prompt], config)[0]), "state": state}


def _asking(lm: LanguageModel, config: DecodingConfig, format: str, max_length: int = 1024, **before: Any) -> Callable:
    """`prompts` with as much history as leaves room for what is to be written."""
    needed = config.max_new_tokens + (STATE_TOKENS + 8 if format == "state" else 0)
    room = min(max_length, lm.context_length - needed)
    return partial(prompts, codec=lm.codec, format=format, max_length=room, **before)


def _in_turn(
    lm: LanguageModel, known: dict[str, Dialogue], ask: Callable, asked: _Asked, config: DecodingConfig, *how: Any
) -> Predictions:
    """States and replies of the dialogues in `asked`, a turn of all of them at a time, by what `ask` makes of each."""
    heard = {key: replace(known[key], turns=[]) for key in asked}  # so far, with the states that the model wrote
    done: Predictions = {key: [] for key in asked}
    for turn in range(max(map(len, asked.values()))):
        going = [key for key in asked if turn < len(asked[key])]
        for key in going:
            heard[key].turns += known[key].turns[2 * turn : 2 * turn + 2]
        new = _answers(lm, {key: [ask(heard[key])[-1].input_ids] for key in going}, config, *how, first=turn)
        for key, (answer,) in new.items():
            heard[key].turns[-2] = replace(heard[key].turns[-2], state=answer["state"])
            done[key].append(answer)
    return done


def _answers(
    lm: LanguageModel, asked: _Asked, config: DecodingConfig, state: bool, on_batch: Callable | None, first: int = 0
) -> Predictions:
    """Replies to the prompts of a few dialogues, which begin at the turn `first`."""
    names = [f"{key}/{first + turn}" for key, some in asked.items() for turn in range(len(some))]
    histories = [prompt for some in asked.values() for prompt in some]
    states: list[dict[str, Any]] = [{} for _ in histories]
    if state:
        longer = replace(config, max_new_tokens=STATE_TOKENS)
        written = generate(lm, histories, longer, keys=[f"{name}/state" for name in names])
        states = [{"state": parse_state(lm.codec.decode(ids))} for ids in written]
        ending = lm.codec.encode("\n") + lm.codec.encode("bot>")
        histories = [prompt + ids + ending for prompt, ids in zip(histories, written, strict=True)]
    replies = iter(generate(lm, histories, config, keys=names, on_batch=on_batch))
    said = ({"response": lm.codec.decode(next(replies)), **state} for state in states)
    return {key: [next(said) for _ in some] for key, some in asked.items()}
