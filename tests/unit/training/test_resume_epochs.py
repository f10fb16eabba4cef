"""A run that goes on is the one nobody stopped: in a later epoch, after its last step, from a damaged checkpoint."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import TINY, plain_corpus, tiny_lm

from labkit.corpora.types import Corpus
from labkit.errors import Interrupted, LabError
from labkit.storage import last_checkpoint
from labkit.training.config import FinetuneConfig
from labkit.training.data import EpochOrder
from labkit.training.record import finished
from labkit.training.run import finetune

# 10 rows in batches of 2: 5 steps an epoch, 12 steps in all
EPOCHS = replace(TINY, max_steps=12, save_steps=3, eval_steps=0, lora_dropout=0.1)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return plain_corpus()


def weights(out: Path) -> bytes:
    names = ("adapter_model.safetensors", "model.safetensors")
    return next((out / name).read_bytes() for name in names if (out / name).exists())


def stop_at(step: int):
    def watch(history):
        if history[-1]["step"] == step:
            signal.raise_signal(signal.SIGINT)

    return watch


KINDS = {
    "grouped by length": {},
    "not grouped": {"group_by_length": False},
    "in full": {"full_finetune": True, "lora_dropout": 0.0},
    "two passes a step": {"batch_size": 1, "gradient_accumulation_steps": 2},
}


IN_LATER_EPOCHS = [  # in the middle of the second; `make test-long` stops where the first and the second end, too
    pytest.param((7,), id="once"),
    pytest.param((5, 10), id="where an epoch ends", marks=[pytest.mark.long, pytest.mark.slow]),
]


@pytest.mark.slow
@pytest.mark.parametrize("steps", IN_LATER_EPOCHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_interrupted_in_a_later_epoch_goes_on_to_the_same_bytes(kind, steps, corpus, tmp_path):
    """The length-grouped order was drawn from torch's global generator: other rows from the second epoch on."""
    lm = tiny_lm()
    config = replace(EPOCHS, **KINDS[kind])
    finetune(lm, corpus, config, tmp_path / "whole")
    for step in steps:
        out = tmp_path / f"stopped at {step}"
        with pytest.raises(Interrupted):
            finetune(lm, corpus, config, out, watch=stop_at(step))
        torch.rand(step)  # whatever the session did in between
        finetune(lm, corpus, config, out)
        assert weights(out) == weights(tmp_path / "whole"), step


SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")
KEPT = ({}, {"eval_steps": 3, "metric_for_best_model": "loss"}, {"full_finetune": True})


def every_schedule_and_every_kind_once():
    """`make test-long` has each with each."""
    for schedule in SCHEDULES:
        for kept in KEPT:
            in_long = schedule != "constant" and kept
            yield pytest.param(schedule, kept, marks=[pytest.mark.long, pytest.mark.slow] if in_long else ())


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "kept"), list(every_schedule_and_every_kind_once()))
def test_killed_after_its_last_step_a_run_trains_no_further_step(schedule, kept, corpus, tmp_path):
    """Each further call trained one step more; with a constant rate the weights changed."""
    lm = tiny_lm()
    config = replace(TINY, lr_scheduler=schedule, **kept)
    whole = finetune(lm, corpus, config, tmp_path)
    before = weights(tmp_path)
    for _ in range(2):
        (tmp_path / "result.json").unlink()
        again = finetune(lm, corpus, config, tmp_path)
        assert weights(tmp_path) == before
        assert again.history == whole.history
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")) == [
        "checkpoint-4",
        "checkpoint-6",
    ]


@pytest.mark.slow
def test_a_result_without_its_weights_is_no_finished_run(corpus, tmp_path, capsys):
    """result.json there, weights gone: the call said done, and no adapter was there."""
    lm = tiny_lm()
    finetune(lm, corpus, TINY, tmp_path)
    before = weights(tmp_path)
    for damage in (lambda file: file.unlink(), lambda file: file.write_bytes(b"half")):
        damage(tmp_path / "adapter_model.safetensors")
        assert finished(tmp_path) is None
        finetune(lm, corpus, TINY, tmp_path)
        assert weights(tmp_path) == before


