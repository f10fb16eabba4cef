"""Perplexity of replies: only reply tokens count, whatever the model."""

import math

import pytest

from labkit import LabError
from labkit.metrics import reply_perplexity


def test_a_model_without_a_preference_is_as_unsure_as_its_vocabulary_is_large(tiny_lm, miniwoz):
    import copy
    from dataclasses import replace

    model = copy.deepcopy(tiny_lm.model)
    model.get_output_embeddings().weight.data.zero_()
    flat = replace(tiny_lm, model=model)
    assert reply_perplexity(flat, miniwoz["test"][:2]) == pytest.approx(model.config.vocab_size, rel=1e-4)


def test_it_is_the_loss_of_the_trainer(tiny_lm, miniwoz):
    import torch

    from labkit.prompts.build import examples

    dialogue = miniwoz["test"][0]
    (example,) = examples(dialogue, tiny_lm.codec)
    ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
    loss = tiny_lm.model(input_ids=ids, labels=labels).loss.item()
    assert reply_perplexity(tiny_lm, [dialogue]) == pytest.approx(math.exp(loss), rel=1e-4)


def test_no_reply_is_said_in_one_line(tiny_lm):
    with pytest.raises(LabError, match="no reply"):
        reply_perplexity(tiny_lm, [])
