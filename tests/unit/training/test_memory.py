"""The memory plan: against what this CPU takes, and for models that it could not hold."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    Qwen2Config,
)

from labkit import plan_memory
from labkit.errors import LabError
from labkit.models import load_model
from labkit.models.layers import lora_targets
from labkit.notebook import plots
from labkit.training.advice import smaller
from labkit.training.alike_layers import alike_layers, shortened
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune

T4 = 15_800  # MB that a process can have of its 16 GB
SEVEN = LlamaConfig(hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=11008)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_plan_is_what_this_cpu_takes():
    """Traps: the output head's logits, the optimiser's state or trained embeddings forgotten. Measured: by how much
    the resident memory of a process grew, at its peak, while it loaded a model and made two optimiser steps."""
    script = Path(__file__).parents[2] / "support" / "measure_memory.py"
    root = str(script.parents[2])
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=280, env=env | {"PYTHONPATH": root}
    )
    rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"shape"')]
    shapes = [row for row in rows if row["shape"] != "warm-up"]
    assert len(shapes) == 3, run.stderr[-1000:]
    for row in shapes:
        assert row["planned"] == pytest.approx(row["measured"], rel=0.15), row


@pytest.mark.slow
def test_weights_adapter_and_optimiser_are_those_of_the_run(tmp_path, miniwoz):
    """Trap: a plan whose parts are right in sum only. The stand-in's embeddings are trained, too."""
    plan = plan_memory("mini-pythia-500k", bits=32, batch=2, length=128)
    lm = load_model("mini-pythia-500k")
    assert plan["weights"] == pytest.approx(4e-6 * lm.n_parameters)
    config = FinetuneConfig("mini-pythia-500k", max_steps=1, batch_size=2, max_length=128, eval_steps=0)
    run = finetune(lm, miniwoz, config, tmp_path)
    assert plan["adapter"] == plan["gradients"] == plan["optimiser"] / 2 == pytest.approx(4e-6 * run.trainable)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(("model", "billions"), [(SEVEN, 6.7), ("12b", 12.0)])
def test_large_models_on_a_t4(model, billions):
    """What QLoRA is for: in 16 bits the weights alone fill the card, in 4 bits a step fits."""
    if model == "12b":  # pythia's
        size = {"hidden_size": 5120, "num_hidden_layers": 36, "num_attention_heads": 40}
        model = GPTNeoXConfig(vocab_size=50688, intermediate_size=20480, **size)
    step = {"batch": 1, "length": 256, "dtype": "float16", "gradient_checkpointing": True}
    quantised = plan_memory(model, bits=4, **step)
    assert sum(quantised.values()) < T4
    assert 0.5 * billions < quantised["weights"] / 1000 < 0.75 * billions
    whole = plan_memory(model, bits=16, generate=True, batch=8, length=1024, dtype="float16")
    assert whole["weights"] == pytest.approx(2000 * billions, rel=0.02)
    # keys and values: 2 tensors, 2 bytes, hidden size, layers, tokens
    assert whole["cache"] == 2 * 2 * model.hidden_size * model.num_hidden_layers * 8 * 1024 / 1e6


@pytest.mark.slow
def test_less_memory_where_there_should_be_less():
    """Trap: a knob that changes nothing in the plan."""

    def total(**change):
        return sum(plan_memory("mini-pythia-500k", **({"bits": 32, "batch": 4, "length": 128} | change)).values())

    plain = total()
    for change in ({"bits": 4}, {"gradient_checkpointing": True}, {"batch": 2}, {"length": 64}, {"optim": "sgd"}):
        assert total(**change) < plain, change
    for change in ({"full_finetune": True, "target_share": 1.0}, {"r": 64}, {"modules": "linear", "use_dora": True}):
        assert total(**change) > plain, change


SMALL = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 300}
TRAINED = {"lora": {}, "a LoRA, layers computed again": {"r": 32, "gradient_checkpointing": True}}
TRAINED |= {"all": {"full_finetune": True}, "all, one token": {"full_finetune": True, "batch": 1, "length": 1}}


