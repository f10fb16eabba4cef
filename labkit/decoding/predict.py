"""Replies to all turns of dialogues, in the benchmark's format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from labkit.bars import progress_bar
from labkit.corpora.search import Database, VenueDatabase
from labkit.corpora.types import Dialogue, Predictions, Reply, State
from labkit.decoding.batches import batches_of
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate
from labkit.decoding.grammar import StateGrammar
from labkit.decoding.kept import KeptCaches
from labkit.decoding.rows import Kept, OwnFilter
from labkit.models import LanguageModel
from labkit.models.packed import packed_weights
from labkit.prompts.build import check_length, prompt_of_turn, prompts
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import (
    BOT_MARK,
    CHANGING,
    LOOKING_UP,
    STATEFUL,
    database_line,
    read_state,
    searched_in,
    state_before,
    state_line,
)
from labkit.prompts.state_values import Heard

STATE_TOKENS = 192  # room for a belief state, which is longer than a reply; rows leave at its newline
STATE_ENDING = 8  # room for the tokens of a newline and `bot>` after it, in whatever tokenizer
DATABASE_TOKENS = 64  # room for the line `db> hotel 2 | restaurant 3`

Progress = Callable[[int], None]  # called with how many replies were written since


@dataclass(frozen=True)
class Question:
    """A user turn that is to be answered."""

    dialogue: Dialogue
    turn: int  # index of the user turn among those of its dialogue
    prompt: list[int]

    @property
    def name(self) -> str:
        return f"{self.dialogue.key}/{self.turn}"


@dataclass(frozen=True)
class Asker:
    """How turns are asked: the settings of a call of `predict`, and the prompts that they make."""

    lm: LanguageModel
    config: DecodingConfig
    format: str = "turns"
    max_length: int = 1024
    instruction: str = ""
    shots: Sequence[Dialogue] = ()
    chat: bool = False
    database: VenueDatabase | None = None
    grammar: StateGrammar | None = None
    kept: KeptCaches | None = None  # of the dialogues, where they are answered turn by turn

    @property
    def writes_states(self) -> bool:
        return self.format in STATEFUL

    @property
    def room(self) -> int:
        """Tokens that a prompt may have, so that what is to be written fits in the model too."""
        needed = self.config.max_new_tokens
        if self.writes_states:
            needed += STATE_TOKENS + STATE_ENDING
        if self.format in LOOKING_UP:
            needed += DATABASE_TOKENS
        return max(1, min(self.max_length, self.lm.context_length - needed))

    def all_turns(self, dialogue: Dialogue) -> list[Question]:
        asked = prompts(
            dialogue,
            self.lm.codec,
            self.format,
            self.room,
            instruction=self.instruction,
            shots=self.shots,
            chat=self.chat,
            database=self.database,
        )
        return [Question(dialogue, prompt.turn, prompt.input_ids) for prompt in asked]

    def last_turn(self, dialogue: Dialogue) -> Question:
        asked = prompt_of_turn(
            dialogue,
            self.lm.codec,
            self.format,
            self.room,
            instruction=self.instruction,
            shots=self.shots,
            chat=self.chat,
            database=self.database,
        )
        return Question(dialogue, asked.turn, asked.input_ids)

    def going_on(self, questions: Sequence[Question]) -> dict[str, list[Kept | None]]:
        """What `generate` is given besides, so that it goes on from what is kept of each question's dialogue."""
        if self.kept is None:
            return {}
        return {"kept": self.kept.of([question.dialogue.key for question in questions])}

    def held_to_grammar(self, questions: Sequence[Question]) -> dict[str, list[OwnFilter]]:
        """What `generate` is given besides, so that the states after the questions are ones of the grammar."""
        if self.grammar is None:
            return {}
        heard = [Heard.of(question.dialogue, question.turn) for question in questions]
        return {"filters": [self.grammar.filter(self.lm.codec, heard, changes=self.format in CHANGING)]}

    def after_state(self, state: State) -> list[int]:
        """What stands between a state's line and the reply: `bot>`, and where it is looked up what the state finds."""
        mark = self.lm.codec.encode(BOT_MARK)
        if self.format in LOOKING_UP:
            return self.lm.codec.encode(database_line(state, self.database)) + mark
        return mark

    def with_state(self, question: Question, state: State) -> list[int]:
        """A prompt that ends in `state>`, with the state that something else has tracked."""
        before = state_before(question.dialogue, question.turn)
        line = state_line(self.format, state, before)
        return question.prompt + self.lm.codec.encode(line) + self.after_state(state)


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
    database: Database | VenueDatabase | None = None,
    grammar: StateGrammar | None = None,
    on_batch: Callable[[Predictions], None] | None = None,
) -> Predictions:
    """The model's reply to every user turn, each from its gold history; in formats with a state with the one it wrote.

    There the history holds the states that the model wrote at earlier turns. With `own_states=False` it holds the
    annotated ones: a state is then mostly copied from the one before, and its accuracy says little.
    In `db` and `changes-db` that state is looked up in `database` (`corpus.database`), and the reply reads the result.
    With a `grammar` (`labkit.state_grammar(corpus)`) every state is one that the corpus can have.
    A history too long for `max_length` or the model loses its oldest turns. `on_batch` gets the predictions of whole
    dialogues as they are done: what an interrupted run can keep. `instruction` and the worked examples `shots` are text
    before the history; they are never cut. `chat` asks in the model's own chat template (see `labkit.prompts.prompts`).

    Raises:
        LabError: as `generate` and `labkit.prompts.prompts`; the `db` format without a database.
    """
    check_length(max_length)
    config = config or DecodingConfig()
    venues = searched_in(format, database)
    ask = Asker(lm, config, format, max_length, instruction, shots, chat, venues, grammar)
    known = {dialogue.key: dialogue for dialogue in dialogues}
    asked = {key: ask.all_turns(dialogue) for key, dialogue in known.items()}
    longest = {key: max((len(question.prompt) for question in asked[key]), default=0) for key in asked}
    longest_first = sorted(asked, key=lambda key: -longest[key])
    n_replies = sum(map(len, asked.values()))
    in_turn = ask.writes_states and own_states  # then a dialogue writes one reply at a time
    done: Predictions = {}
    bar = progress_bar(total=n_replies, desc=f"{lm.name} writes replies", unit="reply")
    at_once = len(asked) if in_turn else n_replies
    with bar, packed_weights(lm.base, at_once):
        for keys in batches_of(longest_first, lambda key: 1 if in_turn else len(asked[key]), config.batch_size):
            if in_turn:
                new = _answers_in_turn(ask, [known[key] for key in keys], bar.update)
            else:
                new = _answers(ask, {key: asked[key] for key in keys}, bar.update)
            done.update(new)
            if on_batch:
                on_batch(new)
    return {key: done[key] for key in asked}


