"""Free conversations of the `dialogs` format: all at once is each alone, and the model says where one ends."""

from importlib import import_module

import pytest
import tiny_models

from labkit.decoding import DecodingConfig, generate, write_conversations
from labkit.prompts import dialogue_header

SAMPLING = DecodingConfig(strategy="sample", max_new_tokens=6, seed=3)
conversations = import_module("labkit.decoding.conversations")


@pytest.fixture(scope="module", params=tiny_models.ARCHITECTURES)
def lm(request):
    return tiny_models.language_model(request.param)


def test_conversations_that_are_written_together_are_those_written_line_by_line(lm):
    together = write_conversations(lm, [4, 8], SAMPLING, longest=3)
    for index, wish in enumerate((4, 8)):
        text, lines = lm.codec.prefix + lm.codec.encode(dialogue_header(wish)), []
        for at in range(3):
            line = lm.codec.decode(generate(lm, [text], SAMPLING, keys=[f"conversation {index}, line {at}"])[0])
            if not line:
                break
            lines.append(line)
            text = text + lm.codec.encode(line + "\n")
        assert together[index] == lines


def test_one_that_ends_early_does_not_end_the_others(lm, monkeypatch):
    """The end token at a line's beginning is an empty line; longest cuts off what never ends."""
    full, asked = lm.codec.encode("user> hi"), []

    def generate_of_a_script(lm, prompts, config, keys):
        asked.append(keys)
        return [[] if key.startswith("conversation 1, line 2") else list(full) for key in keys]

    monkeypatch.setattr(conversations, "generate", generate_of_a_script)
    lines = write_conversations(lm, [4, 4, 4], SAMPLING, longest=5)
    assert [len(some) for some in lines] == [5, 2, 5]
    assert [len(keys) for keys in asked] == [3, 3, 3, 2, 2]


def test_two_conversations_of_the_same_wish_differ(lm):
    first, second = write_conversations(lm, [4, 4], SAMPLING, longest=2)
    assert first != second
