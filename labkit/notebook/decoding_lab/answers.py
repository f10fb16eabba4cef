"""The kernel's side of the decoding lab: it answers the front end's questions, one at a time, and draws nothing.

The questions are listed at the top of `lab.mjs`. Nothing here runs in a thread of its own, so an answer is what any
front end redraws, also one that does not hear of a thread (googlecolab/colabtools issue 3373).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.corpora.types import Corpus, Dialogue, Predictions
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import next_token_logits
from labkit.decoding.grammar import check_grammar
from labkit.errors import LabError
from labkit.metrics import evaluate, gold_predictions
from labkit.notebook.decoding_lab.state_lines import StateLine, StateLines
from labkit.notebook.decoding_lab.tables import next_token_chart, room_for_prompt
from labkit.notebook.view import Database, highlighted, lexical_view
from labkit.prompts.build import prompts
from labkit.prompts.format import STATEFUL, exchanges, searched_in
from labkit.prompts.sequences import Prompt
from labkit.shown import Shown

if TYPE_CHECKING:
    from labkit.models import LanguageModel

Content = dict[str, Any]  # a question or an answer as JSON: both sides have agreed on its values
Answer = tuple[Content, list[bytes]]  # an answer and its numbers, if it has any
NAMED = 64  # likeliest tokens whose text comes with their logits
TURNS_SHOWN = 8  # of the dialogue, before the reply
ALLOWED_NAMED = 12  # likeliest of the tokens that a grammar allows, whose text comes too
REMEMBERED = 64  # positions whose logits are kept


@dataclass(frozen=True)
class Place:
    """What is written where: a reply or a belief state, after which user turn, and what stands before the history."""

    dialogue: int = 0
    turn: int = 0
    instruction: str = ""
    shots: int = 0  # worked examples
    format: str = "turns"  # of labkit.prompts.format.FORMATS; in one with a state, it is the state that is written

    @property
    def dialogue_only(self) -> "Place":
        """The same place at the first turn."""
        return replace(self, turn=0)

    def asked(self) -> Content:
        """The place as a question has it; one about a plain reply does not name the format."""
        question = asdict(self)
        if self.format == "turns":
            del question["format"]
        return question

    @classmethod
    def of(cls, question: Content) -> "Place":
        """The place that a question is about."""
        return cls(
            dialogue=int(question["dialogue"]),
            turn=int(question["turn"]),
            instruction=str(question["instruction"]),
            shots=int(question["shots"]),
            format=str(question.get("format", "turns")),
        )


class Answers:
    """Dialogues, a model, and the answers to what the decoding lab asks of them.

    Args:
        turn: the user turn to begin with.
        config: the settings to begin with.
        examples: whole dialogues that can be put before the history.
        database: for reading a reply with names and numbers; the corpus's by default.
        corpus: for Inform and Success of the dialogue with a reply that was written here, and for grammars.
        format: the prompt format to begin with. In one with a state the lab writes the state, not the reply.
        grammar: what a state is held to at first, one of `labkit.decoding.grammar.GRAMMARS`.

    Raises:
        LabError: no dialogue, an unknown format or grammar, or a format that looks things up without a database.
    """

    def __init__(
        self,
        lm: "LanguageModel",
        dialogues: Dialogue | Sequence[Dialogue],
        *,
        turn: int = 0,
        config: DecodingConfig | None = None,
        examples: Sequence[Dialogue] = (),
        database: Database | None = None,
        corpus: Corpus | None = None,
        format: str = "turns",
        grammar: str = "none",
    ):
        check_grammar(grammar)
        self.lm = lm
        self.dialogues = [dialogues] if isinstance(dialogues, Dialogue) else list(dialogues)
        self.examples = list(examples)
        self.corpus = corpus
        self.database = database or (corpus.database if corpus else {})
        self.config = config or DecodingConfig(strategy="sample", max_new_tokens=40)
        self.grammar = grammar
        self.chosen = self.config  # what "Use these settings" handed over …
        self.chosen_grammar = grammar  # … and the grammar's name with it
        self.state_lines = StateLines(lm.codec, corpus)
        is_stateful = format in STATEFUL
        of_reply = "turns" if is_stateful else format
        of_state = format if is_stateful else "state"
        self.formats = [of_reply, of_state]
        self._logits: dict[tuple[int, ...], np.ndarray] = {}
        self._prompts: dict[Place, list[Prompt]] = {}
        self._go(Place(turn=turn, format=format))

    # --- where we are -------------------------------------------------------------------------------------------------

    @property
    def dialogue(self) -> Dialogue:
        """The dialogue that the lab shows."""
        return self.dialogues[self.place.dialogue]

    @property
    def turn(self) -> int:
        """The user turn that the bot answers, from 0."""
        return self.place.turn

    @property
    def prompts(self) -> list[Prompt]:
        """The prompt of every turn of the dialogue."""
        return self.prompts_at(self.place)

    def _go(self, place: Place) -> None:
        """To another place; a turn after the last one is the last."""
        if not 0 <= place.dialogue < len(self.dialogues):
            number = place.dialogue + 1
            found = f"there are {len(self.dialogues)}, and number {number} was asked for"
            raise LabError("no such dialogue", found, "choose one of these")
        asked = self.prompts_at(place)
        if not asked:
            name = self.dialogues[place.dialogue].dialogue_id
            raise LabError(f"dialogue {name} has no bot turn", "", "choose another dialogue")
        turn = max(0, min(place.turn, len(asked) - 1))
        self.place = replace(place, turn=turn)

    def prompts_at(self, place: Place) -> list[Prompt]:
        """The prompt of every turn of the dialogue at `place`, with what stands before its history there."""
        key = place.dialogue_only
        if key not in self._prompts:
            self._prompts[key] = prompts(
                self.dialogues[place.dialogue],
                self.lm.codec,
                place.format,
                room_for_prompt(self.lm),
                instruction=place.instruction,
                shots=self.examples[: place.shots],
                database=searched_in(place.format, self.database),
            )
        return self._prompts[key]

    def prompt_at(self, place: Place) -> list[int]:
        """The ids [T] that the model has read before its reply at `place`."""
        return self.prompts_at(place)[place.turn].input_ids

    def logits(self, place: Place, reply: Sequence[int] = ()) -> np.ndarray:
        """Logits [V] of the token after `reply`, float32; the model runs once for a position.

        Raises:
            LabError: a prompt too long for the model, or logits that are no numbers.
        """
        ids = (*self.prompt_at(place), *reply)
        if ids in self._logits:
            return self._logits[ids]
        logits = next_token_logits(self.lm, ids)  # [V]
        if np.isnan(logits).any():
            raise LabError(f"{self.lm.name} predicts no numbers here", "NaN among its logits", "load it in float32")
        while len(self._logits) >= REMEMBERED:
            del self._logits[next(iter(self._logits))]
        self._logits[ids] = logits
        return logits

    # --- questions and answers ----------------------------------------------------------------------------------------

    def answer(self, question: Content) -> Answer:
        """What the front end asked for; what goes wrong is an answer too, since a front end drops what is raised."""
        known: dict[str, Callable[[Content], Answer]] = {
            "place": self._answer_place,
            "logits": self._answer_logits,
            "draws": self._answer_draws,
            "score": self._answer_score,
            "vocabulary": self._answer_vocabulary,
            "use": self._answer_use,
        }
        asked = question.get("ask")
        if asked not in known:
            return {"error": f"unknown question {asked!r}"}, []
        try:
            return known[asked](question)
        except LabError as error:
            return {"error": str(error)}, []
        except Exception as error:
            return {"error": repr(error)}, []

    def _answer_place(self, question: Content) -> Answer:
        self._go(Place.of(question))
        return self.described(), []

    def described(self) -> Content:
        """What is to be seen of the present place."""
        last = 2 * self.turn + 1  # turns up to and with the user turn that is answered
        replies = exchanges(self.dialogue)  # delexicalised, as the model reads them
        said = []
        for index, turn in enumerate(self.dialogue.turns[:last]):
            is_bot = index % 2 == 1
            text = turn.utterance
            if is_bot:
                *_, reply = replies[index // 2]
                text = reply.text.strip()
            said.append([turn.speaker, text])
        return {
            "name": self.dialogue.dialogue_id,
            "turn": self.turn,
            "turns": len(self.prompts),
            "prompt": self.prompt_at(self.place),
            "said": said[-TURNS_SHOWN:],
            "grammars": self.state_lines.names(self.place.format),
            "noGrammar": self.state_lines.why_none(self.place.format),
        }

    def _answer_logits(self, question: Content) -> Answer:
        place = Place.of(question)
        reply = [int(token) for token in question["reply"]]
        logits = self.logits(place, reply)  # [V]
        named = [*np.argsort(-logits)[:NAMED].tolist(), *reply]
        answer: Content = {}
        if place.format in STATEFUL:
            answer["allowed"] = self.allowed(place, reply, len(logits))
            for tokens in answer["allowed"].values():
                named += likeliest(logits, tokens, ALLOWED_NAMED)
        answer["texts"] = self.texts(named)
        return answer, [logits.tobytes()]

    def allowed(self, place: Place, reply: Sequence[int], n_tokens: int) -> dict[str, list[int]]:
        """{grammar: the tokens that it allows after `reply`, of `n_tokens`}; {} where a plain reply is written."""
        return self.state_lines.allowed(self.state_line(place), reply, n_tokens)

    def state_line(self, place: Place) -> StateLine:
        """The state that is written at `place`."""
        return StateLine(self.dialogues[place.dialogue], place.turn, place.format)

    def texts(self, ids: Sequence[int]) -> dict[str, str]:
        """{id: text}; JSON has no numbers as keys."""
        decode = self.lm.tokenizer.decode
        return {str(token): decode([token]) for token in ids}

    def _answer_draws(self, question: Content) -> Answer:
        seed = int(question["seed"])
        n = int(question["n"])
        numbers = self.draws(Place.of(question), seed, n)
        return {}, [np.array(numbers, dtype=np.float64).tobytes()]

    def draws(self, place: Place, seed: int, n: int) -> list[float]:
        """The random numbers with which `labkit.generate` draws the tokens of one reply, in [0, 1)."""
        prompt = self.prompt_at(place)
        source = random.Random(f"{seed}/{prompt}/0")
        return [source.random() for _ in range(n)]

    def _answer_vocabulary(self, question: Content) -> Answer:
        tokenizer = self.lm.tokenizer
        ids = range(len(tokenizer))
        texts = tokenizer.batch_decode([[token] for token in ids])
        return {"texts": texts}, []

    def _answer_use(self, question: Content) -> Answer:
        grammar = str(question.get("grammar", "none"))
        check_grammar(grammar)
        self.chosen = DecodingConfig(**question["config"])
        self.chosen_grammar = grammar
        return {}, []

    def _answer_score(self, question: Content) -> Answer:
        place = Place.of(question)
        ids = [int(token) for token in question["reply"]]
        text = self.lm.codec.decode(ids)
        dialogue = self.dialogues[place.dialogue]
        if place.format in STATEFUL:
            return {"text": text, "state": self.state_lines.verdict(self.state_line(place), text)}, []
        lexical = lexical_view(text, dialogue, place.turn, self.database) if self.database else text
        score = self.scored(dialogue, place.turn, text)
        return {"text": text, "lexical": lexical, **score}, []

    def scored(self, dialogue: Dialogue, turn: int, reply: str) -> Content:
        """Inform and Success of the dialogue with `reply` at a turn and the corpus's replies elsewhere.

        {"inform", "success", "gold": {"inform", "success"} of the corpus's own reply}; {} without a goal.
        """
        if self.corpus is None or dialogue.key not in self.corpus.goals:
            return {}
        replies = gold_predictions([dialogue])
        gold = self._passed(dialogue, replies)
        replies[dialogue.key][turn] = {"response": reply}
        return {**self._passed(dialogue, replies), "gold": gold}

    def _passed(self, dialogue: Dialogue, predictions: Predictions) -> Content:
        split = self._split_of(dialogue)
        scores = evaluate(predictions, self.corpus, split, allow_lexical=True)
        explanation = scores.explain(dialogue.key)
        return {"inform": bool(explanation.inform), "success": bool(explanation.success)}

    def _split_of(self, dialogue: Dialogue) -> str:
        for split in self.corpus:
            if any(one.key == dialogue.key for one in self.corpus[split]):
                return split
        found = f"{dialogue.dialogue_id} is in none of its splits"
        raise LabError(f"{self.corpus.name} does not know this dialogue", found, "give the corpus it is from")

    # --- the same as tables -------------------------------------------------------------------------------------------

    def question(self) -> Shown:
        """What the bot has to answer, and what was put before the history."""
        parts = []
        if self.place.instruction:
            parts.append(self.place.instruction)
        if self.place.shots:
            parts.append(f"({self.place.shots} worked examples)")
        database = searched_in(self.place.format, self.database)
        pieces = exchanges(self.dialogue, self.place.format, database=database)
        parts.append(pieces[self.turn][0].text)
        text = " ".join(parts)
        return Shown(f"<p>{highlighted(text)}</p>", text)

    def chart(self, config: DecodingConfig | None = None, n: int = 12) -> Shown:
        """The next-token chart at the start of the reply, as a table."""
        prompt = self.prompt_at(self.place)
        logits = self.logits(self.place)  # [V]
        allowed = self.allowed_by(self.grammar, logits)
        return next_token_chart(self.lm, logits, config or self.config, prompt, n=n, allowed=allowed)

    def allowed_by(self, grammar: str, logits: np.ndarray, reply: Sequence[int] = ()) -> list[int] | None:
        """The tokens that one grammar allows at the present place, of logits [V]; None where it does not hold there."""
        allowed = self.state_lines.allowed(self.state_line(self.place), reply, len(logits))
        return allowed.get(grammar)

    def static(self) -> Shown:
        """What a code host shows, which runs no script."""
        chart = self.chart()
        question = self.question()
        text = f"{question.text}\n{chart.text}"
        return Shown(question.html + chart.html, text)


def likeliest(logits: np.ndarray, tokens: Sequence[int], n: int) -> list[int]:
    """The `n` of some tokens with the highest logits [V]."""
    given = np.asarray(tokens, dtype=int)
    order = np.argsort(-logits[given])[:n]
    return given[order].tolist()