DAMAGES = {
    "optimiser cut": lambda folder: (folder / "optimizer.pt").write_bytes(b"PK"),
    "optimiser empty": lambda folder: (folder / "optimizer.pt").write_bytes(b""),
    "optimiser gone": lambda folder: (folder / "optimizer.pt").unlink(),
    "scheduler gone": lambda folder: (folder / "scheduler.pt").unlink(),
    "weights gone": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "weights empty": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b""),
    "state cut": lambda folder: (folder / "trainer_state.json").write_text('{"epoch"'),
    "random state gone": lambda folder: (folder / "rng_state.pth").unlink(),
}


@pytest.fixture(scope="module")
def whole_and_stopped(corpus, tmp_path_factory) -> tuple[Path, Path]:
    """The folders of a run that nobody stopped and of one that was stopped at step 7."""
    folder, lm = tmp_path_factory.mktemp("runs"), tiny_lm()
    finetune(lm, corpus, EPOCHS, folder / "whole")
    with pytest.raises(Interrupted):
        finetune(lm, corpus, EPOCHS, folder / "stopped", watch=stop_at(7))
    return folder / "whole", folder / "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_passed_over_and_the_one_before_it_taken(
    damage, corpus, whole_and_stopped, tmp_path
):
    whole, stopped = whole_and_stopped
    out = tmp_path / "damaged"
    shutil.copytree(stopped, out)
    newest = Path(last_checkpoint(out / "checkpoints"))
    DAMAGES[damage](newest)
    (out / "checkpoints" / "checkpoint-x").mkdir()
    assert Path(last_checkpoint(out / "checkpoints")) != newest
    finetune(tiny_lm(), corpus, EPOCHS, out)
    assert weights(out) == weights(whole)


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch():
    for lengths in (None, [5, 1, 9, 3, 7, 2, 8, 4, 6, 1]):
        order = EpochOrder(10, 42, lengths=lengths, rows_per_step=2)
        first = list(order)
        torch.manual_seed(1)
        assert list(order) == first and sorted(first) == list(range(10))
        order.set_epoch(1)
        assert list(order) != first
        assert list(EpochOrder(10, 43, lengths=lengths, rows_per_step=2)) != first


# --- a run and what it is told ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_learning_rate_of_0_trains_at_0(corpus, tmp_path):
    """`config.learning_rate or rate`: 0 was taken for "not given"."""
    result = finetune(tiny_lm(), corpus, replace(TINY, learning_rate=0.0), tmp_path)
    assert {row["learning_rate"] for row in result.history if "learning_rate" in row} == {0.0}
    assert json.loads((tmp_path / "run.json").read_text())["learning_rate"] == 0.0


