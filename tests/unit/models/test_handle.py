"""A handle tells the truth: ONE handle, used as a notebook uses it, in every order."""

import json
import signal
import struct
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import TINY, plain_corpus, tiny_lm

from labkit.corpora.types import Corpus
from labkit.decoding.generate import next_token_logits
from labkit.errors import Interrupted, LabError
from labkit.models import attach_adapter, load_adapter, load_model, merge, save_adapter
from labkit.models.gguf_header import Malformed, check_header
from labkit.models.layers import lora_targets
from labkit.models.shared_weights import second_tree
from labkit.training.run import finetune

PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return plain_corpus()


def state(lm) -> dict:
    """All that a handle must keep: modules, number types, what is trainable, mode and weights."""
    return {
        "modules": [(name, type(module).__name__, module.training) for name, module in lm.model.named_modules()],
        "types": [(name, p.dtype, p.requires_grad) for name, p in lm.model.named_parameters()],
        "hooks": [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in lm.model.modules()],
        "weights": [p.data.clone() for p in lm.model.parameters()],
        "logits": next_token_logits(lm, PROMPT),
    }


def assert_same(before: dict, after: dict) -> None:
    for what in ("modules", "types", "hooks"):
        assert before[what] == after[what], what
    assert all(torch.equal(a, b) for a, b in zip(before["weights"], after["weights"], strict=True))
    assert (before["logits"] == after["logits"]).all(), "the untuned logits are the same bits"


def stop(history):
    """The Stop button, pressed once: a second press would stop the notebook at once."""
    if history[-1]["step"] == 1 and "loss" in history[-1]:
        signal.raise_signal(signal.SIGINT)


def fail(*_):
    raise RuntimeError("the student's own error")


def out_of_memory(*_):
    raise torch.OutOfMemoryError("CUDA out of memory")


