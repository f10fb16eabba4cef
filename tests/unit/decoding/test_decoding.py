"""Decoding: a batch writes what each prompt would get alone, and settings that make no sense are explained."""

import os
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from labkit.corpora.types import BOT, USER, Dialogue, Turn
from labkit.decoding import filters
from labkit.decoding.config import DecodingConfig, transformers_call, transformers_options
from labkit.decoding.filters import choose, filter_stages, remaining
from labkit.decoding.generate import generate, next_token_logits, reply_steps, stream
from labkit.decoding.limits import find_max_batch
from labkit.decoding.predict import answer, predict
from labkit.decoding.rows import Row
from labkit.decoding.speculative import speculative
from labkit.decoding.tree import Tree
from labkit.errors import LabError
from labkit.models import attach_adapter, load_model
from labkit.models.finite import check_finite
from labkit.models.likelihood import log_probability_of, read_once
from labkit.prompts.build import prompt_of_turn
from labkit.prompts.build import prompts as prompts_of
from labkit.prompts.format import exchanges

NEW = 12


@pytest.fixture(scope="module", params=["neox", pytest.param("llama", marks=pytest.mark.long)])
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


@pytest.fixture(scope="module")
def greedy_alone(lm, prompts):
    return [alone(lm, prompt) for prompt in prompts]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_greedy_batch_equals_one_at_a_time(lm, prompts, greedy_alone, batch_size):
    """Right-padded batched generation gave 23 of 32 continuations that the prompt alone would not have got."""
    replies = generate(lm, prompts, DecodingConfig(max_new_tokens=NEW, batch_size=batch_size))
    assert replies == greedy_alone
    assert len({len(reply) for reply in replies}) > 3, "the rows should leave at different times"


@pytest.mark.slow
def test_repetition_penalty_counts_the_rows_own_tokens(lm, prompts):
    """Padding must not be penalised, nor the tokens of another row of the same trunk."""
    config = DecodingConfig(max_new_tokens=NEW, repetition_penalty=1.5)
    assert generate(lm, prompts, config) == [alone(lm, prompt, repetition_penalty=1.5) for prompt in prompts]


@pytest.mark.slow
@pytest.mark.parametrize(("beams", "settings"), [(2, {}), (4, {"repetition_penalty": 1.3}), (3, {"min_new_tokens": 5})])
def test_beam_search_equals_one_at_a_time(lm, prompts, beams, settings):
    """Scores over length, how long a finished reply may be challenged, and what the end of the reply counts as."""
    replies = generate(
        lm, prompts, DecodingConfig("beam", max_new_tokens=NEW, num_beams=beams, batch_size=8, **settings)
    )
    assert replies == [alone(lm, prompt, num_beams=beams, max_new_tokens=NEW, **settings) for prompt in prompts]
    assert len({len(reply) for reply in replies}) > 3, "some should stop, and some be cut"


@pytest.mark.slow
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


@pytest.mark.slow
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
        ({"min_new_tokens": 65}, "above max_new_tokens=64"),
        ({"strategy": "sample", "temperature": float("nan")}, "temperature=nan"),
        ({"strategy": "sample", "temperature": float("inf")}, "(0, inf)"),
        ({"strategy": "sample", "top_k": 5.0}, "whole number"),
        ({"strategy": "sample", "top_p": float("nan")}, "(0, 1]"),
        ({"strategy": "sample", "top_p": None}, "a number"),
        ({"strategy": "beam", "num_beams": 100_000}, "[1, 256]"),
        ({"repetition_penalty": 1e-300}, "[0.01, 100]"),
        ({"repetition_penalty": float("inf")}, "[0.01, 100]"),
        ({"max_new_tokens": "64"}, "whole number"),
        ({"seed": -1}, "seed=-1"),
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


