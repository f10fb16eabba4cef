"""A grammar as a filter: only tokens that go on towards a valid belief state keep their score.

The state line is a regular language over letters (`labkit.prompts.state_language`), and a tokenizer cuts it in its own
way. So both are walked together: the vocabulary as a trie of letters, the language along its tries; where a token ends
and the language still holds, the token is allowed (Willard & Louf 2023, "Efficient Guided Generation for LLMs").
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from labkit.corpora.types import Corpus
from labkit.decoding.rows import OwnFilter, Written
from labkit.errors import LabError
from labkit.prompts.codec import TextCodec
from labkit.prompts.state_cover import CoveringLanguage, domains_meant, mentions
from labkit.prompts.state_language import Place, StateLanguage
from labkit.prompts.state_values import Heard, Slots, said_slots, slots_of

if TYPE_CHECKING:
    import numpy as np

GRAMMARS = ("none", "schema", "said", "all-said")
UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # the text of a token that is a part of a letter


class TokenTrie:
    """The texts of a vocabulary's tokens as a trie: each place has the tokens that end there."""

    __slots__ = ("children", "tokens")

    def __init__(self) -> None:
        self.children: dict[str, TokenTrie] = {}
        self.tokens: list[int] = []

    @classmethod
    def of(cls, texts: Iterable[str]) -> "TokenTrie":
        """The trie of texts [V]; tokens without a text that can be read are in it nowhere."""
        root = cls()
        for token, text in enumerate(texts):
            if not text or UNREADABLE in text:
                continue
            node = root
            for letter in text:
                node = node.children.setdefault(letter, cls())
            node.tokens.append(token)
        return root


def token_texts(codec: TextCodec) -> list[str]:
    """The text of every token [V] inside a line: with its space, which some decoders drop at a beginning.

    Special tokens have none, as in a reply that is read.
    """
    tokenizer = codec.tokenizer
    before = tokenizer.encode("a", add_special_tokens=False)
    start = tokenizer.decode(before)
    longer = [[*before, token] for token in range(len(tokenizer))]
    texts = tokenizer.batch_decode(longer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.removeprefix(start) for text in texts]


class StateGrammar:
    """The belief states of a corpus, for `predict(…, grammar=…)` or as a filter of `generate`."""

    def __init__(self, slots: Slots, *, only_said: bool = False, all_said: bool = False):
        self.slots = slots
        self.only_said = only_said or all_said
        self.all_said = all_said
        self.name = "all-said" if all_said else "said" if only_said else "schema"  # one of GRAMMARS
        self._language = StateLanguage(slots)
        self._tokens: dict[int, _Tokens] = {}

    def language(self, heard: Heard, *, changes: bool = False) -> StateLanguage:
        """The state lines, or those of `changes`, of a dialogue in which something was heard."""
        return self._heard_in(self._language, heard, changes)

    def filter(self, codec: TextCodec, heard: Sequence[Heard], *, changes: bool = False) -> OwnFilter:
        """A filter of `generate` for prompts that end in `state>`; `heard`: what was heard before each of them.

        `changes`: what is written changes a state, as in the formats `changes` and `changes-db`.

        Raises:
            LabError: the tokenizer lacks a letter that every state needs.
        """
        tokens = self._tokens_of(codec)
        languages = [self._heard_in(tokens.language, one, changes) for one in heard]
        # what may come next is kept for each dialogue: a token can go on into a value that it alone has
        known: list[dict[Place, list[int]]] = [{} for _ in heard]

        def state_grammar(scores: "np.ndarray", written: Written) -> "np.ndarray":
            allowed = tokens.allowed(languages[written.index], written.reply, known[written.index])
            return only(scores, allowed)

        return state_grammar

    def _heard_in(self, language: StateLanguage, heard: Heard, changes: bool) -> StateLanguage:
        if not self.only_said:
            return language.hearing(heard, changes=changes)
        slots = said_slots(self.slots, heard, changes=changes)
        if not (self.all_said and changes):
            return StateLanguage(slots, lead=language.lead, letters=language.letters)
        due = mentions(slots, heard)
        meant = domains_meant(slots, heard, due)
        return CoveringLanguage(meant, due, lead=language.lead, letters=language.letters)

    def _tokens_of(self, codec: TextCodec) -> "_Tokens":
        key = id(codec)  # it is kept by what is kept under the number, so no other one gets it
        if key not in self._tokens:
            self._tokens[key] = _Tokens(codec, self.slots)
        return self._tokens[key]


def only(scores: "np.ndarray", allowed: Sequence[int]) -> "np.ndarray":
    """Scores [V], those of all other tokens at -inf."""
    import numpy as np

    filtered = np.full_like(scores, -np.inf)
    index = np.asarray(allowed, dtype=int)
    filtered[index] = scores[index]
    return filtered


class _Tokens:
    """Which tokens of a vocabulary go on towards a state."""

    def __init__(self, codec: TextCodec, slots: Slots):
        self.codec = codec
        self.texts = token_texts(codec)
        self.vocabulary = TokenTrie.of(self.texts)
        lead = "".join(self.texts[token] for token in codec.encode(" a")).removesuffix("a")  # sentencepiece: two spaces
        letters = frozenset(text for text in self.texts if len(text) == 1)
        _check_letters(codec, slots, letters)
        self.language = StateLanguage(slots, lead=lead, letters=letters)

    def allowed(self, language: StateLanguage, reply: Sequence[int], known: dict[Place, list[int]]) -> list[int]:
        """The tokens that may come after those of a reply; none where it is no beginning of a state.

        `known` keeps those of each place of this language.
        """
        text = "".join(self.texts[token] for token in reply)
        place = language.place_after(text)
        if place is None:
            return []
        if place not in known:
            known[place] = allowed_tokens(language, place, self.vocabulary)
        return known[place]


def _check_letters(codec: TextCodec, slots: Slots, letters: frozenset[str]) -> None:
    """Raises LabError where a tokenizer lacks a letter that every state needs."""
    needed = set(" =;|\n")
    for domain, names in slots.items():
        needed.update(domain, *names)
    missing = "".join(sorted(needed - letters))
    if missing:
        what = f"{type(codec.tokenizer).__name__} has no token for {missing!r} alone"
        raise LabError("no grammar with this tokenizer", what, "generate without a grammar, or use another model")


def allowed_tokens(language: StateLanguage, place: Place, vocabulary: TokenTrie) -> list[int]:
    """The tokens whose whole text can be read from a place on, sorted."""
    allowed: list[int] = []
    waiting = [(vocabulary, place)]
    while waiting:
        node, at = waiting.pop()
        allowed.extend(node.tokens)
        for letter, longer in node.children.items():
            after = language.read(at, letter)
            if after is not None:
                waiting.append((longer, after))
    return sorted(allowed)


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


def grammar_called(name: str, corpus: Corpus) -> StateGrammar | None:
    """One of `GRAMMARS` for a corpus; None where there is to be none.

    Raises:
        LabError: another name, or the corpus has no schema.
    """
    if name not in GRAMMARS:
        raise LabError(f"no grammar is called {name!r:.40}", "", f"choose {', '.join(GRAMMARS)}")
    if name == "none":
        return None
    return state_grammar(corpus, only_said=name == "said", all_said=name == "all-said")
