"""The tokens of a vocabulary as text, and those of them that go on in a language: grammars as filters of `generate`.

A language is read letter by letter (`labkit.prompts.letters`), and a tokenizer cuts its lines in its own way. So both
are walked together: the vocabulary as a trie of letters, the language along its places; where a token ends and the
language still holds, the token is allowed (Willard & Louf 2023, "Efficient Guided Generation for LLMs").
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from labkit.decoding.rows import OwnFilter, Written
from labkit.errors import LabError
from labkit.prompts.codec import TextCodec
from labkit.prompts.letters import LetterLanguage

if TYPE_CHECKING:
    import numpy as np

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


class Vocabulary:
    """The texts of a tokenizer's tokens [V], as a list, as a trie, and the letters that are tokens by themselves."""

    def __init__(self, codec: TextCodec):
        self.codec = codec
        self.texts = token_texts(codec)
        self.trie = TokenTrie.of(self.texts)
        self.letters = frozenset(text for text in self.texts if len(text) == 1)

    def text(self, ids: Sequence[int]) -> str:
        """What some tokens say inside a line."""
        return "".join(self.texts[token] for token in ids)

    def check_letters(self, needed: Collection[str], action: str) -> None:
        """Raises LabError where the tokenizer lacks a letter that every line of a grammar needs."""
        missing = "".join(sorted(set(needed) - self.letters))
        if missing:
            found = f"{type(self.codec.tokenizer).__name__} has no token for {missing!r} alone"
            raise LabError("no grammar with this tokenizer", found, action)


class Vocabularies:
    """The vocabulary of each tokenizer that was asked for: to read one takes a while."""

    def __init__(self) -> None:
        self._known: dict[int, Vocabulary] = {}

    def of(self, codec: TextCodec) -> Vocabulary:
        """The vocabulary of a tokenizer."""
        key = id(codec)  # it is kept by what is kept under the number, so no other one gets it
        if key not in self._known:
            self._known[key] = Vocabulary(codec)
        return self._known[key]


def language_filter(vocabulary: Vocabulary, languages: Sequence[LetterLanguage], name: str) -> OwnFilter:
    """A filter of `generate` that leaves the tokens which go on in a language, one for each prompt.

    Args:
        name: what messages call the filter.
    """
    # what may come next is kept for each prompt: a token can go on into a value that its language alone has
    known: list[dict[Hashable, list[int]]] = [{} for _ in languages]

    def grammar(scores: "np.ndarray", written: Written) -> "np.ndarray":
        language = languages[written.index]
        text = vocabulary.text(written.reply)
        place = language.place_after(text)
        if place is None:
            return only(scores, [])
        allowed = known[written.index]
        if place not in allowed:
            allowed[place] = allowed_tokens(language, place, vocabulary.trie)
        return only(scores, allowed[place])

    grammar.__name__ = name
    grammar.stands_threads = True  # see labkit.decoding.parts
    return grammar


def only(scores: "np.ndarray", allowed: Sequence[int]) -> "np.ndarray":
    """Scores [V], those of all other tokens at -inf."""
    import numpy as np

    filtered = np.full_like(scores, -np.inf)
    index = np.asarray(allowed, dtype=int)
    filtered[index] = scores[index]
    return filtered


def allowed_tokens(language: LetterLanguage, place: Hashable, vocabulary: TokenTrie) -> list[int]:
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