@pytest.mark.parametrize("prompt", ["some text", None, 3, ["x"], [None], [1.5], [[1]]])
def test_a_prompt_that_is_no_list_of_token_ids_is_one_line(lm, prompt):
    """Text that nobody encoded, and None, were a ValueError and a TypeError from deep inside."""
    for act in (
        lambda: generate(lm, [prompt]),
        lambda: list(stream(lm, prompt)),
        lambda: next_token_logits(lm, prompt),
        lambda: read_once(lm, prompt),
        lambda: log_probability_of(lm, prompt, [5]),
        lambda: log_probability_of(lm, [5], prompt),
        lambda: speculative(lm, None, prompt, DecodingConfig()),
    ):
        with pytest.raises(LabError, match="a prompt is a list of token ids"):
            act()


@pytest.mark.parametrize("token", [-1, 10**6, 10**30])
def test_a_token_that_the_model_does_not_have_is_one_line(lm, token):
    """It was an IndexError from inside of torch."""
    with pytest.raises(LabError, match="the model has no such token"):
        generate(lm, [[5], [5, token]])
    with pytest.raises(LabError, match="the model has no such token"):
        next_token_logits(lm, [token])
    with pytest.raises(LabError, match="the model has no such token"):
        read_once(lm, [token])
    with pytest.raises(LabError, match="the model has no such token"):
        log_probability_of(lm, [5], [token])


@pytest.mark.parametrize("name", ["Mistral", "Gemma 3", "gpt-oss"])
def test_contrastive_search_sees_no_more_than_the_window(name):
    """The candidates stand side by side behind the context: a window that counts columns would cut it short."""
    lm = tiny_models.case(name)
    rnd = random.Random(2)
    sequence = [rnd.randrange(1, 290) for _ in range(24)]
    some = [sequence, sequence[:17]]
    with torch.inference_mode():
        expected = [contrastive_reference(lm, prompt, 3, 0.4, 4) for prompt in some]
    config = DecodingConfig("contrastive", max_new_tokens=4, top_k=3, penalty_alpha=0.4)
    assert generate(lm, some, config) == expected


def test_more_candidates_than_tokens_are_one_line(lm):
    with pytest.raises(LabError, match="top_k"):
        generate(lm, [[5, 6]], DecodingConfig("contrastive", top_k=100_000))
    sample = DecodingConfig("sample", top_k=100_000, max_new_tokens=2, min_new_tokens=2)
    assert len(generate(lm, [[5, 6]], sample)[0]) == 2, "in sampling it keeps them all"


def test_a_whole_number_is_a_temperature(lm):
    """transformers asks for a float, and says so with a page."""
    config = DecodingConfig("sample", temperature=2, top_p=1, repetition_penalty=2, max_new_tokens=4)
    same = DecodingConfig("sample", temperature=2.0, repetition_penalty=2.0, max_new_tokens=4)
    assert generate(lm, [[5, 6]], config) == generate(lm, [[5, 6]], same)


@pytest.mark.parametrize("temperature", [1e-40, 1e-300, 1e-6])
def test_a_temperature_near_zero_is_greedy_and_not_token_zero(lm, prompts, temperature):
    """Logits divided by it overflowed, and NaN was drawn from: token 0, silently."""
    cold = DecodingConfig("sample", temperature=temperature, max_new_tokens=NEW)
    assert generate(lm, prompts, cold) == generate(lm, prompts, DecodingConfig(max_new_tokens=NEW))


# --- numbers that are none --------------------------------------------------------------------------------------------


def broken(architecture: str, value: float, dtype=torch.float32):
    """A model that computes `value` for one token, as float16 does when a state is above 65,504."""
    lm = tiny_models.language_model(architecture) if architecture in tiny_models.ARCHITECTURES else None
    lm = lm or tiny_models.case(architecture)
    lm.model.to(dtype)
    with torch.no_grad():
        lm.base.get_output_embeddings().weight[7, 0] = value
    return lm


@pytest.mark.parametrize("architecture", ["neox", "llama", "Mistral", "BLOOM", "Mamba"])
@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam", "contrastive"])
def test_logits_that_are_not_finite_end_in_one_line(architecture, strategy):
    """An overflow gave token 0, silently: an empty reply, and a score of 0 on the board."""
    lm = broken(architecture, float("nan"))
    if strategy == "contrastive" and architecture in ("BLOOM", "Mamba"):
        pytest.skip("these have no contrastive search")
    with pytest.raises(LabError, match=r"not finite.*float32") as error:
        generate(lm, [[40, 41, 42], [50]], DecodingConfig(strategy, max_new_tokens=3))
    assert "load the model anew" in str(error.value)


