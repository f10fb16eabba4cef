"""An answer as it is written, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labkit.corpora.search import Database, VenueDatabase
from labkit.corpora.types import Dialogue, State
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import stream
from labkit.decoding.grammar import StateGrammar
from labkit.decoding.predict import STATE_TOKENS, Asker, answer, whole_state
from labkit.models import LanguageModel
from labkit.prompts.format import read_state, searched_in, state_before


@dataclass(frozen=True)
class AnswerSoFar:
    """How far an answer is written."""

    state: State
    response: str | None = None  # None as long as the state is being written


def stream_answer(
    lm: LanguageModel,
    dialogue: Dialogue,
    config: DecodingConfig | None = None,
    state: State | None = None,
    *,
    format: str = "state",
    database: Database | VenueDatabase | None = None,
    grammar: StateGrammar | None = None,
) -> Iterator[AnswerSoFar]:
    """`answer` as it is written: how far it is after every token. The last one is what `answer` returns.

    Beams come all at once: which of them is the reply shows at the end.
    """
    config = config or DecodingConfig()
    if config.strategy == "beam":
        whole = answer(lm, dialogue, config, state, format=format, database=database, grammar=grammar)
        yield AnswerSoFar(whole["state"], whole["response"])
        return
    codec = lm.codec
    ask = Asker(lm, config, format, database=searched_in(format, database), grammar=grammar)
    question = ask.last_turn(dialogue)
    if state is not None:
        yield from _stream_reply(ask, ask.with_state(question, state), state)
        return
    before = state_before(dialogue, question.turn)
    longer = replace(config, max_new_tokens=STATE_TOKENS)
    written: list[int] = []
    held = ask.held_to_grammar([question])
    for token in stream(lm, question.prompt, longer, key=f"{question.name}/state", **held):
        if token not in codec.stop_ids:
            written.append(token)
        text = codec.decode(written)
        yield AnswerSoFar(read_state(format, text, before))
    if grammar:
        written = whole_state(written, codec)
    state = read_state(format, codec.decode(written), before)
    prompt = question.prompt + written + codec.encode("\n") + ask.after_state(state)
    yield from _stream_reply(ask, prompt, state, key=question.name)


def _stream_reply(ask: Asker, prompt: list[int], state: State, *, key: str | None = None) -> Iterator[AnswerSoFar]:
    """The reply after a state, as it is written."""
    yield AnswerSoFar(state, "")
    codec = ask.lm.codec
    written: list[int] = []
    for token in stream(ask.lm, prompt, ask.config, key=key):
        if token not in codec.stop_ids:
            written.append(token)
        text = codec.decode(written)
        yield AnswerSoFar(state, text)
