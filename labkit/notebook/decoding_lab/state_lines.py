"""The belief state as what the lab writes: the grammars that hold it, what they allow next, whether it is right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from labkit.corpora.types import Corpus, Dialogue
from labkit.decoding.grammar import GRAMMARS, StateGrammar, grammar_called
from labkit.decoding.rows import OwnFilter, Written
from labkit.decoding.vocabulary import Vocabularies
from labkit.errors import LabError
from labkit.metrics.dst import state_tracking
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import CHANGING, STATEFUL, read_state, state_before
from labkit.prompts.state_values import Heard

NO_STATE = "a reply has no grammar: write the belief state"
NO_CORPUS = "this lab was made without a corpus, whose schema it needs"
NONE, *STATE_GRAMMARS = GRAMMARS
OF_CHANGES = ("all-said",)  # grammars that say something else than the others in formats of changes only


class StateLine(NamedTuple):
    """A belief state that is being written: after which user turn of which dialogue, and in which format."""

    dialogue: Dialogue
    turn: int
    format: str

    @property
    def heard(self) -> Heard:
        """What it can be made of."""
        return Heard.of(self.dialogue, self.turn)

    @property
    def is_change(self) -> bool:
        """Whether only what the turn changed is written."""
        return self.format in CHANGING


class StateLines:
    """The grammars of a corpus for the belief states of one tokenizer."""

    def __init__(self, codec: TextCodec, corpus: Corpus | None):
        self.codec = codec
        self.corpus = corpus
        self._grammars: dict[str, StateGrammar] = {}
        self._filters: dict[tuple[str, int, str, str], OwnFilter] = {}
        self._vocabularies = Vocabularies()  # one for all grammars

    def names(self, format: str) -> list[str]:
        """The grammars that a line of a format can be held to; none for a reply."""
        if self.why_none(format):
            return []
        return [name for name in STATE_GRAMMARS if format in CHANGING or name not in OF_CHANGES]

    def why_none(self, format: str) -> str:
        """Why nothing that is written in a format has a grammar here; "" where it has."""
        if format not in STATEFUL:
            return NO_STATE
        if self.corpus is None:
            return NO_CORPUS
        try:
            schema, *_ = STATE_GRAMMARS
            self._grammar(schema).language(Heard((), {}), self.codec)
        except LabError as error:  # no schema, or a tokenizer without a letter that every state needs
            return str(error)
        return ""

    def filter(self, name: str, line: StateLine) -> OwnFilter:
        """A grammar as `generate` takes it, for a prompt that ends in `state>`."""
        key = (line.dialogue.key, line.turn, line.format, name)
        if key not in self._filters:
            grammar = self._grammar(name)
            self._filters[key] = grammar.filter(self.codec, [line.heard], changes=line.is_change)
        return self._filters[key]

    def allowed(self, line: StateLine, reply: Sequence[int], n_tokens: int) -> dict[str, list[int]]:
        """{grammar: the tokens that it allows after `reply`}, of a vocabulary of `n_tokens`."""
        equal = np.zeros(n_tokens, dtype=np.float32)  # [V]
        written = Written(0, (), tuple(reply))
        allowed = {}
        for name in self.names(line.format):
            left = self.filter(name, line)(equal, written)  # [V]
            allowed[name] = np.flatnonzero(left == 0).tolist()
        return allowed

    def verdict(self, line: StateLine, text: str) -> dict[str, bool]:
        """Whether a written state is one that the corpus can have, and whether it is the annotated one.

        {} where there is no grammar to tell the first.
        """
        if self.why_none(line.format):
            return {}
        user = line.dialogue.turns[2 * line.turn]
        before = state_before(line.dialogue, line.turn)
        state = read_state(line.format, text, before)
        schema, *_ = STATE_GRAMMARS
        language = self._grammar(schema).language(line.heard, changes=line.is_change)
        tracked = state_tracking([(state, user.state)])
        return {"valid": f" {text}\n" in language, "right": tracked["joint_accuracy"] == 100}

    def _grammar(self, name: str) -> StateGrammar:
        if name not in self._grammars:
            self._grammars[name] = grammar_called(name, self.corpus, vocabularies=self._vocabularies)
        return self._grammars[name]