@pytest.mark.parametrize("step", [*TRAINED.values(), {"generate": True}], ids=[*TRAINED, "writing"])
@pytest.mark.parametrize("family", [GPTNeoXConfig, pytest.param(LlamaConfig, marks=pytest.mark.long)])
def test_a_plan_from_a_few_layers_is_the_plan_of_all(monkeypatch, family, step):
    """Trap: a peak that lies elsewhere with more layers. With one token gradients outweigh what is kept of a layer."""
    step = {"bits": 32, "batch": 2, "length": 24} | step
    config = family(**SMALL, num_hidden_layers=9)
    ran = []
    monkeypatch.setattr("labkit.training.memory_plan.shortened", lambda *how: ran.append(how) or shortened(*how))
    plan = plan_memory(config, **step)
    assert [n_layers for _, _, n_layers in ran] == [2, 4]
    monkeypatch.setattr("labkit.training.memory_plan.alike_layers", lambda *_: None)
    assert plan == plan_memory(config, **step)


@pytest.mark.parametrize(
    ("family", "change", "modules"),
    [
        (Qwen2Config, {"use_sliding_window": True, "max_window_layers": 5, "sliding_window": 8}, "linear"),
        (Gemma2Config, {"head_dim": 8}, "linear"),
        (LlamaConfig, {}, r"layers\.[01]\."),
        (LlamaConfig, {"num_hidden_layers": 4}, "linear"),
    ],
)
def test_layers_that_differ_are_all_run(family, change, modules):
    """A window in some of them, a LoRA in two of them: two layers say nothing about the others."""
    config = family(**SMALL | {"num_hidden_layers": 12} | change)
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config)
    assert alike_layers(net, lora_targets(net, modules)) is None


STEPS = [{}, {"full_finetune": True}, {"gradient_checkpointing": True, "train_embeddings": True}, {"generate": True}]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", tiny_models.CASES)
def test_every_architecture_has_the_plan_of_all_its_layers(monkeypatch, name):
    """Trap: a family whose layers differ where nobody looks. Nine layers; where they differ, all are run twice."""
    model_type, settings = tiny_models.CASES[name]
    depth = {"num_hidden_layers": 9, "hidden_size": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    for key, value in settings.items():
        if key in ("layer_types", "block_types", "no_rope_layers"):
            depth[key] = (value * 9)[:9]
        elif key in ("n_layer", "n_layers"):
            depth[key] = 9
        elif key == "attention_types":
            depth[key] = [[value[0][0], 9 // len(value[0][0])]]
    if name == "GPT-Neo, local":
        depth["attention_types"] = [[["global", "local", "local"], 3]]
    config = AutoConfig.for_model(model_type, **SMALL | settings | depth)
    for step in STEPS:
        plans = []
        for find in (alike_layers, lambda *_: None):
            monkeypatch.setattr("labkit.training.memory_plan.alike_layers", find)
            try:
                plans.append(plan_memory(config, bits=32, batch=2, length=16, **step))
            except LabError as error:  # an architecture that does not run on the meta device
                plans.append(error.what)
        assert plans[0] == plans[1], step


def test_a_lora_in_some_layers_only_is_planned_in_these(monkeypatch):
    monkeypatch.setattr("labkit.training.memory_plan.shortened", lambda *_: pytest.fail("two layers stand for eleven"))
    config = LlamaConfig(**SMALL, num_hidden_layers=11)
    step = {"bits": 32, "batch": 1, "length": 4}
    two, one = (plan_memory(config, **step, layers_to_transform=layers)["adapter"] for layers in ([0, 7], [3]))
    assert two == 2 * one > 0


def test_no_configuration_is_one_line():
    with pytest.raises(LabError, match="LlamaConfig"):
        plan_memory("nobody/has-this-model")


def test_the_bar_shows_every_part_and_the_card():
    shown = plots.memory({"QLoRA": {"weights": 4, "adapter": 1}, "LoRA": {"weights": 14}}, limits={"T4": 15})
    assert [bar.name for bar in shown.data] == ["weights", "adapter"] and shown.layout.barmode == "stack"
    assert [line.y0 for line in shown.layout.shapes] == [15]


def test_an_architecture_that_cannot_be_planned_is_one_line_and_does_not_hide_running_out(tmp_path, monkeypatch):
    """Trap: advice for one error that ends in another. OPT looks into its mask, and a meta tensor has no numbers."""
    size = {"hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_attention_heads": 2, "vocab_size": 128}
    config = OPTConfig(**size, num_hidden_layers=1)
    with pytest.raises(LabError, match="no memory plan for opt models"):
        plan_memory(config, bits=32, batch=1, length=16)
    lm = load_model("mini-pythia-500k")
    monkeypatch.setattr(
        "labkit.training.advice.planned_megabytes", lambda *_: plan_memory(config, bits=32, batch=1, length=16)
    )
    assert smaller(lm, FinetuneConfig()).startswith("choose a smaller batch_size")
