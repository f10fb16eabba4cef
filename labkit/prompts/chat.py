"""Prompts through a model's own chat template."""

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import Exchange, exchanges
from labkit.prompts.sequences import Prompt, _tokens

_Messages = list[dict[str, str]]  # as a chat template takes them


def _messages(dialogue: Dialogue, format: str, lexical: bool) -> _Messages:
    """User and assistant in turn, without the lab's own `user>` and `bot>`."""
    if format != "turns":
        raise LabError("a chat template is for replies", f"format={format!r}", "use format='turns', or chat=False")
    texts = [segment.text for exchange in exchanges(dialogue, format, lexical) for segment in exchange]
    said = [text.removeprefix("user> ").removesuffix("\nbot>").strip() for text in texts]
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def _chat_prompts(key: str, head: _Messages, said: _Messages, codec: TextCodec, max_length: int) -> list[Prompt]:
    result = []
    for turn in range(len(said) // 2):
        asked = said[: 2 * turn + 1]
        shorter = (_rendered(head + asked[first:], codec) for first in range(0, len(asked), 2))
        fitting = (ids for ids in shorter if len(ids) <= max_length)
        result.append(Prompt(next(fitting, None) or _rendered([*head, asked[-1]], codec), key, turn))
    return result


def _rendered(messages: _Messages, codec: TextCodec) -> list[int]:
    from jinja2 import TemplateError

    try:
        text = codec.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (TemplateError, ValueError) as error:  # the latter where there is none
        action = "choose an instruction-tuned model, leave out what it refuses, or use chat=False"
        raise LabError("no chat template for these messages", str(error).splitlines()[0], action) from error
    return codec.tokenizer.encode(text, add_special_tokens=False)


def _split_reply(exchange: Exchange, codec: TextCodec, format: str) -> tuple[list[int], list[int]]:
    """Tokens up to what the model has to write, and the tokens from there on."""
    cut = len(exchange) - 1 if format != "state" else len(exchange) - 3
    return _tokens(exchange[:cut], codec)[0], _tokens(exchange[cut:], codec)[0]