def answer(
    lm: LanguageModel,
    dialogue: Dialogue,
    config: DecodingConfig | None = None,
    state: State | None = None,
    *,
    format: str = "state",
    database: Database | VenueDatabase | None = None,
    grammar: StateGrammar | None = None,
) -> Reply:
    """State and reply to the last user turn of a dialogue, {"response", "state"}; the bot turn after it is not read.

    A `state` that something else has tracked stands where the model would have written its own. In `db` and
    `changes-db` either is looked up in `database`. `grammar` as in `predict`.
    """
    config = config or DecodingConfig()
    ask = Asker(lm, config, format, database=searched_in(format, database), grammar=grammar)
    question = ask.last_turn(dialogue)
    if state is None:
        return _answers(ask, {dialogue.key: [question]})[dialogue.key][0]
    reply = generate(lm, [ask.with_state(question, state)], config)[0]
    return {"response": lm.codec.decode(reply), "state": state}


def answer_all(
    lm: LanguageModel,
    dialogues: Sequence[Dialogue],
    config: DecodingConfig,
    *,
    format: str = "turns",
    states: Sequence[State] | None = None,
    max_length: int = 1024,
    database: Database | VenueDatabase | None = None,
    grammar: StateGrammar | None = None,
    kept: KeptCaches | None = None,
) -> list[Reply]:
    """State and reply to the last user turn of each dialogue, all written together; none depends on its neighbours.

    `states` stand where the model would have written its own; None leaves that to it. In the `turns` format the model
    does not see them: they are what the reply is scored with. `database` and `grammar` as in `predict`. `kept` has what
    was read of the dialogues at earlier turns, so that only what is new is read.
    """
    venues = searched_in(format, database)
    ask = Asker(lm, config, format, max_length, database=venues, grammar=grammar, kept=kept)
    questions = [ask.last_turn(dialogue) for dialogue in dialogues]
    prompts = [question.prompt for question in questions]
    if ask.writes_states and states is None:
        states, prompts = _write_states(ask, questions)
    elif ask.writes_states:
        prompts = [ask.with_state(question, state) for question, state in zip(questions, states, strict=True)]
    names = [question.name for question in questions]
    replies: list[Reply] = []
    for number, ids in enumerate(generate(lm, prompts, config, keys=names, **ask.going_on(questions))):
        reply: Reply = {"response": lm.codec.decode(ids)}
        if states is not None:
            reply["state"] = states[number]
        replies.append(reply)
    return replies


