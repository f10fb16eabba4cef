"""Whether what somebody gives as token ids is a list of tokens that a model has."""

from collections.abc import Sized
from operator import index

from labkit.errors import LabError
from labkit.machine.one_line import shortened
from labkit.models.language_model import LanguageModel

ACTION = "encode text first: lm.codec.encode(text)"


def check_token_ids(lm: LanguageModel, ids: object) -> None:
    """Raises LabError for what is no list of `lm`'s tokens: text, None, the ids of another tokenizer."""
    if not isinstance(ids, Sized) or isinstance(ids, str | bytes):
        raise LabError("a prompt is a list of token ids", shortened(repr(ids)), ACTION)
    n_tokens = lm.base.get_input_embeddings().num_embeddings
    for token in ids:
        try:
            index(token)
        except TypeError as error:
            found = f"{shortened(repr(token))} in it"
            raise LabError("a prompt is a list of token ids", found, ACTION) from error
        if not 0 <= token < n_tokens:
            found = f"{token} in a prompt"
            raise LabError(f"the model has no such token, only 0 to {n_tokens - 1}", found, ACTION)
