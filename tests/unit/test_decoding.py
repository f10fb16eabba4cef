"""Decoding: a batch writes what each prompt would get alone, and settings that make no sense are explained."""

import random

import numpy as np
import pytest
import tiny_models
import torch

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding import DecodingConfig, filter_stages, generate, next_token_logits, predict, stream
from labkit.errors import LabError
from labkit.models import attach_adapter, load_model

NEW = 12


@pytest.fixture(scope="module", params=tiny_models.ARCHITECTURES)
def lm(request):
    model = tiny_models.language_model(request.param)
    model.codec.stop_ids = sorted({*model.codec.stop_ids, *range(20, 30)})  # replies end after a few tokens or many
    return model


@pytest.fixture(scope="module")
def prompts(lm):
    """Prefixes of a few sequences, one twice, one that leaves its sequence, one of a single token, in no order."""
    rnd, vocabulary = random.Random(0), lm.base.config.vocab_size
    sequences = [[rnd.randrange(vocabulary) for _ in range(rnd.randrange(20, 70))] for _ in range(5)]
    cut = [sequence[:end] for sequence in sequences for end in sorted(rnd.sample(range(2, len(sequence) + 1), 4))]
    cut += [cut[0], [*cut[3][:-4], 7, 8, 9], [5]]
    rnd.shuffle(cut)
    return cut


def alone(lm, prompt, **options):
    """transformers' own generate on one prompt."""
    options = {"do_sample": False, "max_new_tokens": NEW, "pad_token_id": 0, **options}
    ids = torch.tensor([prompt])
    written = lm.base.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=lm.codec.stop_ids, **options)
    reply = written[0, len(prompt) :].tolist()
    return reply[:-1] if reply and reply[-1] in lm.codec.stop_ids else reply


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_greedy_batch_equals_one_at_a_time(lm, prompts, batch_size):
    """Right-padded batched generation gave 23 of 32 continuations that the prompt alone would not have got."""
    replies = generate(lm, prompts, DecodingConfig(max_new_tokens=NEW, batch_size=batch_size))
    expected = [alone(lm, prompt) for prompt in prompts]
    assert replies == expected
    assert len({len(reply) for reply in replies}) > 3, "the rows should leave at different times"


def test_repetition_penalty_counts_the_rows_own_tokens(lm, prompts):
    """Padding must not be penalised, nor the tokens of another row of the same trunk."""
    config = DecodingConfig(max_new_tokens=NEW, repetition_penalty=1.5)
    assert generate(lm, prompts, config) == [alone(lm, prompt, repetition_penalty=1.5) for prompt in prompts]


def test_beam_search_equals_one_at_a_time(lm, prompts):
    config = DecodingConfig("beam", max_new_tokens=8, num_beams=3, batch_size=4)
    assert generate(lm, prompts[:6], config) == [alone(lm, p, num_beams=3, max_new_tokens=8) for p in prompts[:6]]


@pytest.mark.parametrize("settings", [{"temperature": 1.3, "top_p": 0.95}, {"top_k": 20, "min_p": 0.02}])
def test_a_seed_gives_the_same_text_in_any_batch_and_order(lm, prompts, settings):
    """One generator for the whole batch makes a reply depend on its neighbours."""
    unique = [list(p) for p in dict.fromkeys(map(tuple, prompts))]
    config = DecodingConfig("sample", max_new_tokens=NEW, **settings)
    replies = generate(lm, unique, config)
    for batch_size in (1, 5):
        assert generate(lm, unique, DecodingConfig(**{**vars(config), "batch_size": batch_size})) == replies
    assert generate(lm, unique[::-1], config)[::-1] == replies
    assert generate(lm, unique, DecodingConfig(**{**vars(config), "seed": 7})) != replies


def test_the_same_prompt_twice_gets_two_samples(lm):
    replies = generate(lm, [[40, 41, 42]] * 8, DecodingConfig("sample", max_new_tokens=NEW, temperature=2.0))
    assert len({tuple(reply) for reply in replies}) > 4


def test_samples_follow_the_distribution(lm):
    """The frequencies of 3,000 first tokens are within three standard errors of the filtered probabilities."""
    prompt, n = [40, 41, 42], 3000
    config = DecodingConfig("sample", max_new_tokens=1, top_k=5, batch_size=n)
    lm.codec.stop_ids, kept = [], lm.codec.stop_ids
    drawn = np.array(generate(lm, [prompt] * n, config))[:, 0]
    lm.codec.stop_ids = kept
    expected = filter_stages(next_token_logits(lm, prompt), config)[-1].probabilities
    counted = np.bincount(drawn, minlength=len(expected)) / n
    assert (np.abs(counted - expected) <= 3 * np.sqrt(expected * (1 - expected) / n) + 1e-9).all()