def test_an_overflow_names_the_number_type_and_what_to_try():
    lm = broken("neox", 6e4, torch.float16)
    with torch.no_grad():
        lm.base.get_output_embeddings().weight[7] = (
            6e4 * lm.base.gpt_neox(torch.tensor([[5, 6]])).last_hidden_state[0, -1].sign()
        )
    calls = {
        "generate": lambda: generate(lm, [[5, 6]], DecodingConfig(max_new_tokens=2)),
        "stream": lambda: list(stream(lm, [5, 6], DecodingConfig(max_new_tokens=2))),
        "next_token_logits": lambda: next_token_logits(lm, [5, 6]),
        "speculative": lambda: speculative(lm, None, [5, 6], DecodingConfig(max_new_tokens=2)),
    }
    for name, call in calls.items():
        with pytest.raises(LabError, match=r"float16 ends at 65,504.*bits=32"):
            pytest.fail(f"{name} gave {call()}")


def test_a_token_that_the_model_forbids_is_no_overflow(lm):
    logits = torch.tensor([[0.0, -torch.inf, 1.0]])
    check_finite(logits, lm)
    for wrong in ([[0.0, torch.inf]], [[0.0, torch.nan]], [[-torch.inf, -torch.inf]]):
        with pytest.raises(LabError, match="not finite"):
            check_finite(torch.tensor(wrong), lm)


class AppleTensor:
    """Scores on an Apple GPU, which has no float64."""

    device = torch.device("mps")

    def __init__(self, values):
        self.values = values

    def cpu(self):
        return self.values

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")


def test_sampling_works_on_an_apple_gpu():
    """Notebook 1's sampling cells failed on every Mac: the draw was made in float64 on the device."""
    scores = torch.randn(6, 50)
    on_a_mac, here = ([Row(i, [1], random.Random(i)) for i in range(6)] for _ in range(2))
    sample = DecodingConfig("sample")
    assert choose(AppleTensor(scores), on_a_mac, sample) == choose(scores, here, sample)


# --- work that is done once -------------------------------------------------------------------------------------------


def test_only_the_repetition_penalty_reads_the_history(lm, prompts, monkeypatch):
    """Every filter of every step was made anew and got a list of all ids so far."""
    asked, made = [], []
    sequences, make = Tree.sequences, filters.make_filters
    monkeypatch.setattr(Tree, "sequences", lambda tree: asked.append(1) or sequences(tree))
    monkeypatch.setattr(filters, "make_filters", lambda config: made.append(1) or make(config))
    generate(lm, prompts[:3], DecodingConfig("sample", max_new_tokens=NEW, top_k=5, top_p=0.9, temperature=0.9))
    assert not asked and len(made) == 1
    generate(lm, prompts[:3], DecodingConfig(max_new_tokens=NEW, min_new_tokens=NEW, repetition_penalty=1.2))
    assert len(asked) == NEW


@pytest.mark.slow
def test_a_turn_of_a_long_dialogue_is_not_built_from_its_beginning(lm, monkeypatch):
    """A whole dialogue was built for its last prompt, at every turn: quadratic in its turns."""
    build = import_module("labkit.prompts.build")
    built, exchange_at = [], build.exchange_at
    monkeypatch.setattr(build, "exchange_at", lambda *args: built.append(1) or exchange_at(*args))
    long = [dialogue("LONG", 16)]
    predict(lm, long, DecodingConfig(max_new_tokens=2), format="state", max_length=80)
    from_the_beginning = 16 * 17 // 2
    assert 16 <= len(built) <= 16 * 6 < from_the_beginning


