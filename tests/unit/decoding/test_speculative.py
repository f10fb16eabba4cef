"""Speculative decoding: a draft changes the time, never what is written."""

from collections import Counter
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import tiny_models
import torch

from labkit.decoding.config import DecodingConfig
from labkit.decoding.filters import filter_stages, remaining
from labkit.decoding.generate import generate, next_token_logits
from labkit.decoding.speculative import speculative
from labkit.errors import LabError

PROMPTS = [list(range(40, 64)), [5], [9, 8, 7] * 6]


@pytest.fixture(scope="module", params=["neox", pytest.param("llama", marks=pytest.mark.long)])
def pair(request):
    """A model and a draft that is wrong nearly all the time; replies end after a few tokens or many."""
    lm, draft = (tiny_models.language_model(request.param) for _ in range(2))
    torch.manual_seed(1)
    torch.nn.init.normal_(draft.base.get_output_embeddings().weight)
    lm.codec.stop_ids = sorted({*lm.codec.stop_ids, *range(20, 30)})
    return lm, draft


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.3}, {"min_new_tokens": 9}])
def test_greedy_text_is_what_the_model_writes_alone(pair, options):
    """Trap: a rejected guess stays in the cache, or the reply goes on after its stop token."""
    lm, draft = pair
    config = DecodingConfig(max_new_tokens=12, **options)
    for prompt, written in zip(PROMPTS, generate(lm, PROMPTS, config), strict=True):
        assert speculative(lm, None, prompt, config) == written
        for ahead in (1, 3, 13):  # the last is more than the whole reply
            assert speculative(lm, draft, prompt, config, ahead) == written, ahead
        assert speculative(lm, lm, prompt, config, 3) == written, "every guess is right"


@pytest.mark.slow
def test_a_sample_has_the_distribution_of_the_models_samples(pair):
    """Trap: after a rejection the model draws as if nothing had been rejected (appendix A.1 of the paper)."""
    lm, _ = pair
    draft = tiny_models.language_model("neox" if lm.name == "tiny-neox" else "llama")  # the same weights
    with torch.no_grad():
        draft.base.get_output_embeddings().weight.mul_(4)
    config, prompt = DecodingConfig("sample", max_new_tokens=2, top_k=6, temperature=0.8), PROMPTS[0]
    logits = next_token_logits(lm, prompt)
    wanted = remaining(logits, filter_stages(logits, config))
    wanted[lm.codec.stop_ids] = 0  # those end the reply before its first token
    shares = Counter(tuple(speculative(lm, draft, prompt, replace(config, seed=seed), 1)[:1]) for seed in range(400))
    distance = sum(abs(shares[(token,)] / 400 - p) for token, p in enumerate(wanted)) / 2
    assert distance < 0.07 and len(shares) > 2


def test_the_same_seed_draws_the_same_reply(pair):
    lm, draft = pair
    config = DecodingConfig("sample", max_new_tokens=12)
    assert speculative(lm, draft, PROMPTS[0], config) == speculative(lm, draft, PROMPTS[0], config)


def test_the_model_is_asked_less_often_when_the_draft_is_right(pair, monkeypatch):
    """What the speed-up comes from: four tokens for one pass."""
    lm, _ = pair
    passes, forward = [], lm.base.forward
    monkeypatch.setattr(lm.base, "forward", lambda *a, **k: passes.append(k["logits_to_keep"]) or forward(*a, **k))
    config = DecodingConfig(max_new_tokens=12, min_new_tokens=12)
    assert speculative(lm, lm, PROMPTS[0], config, ahead=3)
    assert [count for count in passes if count > 1] == [4, 4, 4]


def test_what_cannot_be_is_explained(pair):
    """A draft of another family: its token 17 is another text, so that every proposal would be noise."""
    lm, _ = pair
    other = tiny_models.language_model("llama" if lm.name == "tiny-neox" else "neox")
    with pytest.raises(LabError, match="same family"):
        speculative(lm, other, PROMPTS[0], DecodingConfig())
    with pytest.raises(LabError, match="greedy or sample"):
        speculative(lm, None, PROMPTS[0], DecodingConfig("beam"))
    with pytest.raises(LabError, match="lower max_length"):
        speculative(lm, None, PROMPTS[0], DecodingConfig(max_new_tokens=10_000))


def test_a_rejection_that_leaves_nothing_draws_what_the_model_wants():
    """p and q are equal but for rounding: 0 / 0 was drawn from."""

    class Fixed:
        def __init__(self, weights):
            self.weights = np.array(weights)

        def distributions(self, reply, last):
            return [self.weights] * last

    class Draws:
        def random(self):
            return 1 - 1e-17  # 1.0: a guess is rejected where p is below q by a rounding

        def choice(self, n, p):
            return int(p.argmax())

    model, helper = Fixed([0.6 - 1e-15, 0.4 - 1e-15]), Fixed([0.6, 0.4])
    module = import_module("labkit.decoding.speculative")
    assert module._round(model, helper, [], 1, Draws()) == [0]