# --- contrastive search -----------------------------------------------------------------------------------------------


def contrastive_reference(lm, prompt, k, alpha, steps):
    """Su et al. (2022), equation 5, without cache or batch: every candidate is read with its whole context."""
    ids, reply = list(prompt), []
    for _ in range(steps):
        out = lm.base(torch.tensor([ids]), output_hidden_states=True)
        context = torch.nn.functional.normalize(out.hidden_states[-1][0], dim=-1)  # [T, H]
        top = out.logits[0, -1].softmax(-1).topk(k)
        scores = []
        for probability, candidate in zip(top.values, top.indices.tolist(), strict=True):
            state = lm.base(torch.tensor([[*ids, candidate]]), output_hidden_states=True).hidden_states[-1][0, -1]
            similarity = (context @ torch.nn.functional.normalize(state, dim=-1)).max()
            scores.append((1 - alpha) * probability - alpha * similarity)
        token = top.indices[torch.stack(scores).argmax()].item()
        if token in lm.codec.stop_ids:
            break
        ids.append(token)
        reply.append(token)
    return reply


def test_contrastive_search_equals_the_plain_reference(lm, prompts):
    some, config = prompts[:8], DecodingConfig("contrastive", max_new_tokens=8, top_k=4, penalty_alpha=0.6)
    with torch.inference_mode():
        expected = [contrastive_reference(lm, prompt, 4, 0.6, 8) for prompt in some]
    assert generate(lm, some, config) == expected
    assert expected != generate(lm, some, DecodingConfig(max_new_tokens=8)), "the penalty should change something"


def test_contrastive_search_without_penalty_is_greedy(lm, prompts):
    config = DecodingConfig("contrastive", max_new_tokens=NEW, penalty_alpha=0.0)
    assert generate(lm, prompts, config) == generate(lm, prompts, DecodingConfig(max_new_tokens=NEW))


# --- filters and settings ---------------------------------------------------------------------------------------------


def test_filter_stages_cut_what_transformers_cuts():
    from transformers.generation import LogitsProcessorList
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = np.random.default_rng(0).normal(0, 3, 2000).astype("float32")
    stages = filter_stages(logits, DecodingConfig("sample", temperature=0.7, top_k=50, top_p=0.9))
    assert [stage.name for stage in stages] == ["temperature", "top_k", "top_p"]
    warpers = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(50), TopPLogitsWarper(0.9)])
    expected = warpers(None, torch.tensor(logits)[None]).softmax(-1)[0].numpy()
    np.testing.assert_allclose(stages[-1].probabilities, expected, rtol=1e-5)
    assert stages[1].kept.sum() == 50
    assert stages[0].removed == 0
    assert stages[1].removed == pytest.approx(1 - stages[0].probabilities[stages[1].kept].sum(), abs=1e-5)
    assert 0 < stages[2].removed < 0.1, "top-p may cut at most 1 - p of the mass that is left"