# --- the same by transformers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam", "contrastive"])
def test_a_reply_can_be_forced_to_a_length(lm, prompts, strategy):
    """The old notebook said "forbid the newline" and forbade nothing: a reply ended where it liked."""
    free = generate(lm, prompts[:4], DecodingConfig(strategy, max_new_tokens=9))
    forced = generate(lm, prompts[:4], DecodingConfig(strategy, max_new_tokens=9, min_new_tokens=9))
    assert min(map(len, free)) < 9 and [len(reply) for reply in forced] == [9] * 4
    if strategy == "greedy":
        assert forced == [alone(lm, prompt, max_new_tokens=9, min_new_tokens=9) for prompt in prompts[:4]]


def test_the_printed_call_of_transformers_writes_the_same(lm, prompts):
    """What a student pastes has to run; names of arguments change from release to release."""
    for config in (
        DecodingConfig(max_new_tokens=NEW, repetition_penalty=1.3),
        DecodingConfig("beam", max_new_tokens=8),
    ):
        ids = torch.tensor([prompts[0]])
        names = {"lm": lm, "ids": ids, "mask": torch.ones_like(ids), "torch": torch}
        assert transformers_call(config).count("lm.base.generate") == 1
        written = eval(transformers_call(config), names)[0, len(prompts[0]) :].tolist()
        reply = generate(lm, [prompts[0]], config)[0]
        assert written[: len(reply)] == reply
    assert transformers_call(DecodingConfig("contrastive")).startswith("# transformers 5 has no contrastive search")


def test_sampling_options_leave_what_the_filters_leave(lm, prompts):
    """transformers' own default of top_k is 50: options that leave it out cut 50304 tokens to 50."""
    config = DecodingConfig("sample", max_new_tokens=1, temperature=5.0, top_p=0.97)
    options = {"output_scores": True, "return_dict_in_generate": True, **transformers_options(config)}
    ids = torch.tensor([prompts[0]])
    options |= {"attention_mask": torch.ones_like(ids), "pad_token_id": 0, "eos_token_id": lm.codec.stop_ids}
    out = lm.base.generate(ids, **options)
    logits = next_token_logits(lm, prompts[0])
    ours = remaining(logits, filter_stages(logits, config))
    assert (ours > 0).sum() > 50
    np.testing.assert_allclose(out.scores[0][0].softmax(-1).numpy(), ours, atol=1e-5)


def test_steps_say_from_how_many_tokens_each_was_drawn(lm, prompts):
    """Filters of step t look at the reply so far: a penalty for the prompt alone would give other candidates."""
    config = DecodingConfig("sample", max_new_tokens=NEW, top_k=5, repetition_penalty=1.5)
    steps = reply_steps(lm, prompts[0], config)
    assert [step.token for step in steps] == list(stream(lm, prompts[0], config))
    assert {step.candidates for step in steps} == {5}
    for at, step in enumerate(steps):
        context = [*prompts[0], *(s.token for s in steps[:at])]
        left = filter_stages(next_token_logits(lm, context), config, context)[-1].probabilities
        assert step.probability == pytest.approx(float(left[step.token]), abs=1e-4) and step.probability > 0
        assert step.entropy == pytest.approx(-sum(p * np.log2(p) for p in left if p > 0), abs=1e-3)
    assert {step.candidates for step in reply_steps(lm, prompts[0], DecodingConfig(max_new_tokens=3))} == {1}


