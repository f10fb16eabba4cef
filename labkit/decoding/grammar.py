"""A grammar as a filter: only tokens that go on towards a valid belief state keep their score.

The state line is a regular language over letters (`labkit.prompts.state_language`); `labkit.decoding.vocabulary` says
which tokens go on in it.
"""

from collections.abc import Sequence

from labkit.corpora.types import Corpus
from labkit.decoding.rows import OwnFilter
from labkit.decoding.vocabulary import Vocabularies, Vocabulary, language_filter
from labkit.errors import LabError
from labkit.prompts.codec import TextCodec
from labkit.prompts.state_cover import CoveringLanguage, domains_meant, mentions
from labkit.prompts.state_language import StateLanguage
from labkit.prompts.state_values import Heard, Slots, said_slots, slots_of

GRAMMARS = ("none", "schema", "said", "all-said")


class StateGrammar:
    """The belief states of a corpus, for `predict(…, grammar=…)` or as a filter of `generate`."""

    def __init__(
        self,
        slots: Slots,
        *,
        only_said: bool = False,
        all_said: bool = False,
        vocabularies: Vocabularies | None = None,
    ):
        """`vocabularies`: those of another grammar, so that a tokenizer is read once for both."""
        self.slots = slots
        self.only_said = only_said or all_said
        self.all_said = all_said
        self.name = "all-said" if all_said else "said" if only_said else "schema"  # one of GRAMMARS
        self._language = StateLanguage(slots)
        self._vocabularies = vocabularies or Vocabularies()
        self._with_letters: dict[Vocabulary, StateLanguage] = {}

    def language(self, heard: Heard, codec: TextCodec | None = None, *, changes: bool = False) -> StateLanguage:
        """The state lines, or those of `changes`, of a dialogue in which something was heard.

        Args:
            codec: only those whose letters its tokenizer has.

        Raises:
            LabError: the tokenizer lacks a letter that every state needs.
        """
        language = self._written_with(self._vocabularies.of(codec)) if codec else self._language
        return self._heard_in(language, heard, changes)

    def filter(self, codec: TextCodec, heard: Sequence[Heard], *, changes: bool = False) -> OwnFilter:
        """A filter of `generate` for prompts that end in `state>`; `heard`: what was heard before each of them.

        `changes`: what is written changes a state, as in the formats `changes` and `changes-db`.

        Raises:
            LabError: the tokenizer lacks a letter that every state needs.
        """
        languages = [self.language(one, codec, changes=changes) for one in heard]
        return language_filter(self._vocabularies.of(codec), languages, "state_grammar")

    def _heard_in(self, language: StateLanguage, heard: Heard, changes: bool) -> StateLanguage:
        if not self.only_said:
            return language.hearing(heard, changes=changes)
        slots = said_slots(self.slots, heard, changes=changes)
        if not (self.all_said and changes):
            return StateLanguage(slots, lead=language.lead, letters=language.letters)
        due = mentions(slots, heard)
        meant = domains_meant(slots, heard, due)
        return CoveringLanguage(meant, due, lead=language.lead, letters=language.letters)

    def _written_with(self, vocabulary: Vocabulary) -> StateLanguage:
        """The state lines as far as a tokenizer has their letters; their tries are made once."""
        if vocabulary not in self._with_letters:
            needed = set(" =;|\n")
            for domain, names in self.slots.items():
                needed.update(domain, *names)
            vocabulary.check_letters(needed, "generate without a grammar, or use another model")
            codec = vocabulary.codec
            lead = vocabulary.text(codec.encode(" a")).removesuffix("a")  # sentencepiece: two spaces
            self._with_letters[vocabulary] = StateLanguage(self.slots, lead=lead, letters=vocabulary.letters)
        return self._with_letters[vocabulary]


def state_grammar(corpus: Corpus, *, only_said: bool = False, all_said: bool = False) -> StateGrammar:
    """The belief states of a corpus: the domains and slots of its schema, values of schema, database and dialogue.

    With `only_said` there is less to confuse, which a small model needs: a name, a food, a time, a day or a number has
    to have been said (`labkit.prompts.state_values.said_slots`). What the database does not know is then no value.
    With `all_said` the changes of a turn leave nothing out either: what was said in it is written, once, under a domain
    that it can be meant for (`labkit.prompts.state_cover`). A whole state, not one of changes, is as with `only_said`.

    Raises:
        LabError: the corpus has no schema.
    """
    return StateGrammar(slots_of(corpus), only_said=only_said, all_said=all_said)


def grammar_called(name: str, corpus: Corpus, *, vocabularies: Vocabularies | None = None) -> StateGrammar | None:
    """One of `GRAMMARS` for a corpus; None where there is to be none. `vocabularies` as `StateGrammar` takes them.

    Raises:
        LabError: another name, or the corpus has no schema.
    """
    check_grammar(name)
    if name == "none":
        return None
    only_said = name == "said"
    all_said = name == "all-said"
    return StateGrammar(slots_of(corpus), only_said=only_said, all_said=all_said, vocabularies=vocabularies)


def check_grammar(name: str) -> None:
    """Raises LabError where no grammar has this name."""
    if name not in GRAMMARS:
        raise LabError(f"no grammar is called {name!r:.40}", "", f"choose {', '.join(GRAMMARS)}")