def test_every_filter_has_its_stage():
    """A slider without a stage would move and change nothing."""
    logits = np.random.default_rng(0).normal(0, 3, 50304).astype("float32")
    config = DecodingConfig("sample", 64, 0.8, 500, 0.95, 0.001, 0.95, 1.2)
    assert len(filter_stages(logits, config, context=[1, 2, 3])) == 6


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"strategy": "warm"}, "greedy, sample, beam"),
        ({"strategy": "sample", "temperature": 0}, "strategy='greedy'"),
        ({"strategy": "sample", "top_p": 1.5}, "(0, 1]"),
        ({"strategy": "sample", "top_p": 0.0}, "(0, 1]"),
        ({"strategy": "sample", "typical_p": 0.0}, "(0, 1]"),
        ({"strategy": "sample", "min_p": 1.0}, "[0, 1)"),
        ({"strategy": "sample", "top_k": -1}, "top_k"),
        ({"strategy": "beam", "num_beams": 1}, "greedy"),
        ({"strategy": "contrastive", "top_k": 1}, "greedy"),
        ({"strategy": "contrastive", "penalty_alpha": 1.5}, "penalty_alpha"),
        ({"strategy": "greedy", "temperature": 0.7}, "no effect on greedy"),
        ({"strategy": "beam", "top_p": 0.9}, "no effect on beam"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_nonsense_is_explained(settings, says):
    with pytest.raises(LabError) as error:
        DecodingConfig(**settings)
    assert says in str(error.value)


def test_a_prompt_that_leaves_no_room_is_refused(lm):
    with pytest.raises(LabError, match="512 tokens"):
        generate(lm, [[5] * 500], DecodingConfig(max_new_tokens=20))
    with pytest.raises(LabError, match="empty prompt"):
        generate(lm, [[5], []])
    assert generate(lm, []) == []


# --- replies to a corpus ----------------------------------------------------------------------------------------------


def dialogue(name: str, n: int) -> Dialogue:
    words = ["i", "want", "a", "cheap", "hotel", "in", "the", "north"]
    said = [" ".join(words[: (i + len(name)) % 7 + 2]) for i in range(2 * n)]
    turns = [Turn(BOT if i % 2 else USER, text, {"hotel": {"area": "north"}}) for i, text in enumerate(said)]
    return Dialogue(f"{name}.json", ("hotel",), turns)


DIALOGUES = [dialogue("MUL1", 4), dialogue("SNG22", 1), dialogue("PMUL333", 6)]


@pytest.mark.parametrize("format", ["turns", "state"])
def test_predict_answers_every_turn_whatever_the_batch(lm, format):
    config = DecodingConfig("sample", max_new_tokens=6, batch_size=2)
    parts = []
    predictions = predict(lm, DIALOGUES, config, format=format, on_batch=parts.append)
    assert {key: len(turns) for key, turns in predictions.items()} == {"mul1": 4, "sng22": 1, "pmul333": 6}
    assert list(predictions) == ["mul1", "sng22", "pmul333"], "in the order of the corpus"
    assert {key: turns for part in parts for key, turns in part.items()} == predictions
    assert all(("state" in turn) == (format == "state") for turns in predictions.values() for turn in turns)
    assert predict(lm, DIALOGUES[::-1], DecodingConfig("sample", 6, batch_size=64), format=format) == predictions


def test_an_interrupt_keeps_what_is_done(lm):
    """Ctrl-C after an hour must not throw the hour away: whole dialogues were handed out before."""
    kept = {}

    def interrupt(part):
        if kept:
            raise KeyboardInterrupt
        kept.update(part)

    with pytest.raises(KeyboardInterrupt):
        predict(lm, DIALOGUES, DecodingConfig(max_new_tokens=3, batch_size=1), on_batch=interrupt)
    assert list(kept) == ["pmul333"], "the longest dialogue goes first"
    assert len(kept["pmul333"]) == 6


def test_a_dialogue_is_read_once(lm):
    """The original read the whole history again for every turn."""
    read = []
    embedding = lm.base.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].numel()))
    predict(lm, DIALOGUES[2:], DecodingConfig(max_new_tokens=1))
    hook.remove()
    longest = max(len(p.input_ids) for p in _prompts(lm, DIALOGUES[2]))
    assert sum(read) <= longest + 6


def _prompts(lm, dialogue):
    from labkit.prompts import prompts

    return prompts(dialogue, lm.codec)


def test_stream_gives_what_generate_gives(lm, prompts):
    for config in (DecodingConfig(max_new_tokens=NEW), DecodingConfig("sample", max_new_tokens=NEW)):
        tokens = list(stream(lm, prompts[0], config))
        reply = generate(lm, [prompts[0]], config)[0]
        assert tokens[: len(reply)] == reply
        assert len(tokens) == len(reply) or tokens[-1] in lm.codec.stop_ids


def test_an_adapter_takes_part():
    """A decoder that unwraps peft's model must still go through the LoRA layers."""
    lm = tiny_models.language_model("neox")
    before = generate(lm, [[40, 41, 42]], DecodingConfig(max_new_tokens=8))
    tuned = attach_adapter(lm)
    for parameter in tuned.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    tuned.model.eval()
    assert generate(tuned, [[40, 41, 42]], DecodingConfig(max_new_tokens=8)) == [
        alone(tuned, [40, 41, 42], max_new_tokens=8)
    ]
    assert generate(tuned, [[40, 41, 42]], DecodingConfig(max_new_tokens=8)) != before


@pytest.mark.parametrize(("bits", "attention"), [(4, "sdpa"), (8, "sdpa"), (16, "sdpa"), (32, "eager")])
def test_quantised_and_half_precision_models_write(tmp_path, bits, attention):
    """The mask that keeps rows apart must fit every number type and attention kernel.

    In 8 bit a reply may depend on its neighbours: LLM.int8 takes the columns with outliers out of the whole batch.
    """
    lm = load_model(str(tiny_models.saved("llama", tmp_path)), bits=bits, device="cpu")
    lm.base.set_attn_implementation(attention)
    for config in (DecodingConfig(max_new_tokens=8), DecodingConfig("contrastive", 8, penalty_alpha=0.0)):
        replies = generate(lm, [[40, 41, 42, 43], [40, 41, 42], [50]], config)
        assert any(replies)
        assert bits == 8 or replies[2] == alone(lm, [50], max_new_tokens=8)