ENDS = {
    "done": {},
    "the stop button": {"watch": stop},
    "an error in watch": {"watch": fail},
    "out of memory": {"watch": out_of_memory},
    "an error in own_score": {"own_score": fail, "score_dialogues": 1, "metric_for_best_model": "own"},
}
KINDS = {
    "lora": {},
    "embeddings": {"train_embeddings": True},
    "checkpointing": {"gradient_checkpointing": True},
    "full": {"full_finetune": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_however_a_training_ends_its_handle_is_the_base_model_again(end, kind, corpus, tmp_path):
    lm = tiny_lm()
    before = state(lm)
    options = dict(ENDS[end])
    called = {name: options.pop(name) for name in ("watch", "own_score") if name in options}
    config = replace(TINY, max_steps=3, eval_steps=2, save_steps=1, **options, **KINDS[kind])
    if end == "done":
        finetune(lm, corpus, config, tmp_path, **called)
    else:
        with pytest.raises((LabError, RuntimeError)):
            finetune(lm, corpus, config, tmp_path, **called)
    assert_same(before, state(lm))
    assert not lm.has_adapter and lm.adapter is None


@pytest.mark.slow
def test_second_run_of_a_stopped_training_cell_goes_on(corpus, tmp_path):
    """Notebook 2: press Stop while it trains, run the cell again, with `base` loaded once further up."""
    lm = tiny_lm()
    with pytest.raises(Interrupted):
        finetune(lm, corpus, TINY, tmp_path / "stopped", watch=stop)
    stopped = finetune(lm, corpus, TINY, tmp_path / "stopped")
    whole = finetune(lm, corpus, TINY, tmp_path / "whole")
    files = [tmp_path / name / "adapter_model.safetensors" for name in ("stopped", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert stopped.history == whole.history


@pytest.mark.slow
def test_an_untuned_handle_answers_untuned_after_an_adapter_was_loaded_from_it(corpus, tmp_path):
    lm = tiny_lm()
    before = state(lm)
    finetune(lm, corpus, TINY, tmp_path / "a")
    tuned = load_adapter(lm, tmp_path / "a")
    other = attach_adapter(lm, r=4)
    merged = merge(tuned)
    assert abs(next_token_logits(tuned, PROMPT) - before["logits"]).max() > 1e-3
    assert abs(next_token_logits(merged, PROMPT) - next_token_logits(tuned, PROMPT)).max() < 1e-4
    other.model.train()
    assert_same(before, state(lm))
    assert lm.adapter is None and tuned.has_adapter and other.has_adapter and not merged.has_adapter
    with pytest.raises(LabError, match="already has"):
        attach_adapter(replace(tuned, adapter=None))  # the modules are asked, not the name


@pytest.mark.slow
def test_what_another_bot_of_the_same_name_has_learnt_is_taken_for_this_one_s(corpus, tmp_path):
    """A bot that was merged keeps the name of its model, and a run's folder knew its model by the name alone."""
    lm = tiny_lm()

    def bot(seed: int):
        config = replace(TINY, seed=seed, max_steps=2)
        return merge(load_adapter(lm, finetune(lm, corpus, config, tmp_path / f"seed {seed}").adapter))

    arm = finetune(bot(1), corpus, TINY, tmp_path / "arm")
    assert finetune(bot(1), corpus, TINY, tmp_path / "arm").history == arm.history  # made anew it is the same bot
    twice = merge(load_adapter(bot(1), arm.adapter))
    for other in (bot(2), lm, twice):
        with pytest.raises(LabError, match="another configuration: merged"):
            finetune(other, corpus, TINY, tmp_path / "arm")


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_quantised_or_16_bit_handle_is_not_changed_by_its_adapter(bits):
    """prepare_model_for_kbit_training casts norms and embeddings to float32 in place."""
    lm = load_model("mini-pythia-500k", bits=bits)
    before = state(lm)
    tuned = attach_adapter(lm, r=2)
    next_token_logits(tuned, PROMPT)
    assert_same(before, state(lm))


def test_two_trees_share_their_weights_and_nothing_else():
    lm = tiny_lm()
    other = second_tree(lm.model)
    pairs = list(zip(lm.model.parameters(), other.parameters(), strict=True))
    assert all(a is not b and a.data_ptr() == b.data_ptr() for a, b in pairs)
    assert not set(map(id, lm.model.modules())) & set(map(id, other.modules()))


# --- adapters from elsewhere ------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    lm = tiny_lm()
    tuned = attach_adapter(lm, r=2)
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter += 0.1
    save_adapter(tuned, tmp_path / "adapter")
    return lm, tmp_path / "adapter", load_file(tmp_path / "adapter" / "adapter_model.safetensors")


def changed(folder, tensors):
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_whose_tensors_have_other_names_is_refused_by_the_first_of_them(saved):
    """peft only warns: the model answers as the base, and the board names the adapter."""
    lm, folder, tensors = saved
    renamed = {name.replace("model.gpt_neox", "model.model.gpt_neox"): tensor for name, tensor in tensors.items()}
    some = dict(list(tensors.items())[:3])
    for wrong in (renamed, some, {}, tensors | {"base_model.model.nowhere.lora_A.weight": torch.ones(1)}):
        with pytest.raises(LabError, match=r"does not fit.*(lora_A|lora_B)"):
            load_adapter(lm, changed(folder, wrong))


def test_an_adapter_that_changes_nothing_is_said(saved, capsys):
    lm, folder, tensors = saved
    load_adapter(lm, folder)
    assert "changes nothing" not in capsys.readouterr().out
    zero = {name: tensor * (0 if "lora_B" in name else 1) for name, tensor in tensors.items()}
    load_adapter(lm, changed(folder, zero))
    assert "changes nothing" in capsys.readouterr().out


def test_weights_of_the_base_in_an_adapters_file_do_not_reach_the_base(saved):
    """peft writes resized embeddings beside the LoRA; loading them must not write into shared weights."""
    lm, folder, tensors = saved
    before = state(lm)
    embedding = lm.model.get_input_embeddings().weight
    name = "base_model.model.gpt_neox.embed_in.weight"
    tuned = load_adapter(lm, changed(folder, tensors | {name: torch.zeros_like(embedding)}))
    assert_same(before, state(lm))
    assert not tuned.base.get_input_embeddings().weight.any()


def test_a_pickled_adapter_is_refused_by_name(saved):
    lm, folder, _ = saved
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(LabError, match=r"adapter_model\.bin is a pickle"):
        load_adapter(lm, folder)


@pytest.mark.parametrize(
    "config", ['{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4, "task_type": "CAUSAL_LM"}', "[]", "{", "null"]
)
def test_an_adapter_that_the_lab_cannot_use_is_one_line(saved, config):
    """A prompt-learning adapter was loaded and then gone round: the board said tuned, the replies were untuned."""
    lm, folder, _ = saved
    (folder / "adapter_config.json").write_text(config)
    with pytest.raises(LabError):
        load_adapter(lm, folder)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["r", "lora_alpha", "target_modules", "peft_type", "task_type"])
@pytest.mark.parametrize("value", [0, -1, "x", [], {}, None, 10**30])
def test_nonsense_in_an_adapters_configuration_is_one_line_or_a_model(saved, field, value):
    lm, folder, _ = saved
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {field: value}))
    try:
        load_adapter(lm, folder)
    except LabError as error:
        assert "\n" not in str(error)


# --- models from elsewhere --------------------------------------------------------------------------------------------


def test_a_model_that_brings_python_of_its_own_is_not_run(tmp_path, monkeypatch):
    """transformers asks on the terminal whether to run it, and waits 15 s for an answer."""
    folder = stand_in_copy(tmp_path)
    edit(
        folder / "config.json",
        model_type="own_model",
        auto_map={"AutoConfig": "conf.C", "AutoModelForCausalLM": "conf.M"},
    )
    (folder / "conf.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(LabError, match="never run here"):
        load_model(str(folder))


def test_declared_sizes_are_held_to_the_weights(tmp_path):
    """100,000 layers took more than a minute to build before anything was said."""
    folder = stand_in_copy(tmp_path)
    edit(folder / "config.json", num_hidden_layers=100_000)
    with pytest.raises(LabError, match="declares 100000 layers"):
        load_model(str(folder))


def test_a_pad_token_without_a_row_is_not_used(tmp_path):
    from transformers import AutoTokenizer

    folder = stand_in_copy(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    lm = load_model(str(folder))
    assert lm.codec.pad_id < lm.base.get_input_embeddings().num_embeddings


@pytest.mark.slow
def test_a_pattern_for_modules_that_never_ends_is_one_line():
    with pytest.raises(LabError, match="takes too long"):
        lora_targets(tiny_lm().model, "(.|.)*[A-Z]")


GGUF = {
    "no pairs": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "a number": b"GGUF" + struct.pack("<IQQQ1sII", 3, 0, 1, 1, b"k", 4, 7),
    "a list": b"GGUF" + struct.pack("<IQQQ1sIIQ3B", 3, 0, 1, 1, b"k", 9, 0, 3, 1, 2, 3),
}
BAD_GGUF = {
    "empty": b"",
    "another file": b"PK\3\4" + b"0" * 60,
    "cut": b"GGUF\3\0",
    "many tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0),
    "many pairs": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60),
    "long key": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**60),
    "long list": b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 0, 2**60),
    "list in a list for ever": b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 9,
    "unknown type": b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 77),
}


