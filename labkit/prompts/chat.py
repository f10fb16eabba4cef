"""Prompts through a model's own chat template."""

from collections.abc import Sequence

from labkit.corpora.types import Dialogue
from labkit.errors import LabError
from labkit.machine.one_line import first_line
from labkit.prompts.codec import TextCodec
from labkit.prompts.format import spoken
from labkit.prompts.template import check_template

Messages = list[dict[str, str]]  # as a chat template takes them
Tool = dict[str, object]  # a function that a model may call, in the schema of OpenAI's API

LONGEST = 2_000_000  # characters of a prompt: more is no prompt, and would be tokenised for minutes


def messages(dialogue: Dialogue, format: str, lexical: bool, answered: bool = False) -> Messages:
    """User and assistant in turn; a last user turn that nobody answered too, unless `answered`.

    Raises:
        LabError: another format than turns, which is what a chat template is for.
    """
    if format != "turns":
        raise LabError("a chat template is for replies", f"format={format!r}", "use format='turns', or chat=False")
    words = spoken(dialogue, lexical)
    if answered:
        words = words[: len(words) // 2 * 2]
    said = []
    for index, content in enumerate(words):
        role = "user" if index % 2 == 0 else "assistant"
        said.append({"role": role, "content": content})
    return said


def chat_prompt(
    head: Messages, asked: Messages, codec: TextCodec, max_length: int, tools: Sequence[Tool] = ()
) -> list[int]:
    """Token ids of one prompt: without the oldest exchanges of `asked` where it would be too long; `head` stays.

    `tools` are functions that the model may call, for a template that knows the word (`takes_tools`).
    """
    for first in range(0, len(asked), 2):
        ids = _rendered(head + asked[first:], codec, tools)
        if len(ids) <= max_length:
            return ids
    return ids  # the last user turn alone


def takes_tools(codec: TextCodec) -> bool:
    """Whether the tokenizer's chat template has a place for functions."""
    template = getattr(codec.tokenizer, "chat_template", None)
    return isinstance(template, str) and "tools" in template


def _rendered(said: Messages, codec: TextCodec, tools: Sequence[Tool] = ()) -> list[int]:
    from jinja2 import TemplateError

    action = "choose an instruction-tuned model, leave out what it refuses, or use chat=False"
    refusals = (TemplateError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
    check_template(codec.tokenizer, said, tools)
    functions = list(tools) or None
    try:
        text = codec.tokenizer.apply_chat_template(said, functions, add_generation_prompt=True, tokenize=False)
    except (*refusals, MemoryError) as error:  # ValueError where there is none; the rest is a stranger's template
        raise LabError("no chat template for these messages", first_line(error), action) from error
    if len(text) > LONGEST:
        raise LabError("the chat template writes too much", f"{len(text):,} characters", action)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half an emoji, which a template may write and no tokenizer takes
        raise LabError("the chat template writes what is no text", first_line(error), action) from error
    return codec.tokenizer.encode(text, add_special_tokens=False)
