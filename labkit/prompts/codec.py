"""Text to token ids and back, piece by piece."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REMEMBERED = 50_000  # texts whose ids are kept; MultiWOZ's test split has some 15,000 segments


@dataclass
class TextCodec:
    """Segment text ↔ token ids for any tokenizer, with the ids that end a reply."""

    tokenizer: "PreTrainedTokenizerBase"
    _cache: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def prefix(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord: [bos] for Llama, nothing for GPT-NeoX."""
        plain = self.tokenizer.encode("a", add_special_tokens=False)
        special = self.tokenizer.encode("a")
        if plain and plain[0] in special:
            return special[: special.index(plain[0])]
        return []

    @cached_property
    def stop_ids(self) -> list[int]:
        """Ids that end a reply: the end token, and every token whose text holds a newline (".\\n" in some)."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        with_newline = {i for i, text in enumerate(texts) if "\n" in text}
        return sorted(with_newline | set(self.end))

    @property
    def end(self) -> list[int]:
        """The end token as a list of one, or of none where the tokenizer has no end token."""
        if self.tokenizer.eos_token_id is None:
            return []
        return [self.tokenizer.eos_token_id]

    @property
    def pad_id(self) -> int:
        """An id to fill up batches with; masked everywhere, so any id will do that the model has a row for.

        A [PAD] that was added to a tokenizer often has none (usual among fine-tunes of Llama 2). So an id of the
        original vocabulary is taken: the pad token, else the end token, else 0.
        """
        for token in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token is not None and token < self.tokenizer.vocab_size:
                return token
        return 0

    def encode(self, text: str) -> list[int]:
        """Token ids of one segment, its final newline always a token of its own; the list is the caller's.

        Raises:
            LabError: half a character (a lone surrogate), which no tokenizer reads.
        """
        ids = self._cache.get(text)
        if ids is None:
            ids = tuple(self._encode(text))
            if len(self._cache) >= REMEMBERED:
                self._cache.clear()
            self._cache[text] = ids
        return list(ids)

    def _encode(self, text: str) -> list[int]:
        body = text.removesuffix("\n")
        _check_characters(body)
        ids = self.tokenizer.encode(body, add_special_tokens=False)
        return ids if body == text else ids + self._newline

    @cached_property
    def _newline(self) -> list[int]:
        # sentencepiece puts a space token before a lone newline; only the newline itself belongs to the format
        return self.tokenizer.encode("\n", add_special_tokens=False)[-1:]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a reply, up to its newline and without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        first_line, _, _ = text.partition("\n")
        return first_line.strip()


def _check_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.end + 20]
        found = ascii(around)
        raise LabError(
            "a text holds half a character (a lone surrogate)", found, "mend or leave out the text"
        ) from error
