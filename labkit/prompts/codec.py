"""Text to token ids and back, piece by piece."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class TextCodec:
    """Segment text ↔ token ids for any tokenizer, with the ids that end a reply."""

    tokenizer: "PreTrainedTokenizerBase"
    _cache: dict[str, list[int]] = field(default_factory=dict, repr=False)

    @cached_property
    def prefix(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord: [bos] for Llama, nothing for GPT-NeoX."""
        plain = self.tokenizer.encode("a", add_special_tokens=False)
        special = self.tokenizer.encode("a")
        return special[: special.index(plain[0])] if plain and plain[0] in special else []

    @cached_property
    def stop_ids(self) -> list[int]:
        """Ids that end a reply: the end token, and every token whose text holds a newline (".\\n" in some)."""
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return sorted({i for i, text in enumerate(texts) if "\n" in text} | set(self.end))

    @property
    def end(self) -> list[int]:
        """The end token as a list of one, or of none where the tokenizer has no end token."""
        return [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]

    @property
    def pad_id(self) -> int:
        """An id to fill up batches with; masked everywhere, so any existing id will do and no embedding is added."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else (self.end or [0])[0]

    def encode(self, text: str) -> list[int]:
        """Token ids of one segment, its final newline always a token of its own."""
        if text not in self._cache:
            body = text.removesuffix("\n")
            tail = self._newline if body != text else []
            self._cache[text] = self.tokenizer.encode(body, add_special_tokens=False) + tail
        return self._cache[text]

    @cached_property
    def _newline(self) -> list[int]:
        # sentencepiece puts a space token before a lone newline; only the newline itself belongs to the format
        return self.tokenizer.encode("\n", add_special_tokens=False)[-1:]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a reply, up to its newline and without special tokens."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.split("\n")[0].strip()