@pytest.mark.slow
def test_a_warm_up_that_was_cut_is_recorded(corpus, tmp_path):
    config = replace(TINY, warmup_steps=100)
    finetune(tiny_lm(), corpus, config, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["warmup_steps"] == 1  # a fifth of 6 steps
    finetune(tiny_lm(), corpus, config, tmp_path)  # and is no other configuration


@pytest.mark.slow
def test_the_advice_after_out_of_memory_is_not_another_configuration(corpus, tmp_path, monkeypatch):
    """run.json was written before the step that failed, so the batch size that was advised was refused."""
    lm = tiny_lm()

    def full(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    config = replace(TINY, lora_dropout=0.1)  # with it, all rows of a batch are in memory at once
    with monkeypatch.context() as patch:
        patch.setattr("labkit.training.trainer.target_loss", full)
        with pytest.raises(LabError, match="batch_size=1, gradient_accumulation_steps=2"):
            finetune(lm, corpus, config, tmp_path)
    finetune(lm, corpus, replace(config, batch_size=1, gradient_accumulation_steps=2), tmp_path)
    with pytest.raises(LabError, match="another configuration"):
        finetune(lm, corpus, replace(config, batch_size=4), tmp_path)


@pytest.mark.slow
def test_memory_settings_may_change_in_the_middle_of_a_run(corpus, tmp_path):
    lm = tiny_lm()
    with pytest.raises(Interrupted):
        finetune(lm, corpus, EPOCHS, tmp_path, watch=stop_at(7))
    smaller = replace(EPOCHS, batch_size=1, gradient_accumulation_steps=2, gradient_checkpointing=True)
    assert finetune(lm, corpus, smaller, tmp_path).history[-1]["step"] == 12


@pytest.mark.slow
def test_a_finished_run_notices_another_own_score(corpus, tmp_path):
    lm = tiny_lm()
    config = replace(TINY, score_dialogues=1, metric_for_best_model="own")
    finetune(lm, corpus, config, tmp_path, own_score=lambda said: 1.0)
    finetune(lm, corpus, config, tmp_path, own_score=lambda said: 1.0)
    with pytest.raises(LabError, match="own_score"):
        finetune(lm, corpus, config, tmp_path, own_score=lambda said: 2.0)


@pytest.mark.slow
def test_a_second_run_of_a_finished_training_draws_its_figure(corpus, tmp_path):
    """The live figure stayed empty: a finished run returned before `watch` was called."""
    lm = tiny_lm()
    drawn = []
    first = finetune(lm, corpus, TINY, tmp_path)
    finetune(lm, corpus, TINY, tmp_path, watch=drawn.append)
    assert drawn == [first.history]


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_run(corpus, tmp_path):
    """--learning-rate 1e30: exit code 0, "done", and all weights not a number."""
    with pytest.raises(LabError, match="diverged"):
        finetune(tiny_lm(), corpus, replace(TINY, learning_rate=1e30, max_steps=20), tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_foreign_files_in_the_folder_are_not_published_as_a_run(corpus, tmp_path):
    """A folder best/ of somebody's was copied out as the adapter."""
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "thesis.tex").write_text("mine")
    with pytest.raises(LabError, match="did not write"):
        finetune(tiny_lm(), corpus, TINY, tmp_path)
    assert (tmp_path / "best" / "thesis.tex").read_text() == "mine"


CANNOT_BE = {
    "lora_r": [0, -1, 1.5, True],
    "lora_dropout": [1.0, 1.5, -0.1, float("nan")],
    "learning_rate": [-1.0, float("nan"), float("inf")],
    "lr_scheduler": ["moon", ""],
    "warmup_steps": [-5],
    "seed": [-1, 2**64],
    "max_dev_dialogues": [-1],
    "max_train_dialogues": [0, -1],
    "max_length": [0, -1, 1],
    "max_steps": [0, -1],
    "batch_size": [0],
    "eval_steps": [-1],
    "save_steps": [0],
    "weight_decay": [float("inf"), -1.0],
    "max_grad_norm": [float("nan")],
    "early_stopping_patience": [0],
    "train_split": ["test"],
    "format": ["novel"],
    "recipe": ["cake"],
    "init_lora_weights": ["magic"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CANNOT_BE.items() for value in values])
def test_a_setting_that_cannot_be_is_refused_before_work_begins(name, value, corpus, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(LabError):
        finetune(tiny_lm(), corpus, replace(TINY, **{name: value}), out)
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["null", "[]", "3", "{", '{"adapter": 1}'])
def test_a_damaged_record_of_a_run_is_one_line(text, corpus, tmp_path):
    lm = tiny_lm()
    finetune(lm, corpus, TINY, tmp_path)
    for name in ("run.json", "result.json"):
        shutil.copytree(tmp_path, tmp_path / name.split(".")[0], ignore=lambda *_: ["run", "result"])
        (tmp_path / name.split(".")[0] / name).write_text(text)
        with pytest.raises(LabError):
            finetune(lm, corpus, TINY, tmp_path / name.split(".")[0])


@pytest.mark.slow
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_a_stand_in_trains_is_scored_and_merges_at_any_bits(bits, miniwoz, tmp_path):
    """16 bits are the default on a GPU; trained embeddings are float32, and met layers of 16 bits."""
    from labkit.decoding.generate import next_token_logits
    from labkit.models import load_adapter, load_model, merge

    sizes = {"max_steps": 2, "batch_size": 2, "eval_steps": 2, "score_dialogues": 1, "max_dev_dialogues": 2}
    config = FinetuneConfig(model="mini-pythia-500k", bits=bits, max_length=64, max_train_dialogues=6, **sizes)
    result = finetune(None, miniwoz, config, tmp_path)
    assert "eval_bleu" in result.history[-1]
    assert json.loads((tmp_path / "run.json").read_text())["computes_in"] in ("bfloat16", "float32")
    tuned = load_adapter(load_model("mini-pythia-500k", bits=bits), tmp_path)
    assert next_token_logits(tuned, [5, 6, 7]).shape == next_token_logits(merge(tuned), [5, 6, 7]).shape


# --- killed at random -------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_kills_at_random_moments_over_three_epochs_give_the_same_bytes(corpus, tmp_path):
    from random_kills import main

    seed = int(os.environ.get("KILL_SEED", "20261127"))
    print(f"KILL_SEED={seed}")
    assert main(tmp_path, seed, corpus) == 0