def _answers_in_turn(ask: Asker, dialogues: Sequence[Dialogue], progress: Progress) -> Predictions:
    """States and replies of some dialogues, a turn of all of them at a time: the next turn reads the written states."""
    ask = replace(ask, kept=KeptCaches())  # a reply goes on from its state, and a turn from the one before
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
        for key, (reply,) in _answers(ask, asked, progress).items():
            user = heard[key].turns[-2]
            heard[key].turns[-2] = replace(user, state=reply["state"])
            done[key].append(reply)
    return done


def _answers(ask: Asker, asked: dict[str, list[Question]], progress: Progress | None = None) -> Predictions:
    """Replies to questions of a few dialogues, {key: questions}."""
    questions = [question for some in asked.values() for question in some]
    prompts = [question.prompt for question in questions]
    states: list[State] = []
    if ask.writes_states:
        states, prompts = _write_states(ask, questions)

    def count(replies: dict[int, list[int]]) -> None:
        if progress:
            progress(len(replies))

    names = [question.name for question in questions]
    written = generate(ask.lm, prompts, ask.config, keys=names, **ask.going_on(questions), on_batch=count)
    replies: list[Reply] = [{"response": ask.lm.codec.decode(ids)} for ids in written]
    for reply, state in zip(replies, states, strict=False):
        reply["state"] = state
    in_order = iter(replies)
    return {key: [next(in_order) for _ in some] for key, some in asked.items()}


def _write_states(ask: Asker, questions: Sequence[Question]) -> tuple[list[State], list[list[int]]]:
    """The belief states that the model writes, and the prompts with them, which the replies go on from."""
    codec = ask.lm.codec
    longer = replace(ask.config, max_new_tokens=STATE_TOKENS)
    names = [f"{question.name}/state" for question in questions]
    prompts = [question.prompt for question in questions]
    held = ask.held_to_grammar(questions)
    written = generate(ask.lm, prompts, longer, keys=names, **ask.going_on(questions), **held)
    if ask.grammar:
        written = [whole_state(ids, codec) for ids in written]
    states = []
    goes_on = []
    for question, ids in zip(questions, written, strict=True):
        before = state_before(question.dialogue, question.turn)
        state = read_state(ask.format, codec.decode(ids), before)
        states.append(state)
        goes_on.append(question.prompt + ids + codec.encode("\n") + ask.after_state(state))
    return states, goes_on


def whole_state(written: list[int], codec: TextCodec) -> list[int]:
    """A state that was cut off at STATE_TOKENS without its last slot, which may be half a value."""
    if len(written) < STATE_TOKENS:
        return written
    text = codec.decode(written)
    end = max(text.rfind(";"), text.rfind(" |"), 0)
    return codec.encode(f" {text[:end]}")