@pytest.mark.parametrize("name", GGUF)
def test_a_gguf_header_that_fits_its_file_is_passed(name, tmp_path):
    (tmp_path / "a.gguf").write_bytes(GGUF[name])
    check_header(tmp_path / "a.gguf")


@pytest.mark.parametrize("name", BAD_GGUF)
def test_a_gguf_header_that_declares_more_than_the_file_holds_is_one_line(name, tmp_path):
    (tmp_path / "a.gguf").write_bytes(BAD_GGUF[name])
    with pytest.raises(Malformed):
        check_header(tmp_path / "a.gguf")
    with pytest.raises(LabError, match="no whole GGUF file"):
        load_model(str(tmp_path / "a.gguf"))


@pytest.mark.parametrize("name", ["", "a" * 5000, "a/" + "b" * 5000, "C:\\models\\x", "a\0b", "https://x/y", "../x"])
def test_a_name_that_can_be_no_model_is_one_line(name):
    with pytest.raises(LabError):
        load_model(name)
    with pytest.raises(LabError):
        load_adapter(tiny_lm(), name)


def stand_in_copy(tmp_path):
    import shutil

    from labkit.models.find import WEIGHTS

    return shutil.copytree(WEIGHTS / "mini-pythia-500k", tmp_path / "model")


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
