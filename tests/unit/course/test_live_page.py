"""The model of the live page, run by Node: tokenizer, prompts, forward pass and random numbers are labkit's own.

What a person sees of it is in tests/browser/test_live_page.py.
"""

import base64
import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from node import NODE, run_node

from labkit.course.site import live
from labkit.course.site.live import SOURCES, exchanges_of
from labkit.course.site.packed import as_script, packed
from labkit.decoding.generate import next_token_logits
from labkit.models import load_model
from labkit.models.find import WEIGHTS
from labkit.prompts.build import prompts

ROOT = Path(__file__).parents[3]
MODEL = "mini-pythia-2m"
TOLERANCE = 1e-4  # of a logit, in float32; the largest difference seen is 2e-5

node = pytest.mark.skipif(NODE is None, reason="no Node on this machine")

ODD = [
    "",
    " ",
    "  two  spaces ",
    "a\tb\n\nc \r\n d",
    "it's  we'll I'D he's'd",
    "naïve café – “quotes” … 10€",
    "日本語のテキスト、です。",
    "👩‍👩‍👧 emoji 🏨🏨",
    "ｆｕｌｌ ｗｉｄｔｈ １２３ ⅷ ½",
    "a\u00a0b\u2003c\u200bd\ufeffe\u0085f",
    "العربية 12٣",
    "x" * 300,
    "\u0000\u001f\u007f",
    "user> hi<|endoftext|>bot> <|endoftext|",
    "'''s 'S 'll''ve",
    "…!?#$%&()*+,-./:;<=>@[\\]^_`{|}~",
    "e\u0301 combining",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs cases in one process of Node and returns their results."""

    def in_node(cases):
        folder = tmp_path_factory.mktemp("node")
        given, out = folder / "cases.json", folder / "out.json"
        given.write_text(json.dumps(cases), encoding="utf-8")
        script = ROOT / "tests" / "support" / "live_page.mjs"
        run_node(script, SOURCES, given, out=out)
        return json.loads(out.read_text(encoding="utf-8"))

    return in_node


@node
def test_a_node_that_does_not_end_is_ended_when_its_work_is_done(tmp_path, monkeypatch):
    """It waited for its own threads, and all tests for it."""
    monkeypatch.setattr("node.PATIENCE", 1)
    script = tmp_path / "stays.mjs"
    script.write_text("""
        import { writeFileSync } from "node:fs";
        console.log("what it prints");
        setInterval(() => {}, 1e6);
        writeFileSync(`${process.argv[2]}.done`, "");
    """)
    assert run_node(script, out=tmp_path / "out") == "what it prints\n"
    script.write_text('throw new Error("it failed")')
    with pytest.raises(AssertionError, match="it failed"):
        run_node(script, out=tmp_path / "out")


@pytest.fixture(scope="module")
def lm():
    return load_model(MODEL, bits=32)


def case(what, name=MODEL, **given):
    return {"what": what, "model": str(WEIGHTS / name), **given}


@node
def test_the_tokenizer_gives_the_same_ids(run, lm, miniwoz):
    words = [word for dialogue in miniwoz["test"][:30] for turn in dialogue.turns for word in [turn.utterance]]
    source = random.Random(1)
    mixed = ["".join(chr(source.choice([32, 39, 97, 115, 0x301, 0x663, 0x4E00, 0x1F600, 0x85])) for _ in range(12))]
    texts = [*ODD, *mixed, *words[:200]]
    every = [[token] for token in range(len(lm.tokenizer))]
    encoded, decoded, stop = run([case("encode", texts=texts), case("decode", ids=every), case("stop")])
    for text, found in zip(texts, encoded, strict=True):
        assert found == lm.tokenizer.encode(text, add_special_tokens=False), text
    assert decoded == lm.tokenizer.batch_decode(every)
    assert stop == lm.codec.stop_ids


@node
def test_a_prompt_is_labkits_own(run, lm, miniwoz):
    """Instruction, examples, a history that does not fit: token for token."""
    shots = miniwoz["train"][:1]
    settings = [
        {"max_length": 768},
        {"max_length": 60},
        {"max_length": 768, "instruction": " be  kind\nand short ", "shots": shots},
        {"max_length": 8},
    ]
    cases, expected = [], []
    for dialogue in miniwoz["test"][:4]:
        for one in settings:
            before = {"instruction": one.get("instruction", "")}
            before["shots"] = [exchanges_of(shot)["exchanges"] for shot in one.get("shots", [])]
            for prompt in prompts(dialogue, lm.codec, **one):
                exchanges = exchanges_of(dialogue)["exchanges"]
                given = {"turn": prompt.turn, "before": before, "room": one["max_length"]}
                cases.append(case("prompt", exchanges=exchanges, **given))
                expected.append(prompt.input_ids)
    assert run(cases) == expected


@pytest.mark.slow
@node
def test_logits_and_greedy_replies_are_pytorchs(run, lm, miniwoz):
    """20 tokens each, with the SIMD kernel; the plain one gives the same logits. 20 prompts in tests/browser."""
    turns = [prompts(dialogue, lm.codec) for dialogue in miniwoz["test"][20:30]]
    asked = [of_dialogue[number % 2].input_ids for number, of_dialogue in enumerate(turns)]
    greedy = run([case("greedy", ids=ids, n=20) for ids in asked])
    how = {"do_sample": False, "max_new_tokens": 20, "eos_token_id": None, "use_cache": True}
    for ids, found in zip(asked, greedy, strict=True):
        tensor = torch.tensor([ids])
        with torch.inference_mode():
            whole = lm.base.generate(tensor, attention_mask=torch.ones_like(tensor), **how)
        assert found == whole[0, len(ids) :].tolist()
    few = [*asked[:3], max(turns[0], key=lambda prompt: len(prompt.input_ids)).input_ids]
    simd = run([case("logits", ids=ids) for ids in few] + [case("kernel", plain=False)])
    plain = run([case("logits", ids=ids, plain=True) for ids in few] + [case("kernel", plain=True)])
    assert [simd.pop(), plain.pop()] == ["WebAssembly SIMD", "plain JavaScript"]
    exact = [next_token_logits(lm, ids) for ids in few]
    differences = [np.abs(np.subtract(found, exact)).max() for found in (simd, plain)]
    print(f"largest difference of a logit: {max(differences):.1e}")
    assert max(differences) < TOLERANCE


@node
def test_a_changed_reply_is_read_from_where_it_differs(run, lm):
    """The cache keeps what a fork and greedy's path have in common; a stale entry would change every logit after it."""
    prompt = lm.codec.encode("user> is there a hotel ?\nbot>")
    asked = [[*prompt, 50, 60, 70], [*prompt, 50, 61], [*prompt], [*prompt], [*prompt, 50, 60, 71, 72], prompt[:3]]
    found = run([case("logits", ids=ids) for ids in asked])
    for ids, one in zip(asked, found, strict=True):
        assert np.abs(np.subtract(one, next_token_logits(lm, ids))).max() < TOLERANCE


@pytest.mark.slow
@node
@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize(("width", "rotary", "tied"), [(64, 0.25, False), (32, 1.0, True), (36, 0.5, False)])
def test_pythias_own_shapes_work_too(run, tmp_path, parallel, width, rotary, tied):
    """pythia turns a quarter of each head; a width that is no multiple of 8 takes the plain kernel."""
    torch.manual_seed(1)
    config = transformers.GPTNeoXConfig(
        vocab_size=97,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4 if width != 36 else 3,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        rotary_pct=rotary,
        use_parallel_residual=parallel,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    model = transformers.GPTNeoXForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    ids = torch.randint(97, (1, 40), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model(ids).logits[0, -1].numpy()
    given = {"what": "logits", "model": str(tmp_path), "ids": ids[0].tolist()}
    (found,) = run([given])
    assert np.abs(np.subtract(found, expected)).max() < TOLERANCE


@node
def test_a_seed_draws_the_numbers_that_python_draws(run, lm):
    texts = [f"{seed}/{list(range(n))}/0" for seed, n in [(42, 3), (0, 0), (9999, 400), (1, 30), (2, 31), (3, 32)]]
    found = run([{"what": "draws", "text": text, "n": 700} for text in texts])
    for text, numbers in zip(texts, found, strict=True):
        source = random.Random(text)
        assert numbers == [source.random() for _ in range(700)]


@node
def test_what_the_page_cannot_run_is_refused_in_one_line(run, tmp_path):
    for name in ("model.safetensors", "config.json"):
        shutil.copy(WEIGHTS / "mini-pythia-500k" / name, tmp_path)
    long = {"what": "refused", "model": str(tmp_path), "ids": [1] * 1025}
    config = json.loads((tmp_path / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "model.safetensors", other)
    (other / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu_new"}))
    found = run([long, {"what": "refused", "model": str(other), "ids": [1]}])
    assert found == [
        "the model reads 1 to 1024 tokens, and this would be 1025",
        "this page runs gpt_neox with gelu, not gpt_neox with gelu_new",
    ]


@node
def test_the_error_function_is_exact(run):
    values = [x / 37 for x in range(-200, 201)]
    (found,) = run([{"what": "erf", "values": values}])
    assert max(abs(one - math.erf(value)) for one, value in zip(found, values, strict=True)) < 2e-8


@node
def test_weights_come_out_of_a_script_as_they_were_stored(run, tmp_path):
    """Every bit; of odd lengths, too, and where the last letter is not full."""
    stored = (WEIGHTS / "mini-pythia-500k" / "model.safetensors").read_bytes()
    source = random.Random(1)
    many = [stored, *(source.randbytes(n) for n in (0, 1, 2, 255, 40_001)), b"\x00" * 31, b"\xd8" * 31]
    cases = []
    for number, data in enumerate(many):
        content = json.dumps(packed(data), ensure_ascii=False)
        path = tmp_path / f"{number}.js"
        path.write_bytes(as_script(f"globalThis.decodingLabModels = {{one: {content}}}"))
        cases.append({"what": "unpacked", "script": str(path)})
    found = run(cases)
    assert [base64.b64decode(text) for text in found] == many
    assert (tmp_path / "0.js").stat().st_size < 0.89 * len(stored), "base64 would be 1.33"


@pytest.mark.slow
def test_the_page_loads_nothing_but_the_weights_beside_it(tmp_path):
    """No address of the outside, and a size that a phone can load."""
    written = live.write_live_page(tmp_path)
    assert [path.name for path in written] == ["decoding-lab.html", "mini-pythia-2m.js", "mini-pythia-8m.js"]
    page = written[0].read_text(encoding="utf-8")
    assert "src=" not in page.split('id="live-data"')[0] and "http" not in page.split('id="live-data"')[0]
    sizes = [path.stat().st_size for path in written]
    total = sum(sizes)
    print(f"{total / 1e6:.1f} MB in all, {sum(sizes[:2]) / 1e6:.1f} MB to begin with")
    assert total < 20e6