# --- what the machine allows ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 37, 64, 99])
def test_the_largest_batch_is_found_between_what_fits_and_what_does_not(lm, monkeypatch, most):
    """A search by doubling alone says 32 where 37 fit; one that stops at the first error has lost the kernel."""
    module = import_module("labkit.decoding.generate")
    original, tried = module.write_batch, []

    def crowded(lm, groups, config):
        tried.append(sum(map(len, groups)))
        if tried[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(lm, groups, config)

    monkeypatch.setattr(module, "write_batch", crowded)
    best, speeds = find_max_batch(lm, prompt_tokens=4, new_tokens=2, limit=64)
    assert best == min(most, 64) and tried[:2] == [1, 2]
    assert {rows for rows, speed in speeds.items() if not speed} == {rows for rows in tried if rows > most}
    assert sorted(set(tried)) == list(speeds), "every try is one batch of that many rows"


CROWDED = """
import resource, tiny_models
from labkit.decoding import DecodingConfig, find_max_batch, generate

lm, most = tiny_models.language_model("neox"), 1024
size = {"prompt_tokens": 400, "new_tokens": 2}
find_max_batch(lm, limit=1, **size)  # what is loaded on first use is not counted
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
best, speeds = find_max_batch(lm, limit=most, **size)
assert 1 <= best < most and speeds[best] and not speeds[best + 1], speeds
print(len(generate(lm, [[5]], DecodingConfig(max_new_tokens=3, min_new_tokens=3))[0]))
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_memory_that_runs_out_for_real_is_recovered_from():
    """A made-up error is caught where a real one, which holds on to its tensors, would end the search or the kernel."""
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    run = subprocess.run([sys.executable, "-c", CROWDED], env=os.environ | paths, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.strip() == "3", run.stderr[-2000:]


def test_another_error_is_not_taken_for_a_lack_of_memory(lm):
    with pytest.raises(LabError, match="512 tokens"):
        find_max_batch(lm, prompt_tokens=510, new_tokens=8, limit=2)


# --- replies to a corpus ----------------------------------------------------------------------------------------------


def dialogue(name: str, n: int) -> Dialogue:
    words = ["i", "want", "a", "cheap", "hotel", "in", "the", "north"]
    said = [" ".join(words[: (i + len(name)) % 7 + 2]) for i in range(2 * n)]
    turns = [Turn(BOT if i % 2 else USER, text, {"hotel": {"area": "north"}}) for i, text in enumerate(said)]
    return Dialogue(f"{name}.json", ("hotel",), turns)


DIALOGUES = [dialogue("MUL1", 4), dialogue("SNG22", 1), dialogue("PMUL333", 6)]


HOTELS = {"hotel": [{"name": "a", "area": "north", "stars": "4"}, {"name": "b", "area": "north", "stars": "3"}]}


@pytest.mark.parametrize("format", ["turns", *(pytest.param(name, marks=pytest.mark.slow) for name in ("state", "db"))])
def test_predict_answers_every_turn_whatever_the_batch(lm, format):
    config = DecodingConfig("sample", max_new_tokens=6, batch_size=2)
    parts = []
    predictions = predict(lm, DIALOGUES, config, format=format, database=HOTELS, on_batch=parts.append)
    assert {key: len(turns) for key, turns in predictions.items()} == {"mul1": 4, "sng22": 1, "pmul333": 6}
    assert list(predictions) == ["mul1", "sng22", "pmul333"], "in the order of the corpus"
    assert {key: turns for part in parts for key, turns in part.items()} == predictions
    assert all(("state" in turn) == (format != "turns") for turns in predictions.values() for turn in turns)
    other = DecodingConfig("sample", 6, batch_size=64)
    assert predict(lm, DIALOGUES[::-1], other, format=format, database=HOTELS) == predictions


@pytest.mark.parametrize("max_length", [0, -1])
def test_no_room_for_a_prompt_is_refused_before_work_begins(lm, max_length):
    with pytest.raises(LabError, match=f"max_length={max_length}"):
        predict(lm, DIALOGUES, max_length=max_length)


def test_an_answer_is_to_the_last_user_turn_even_if_nobody_answered_it(lm):
    """It went to the last exchange, and a user turn at the end was not heard."""
    heard = Dialogue("A", (), [*DIALOGUES[0].turns, Turn(USER, "a hotel in the north")])
    answered = Dialogue("A", (), [*heard.turns, Turn(BOT, "")])
    config = DecodingConfig(max_new_tokens=4)
    assert answer(lm, heard, config) == answer(lm, answered, config)
    shorter = Dialogue("A", (), DIALOGUES[0].turns)
    assert prompt_of_turn(heard, lm.codec).input_ids != prompt_of_turn(shorter, lm.codec).input_ids


def test_no_annotated_state_is_in_the_history_of_a_predicted_one(tiny_lm, monkeypatch):
    """With the true state of the turn before in the prompt, a model that copies it looks like a good state tracker."""
    lm, read = tiny_lm, []
    written = lm.codec.encode(" hotel stars=4")

    def generate(lm, prompts, config, *, keys, kept=(), on_batch=None):
        read.extend(lm.tokenizer.decode(ids) for ids in prompts)
        return [written if key.endswith("state") else lm.codec.encode(" ok") for key in keys]

    monkeypatch.setattr(import_module("labkit.decoding.predict"), "generate", generate)
    predictions = predict(lm, DIALOGUES, format="state")
    assert predictions["mul1"] == [{"response": "ok", "state": {"hotel": {"stars": "4"}}}] * 4
    assert not [prompt for prompt in read if "area=north" in prompt]
    assert max(prompt.count("state> hotel stars=4") for prompt in read) == 6, "its own states are what it reads"
    read.clear()
    predict(lm, DIALOGUES, format="state", own_states=False)
    assert max(prompt.count("state> hotel area=north") for prompt in read) == 5


@pytest.mark.parametrize("own_states", [True, False])
def test_what_the_written_state_finds_stands_before_the_reply(tiny_lm, monkeypatch, own_states):
    """The look-up of the annotated state would tell the bot what it did not understand."""
    lm, read = tiny_lm, []
    written = lm.codec.encode(" hotel stars=4")

    def generate(lm, prompts, config, *, keys, kept=(), on_batch=None):
        read.extend(lm.tokenizer.decode(ids) for key, ids in zip(keys, prompts, strict=True) if "state" not in key)
        return [written if key.endswith("state") else lm.codec.encode(" ok") for key in keys]

    monkeypatch.setattr(import_module("labkit.decoding.predict"), "generate", generate)
    predict(lm, DIALOGUES, format="db", database=HOTELS, own_states=own_states)
    assert len(read) == 11
    for prompt in read:
        *history, last = prompt.split("user> ")[1:]
        assert last.endswith("\nstate> hotel stars=4\ndb> hotel 1\nbot>")
        expected = "state> hotel stars=4\ndb> hotel 1\n" if own_states else "state> hotel area=north\ndb> hotel 2\n"
        assert all(expected in earlier for earlier in history)


def test_a_tracked_state_is_looked_up_too(tiny_lm, monkeypatch):
    read = []
    module = import_module("labkit.decoding.predict")
    monkeypatch.setattr(module, "generate", lambda lm, prompts, config: read.extend(prompts) or [[]])
    answer(tiny_lm, DIALOGUES[0], state={"hotel": {"area": "south"}}, format="db", database=HOTELS)
    assert tiny_lm.tokenizer.decode(read[0]).endswith("state> hotel area=south\ndb> hotel 0\nbot>")


@pytest.mark.parametrize("database", [None, {}])
def test_a_bot_that_looks_things_up_needs_a_database(tiny_lm, database):
    for ask in (lambda **how: predict(tiny_lm, DIALOGUES, **how), lambda **how: answer(tiny_lm, DIALOGUES[0], **how)):
        with pytest.raises(LabError, match=r"db format .* no database"):
            ask(format="db", database=database)


def test_worked_examples_stand_before_the_history_and_are_not_cut(lm):
    """An example that truncation drops is one that the score says nothing about."""
    asked = prompts_of(DIALOGUES[2], lm.codec, max_length=200, instruction="be brief", shots=DIALOGUES[:1])
    segments = [segment.text for exchange in exchanges(DIALOGUES[0]) for segment in exchange]
    head = lm.codec.prefix + [token for text in ["be brief\n", *segments] for token in lm.codec.encode(text)]
    assert all(prompt.input_ids[: len(head)] == head for prompt in asked)
    config = DecodingConfig(max_new_tokens=4)
    expected = [lm.codec.decode(ids) for ids in generate(lm, [prompt.input_ids for prompt in asked], config)]
    written = predict(lm, DIALOGUES[2:], config, max_length=200, instruction="be brief", shots=DIALOGUES[:1])
    assert [turn["response"] for turn in written["pmul333"]] == expected


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
    longest = max(len(p.input_ids) for p in prompts_of(DIALOGUES[2], lm.codec))
    assert sum(read) <= longest + 6


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
