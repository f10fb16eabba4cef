"""A sweep: every model once, whatever happens to the others, and never two in memory."""

import gc
import json
import time
import weakref
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import family

from labkit.decoding.config import DecodingConfig
from labkit.errors import Interrupted, LabError
from labkit.prompts.build import examples
from labkit.prompts.codec import TextCodec
from labkit.results import sweep as module
from labkit.results.board import Board
from labkit.results.sweep import sweep
from labkit.training.config import FinetuneConfig
from labkit.training.data import split_dialogues

SHORT = DecodingConfig(max_new_tokens=8)
STEPS = FinetuneConfig(max_steps=2, eval_steps=0, batch_size=1, max_length=128, max_train_dialogues=2)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Folders of two tiny models; how often each was loaded."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    folders, loaded, real = [str(tmp_path / name) for name in ("gpt_neox", "llama")], [], module.load_model
    for folder in folders:
        for part in family(folder.rsplit("/", 1)[-1]):
            part.save_pretrained(folder)
    monkeypatch.setattr(module, "load_model", lambda name, **how: loaded.append(name) or real(name, **how))
    return folders, loaded


def run(models, corpus, **changes):
    return sweep(models, corpus, **{"n": 2, "decoding": SHORT, "training": STEPS, "max_length": 128, **changes})


@pytest.mark.slow
def test_every_model_has_its_two_rows_and_the_second_call_computes_nothing(models, miniwoz):
    folders, loaded = models
    rows = run(folders, miniwoz)
    names = ["gpt_neox", "llama"]  # no path of this machine
    assert [(row["model"], row["task"]) for row in rows] == [(f, t) for f in names for t in ("sweep", "sweep, tuned")]
    assert loaded == folders  # each once, for both of its runs
    assert all(row["perplexity"] > 1 and row["memory"] > 0 and "inform" in row["per_domain"] for row in rows)
    assert rows[0]["parameters"] == rows[1]["parameters"] and rows[0]["perplexity"] != rows[1]["perplexity"]
    assert run(folders, miniwoz) == rows and loaded == folders and len(Board().rows()) == 4


@pytest.mark.parametrize(
    "change", [{"n": 1}, {"split": "test"}, {"decoding": DecodingConfig(max_new_tokens=8, seed=1)}, {"max_length": 96}]
)
@pytest.mark.slow
def test_another_setting_is_another_run(models, miniwoz, change):
    """Trap: a score of other dialogues, another seed or another decoding taken for this one."""
    folders, loaded = models
    one = {"training": None}
    run(folders[:1], miniwoz, **one)
    run(folders[:1], miniwoz, **one, **change)
    assert loaded == folders[:1] * 2 and len(Board().rows()) == 2


@pytest.mark.slow
def test_the_board_tells_how_a_model_was_asked(models, miniwoz):
    folders, _ = models
    run(folders[:1], miniwoz, training=None)
    run(folders[:1], miniwoz, training=None, instruction="be brief", chat=False)
    assert [row["task"] for row in Board().rows()] == ["sweep", "sweep, instruction"]


@pytest.mark.slow
def test_other_training_runs_the_tuned_half_only(models, miniwoz):
    folders, loaded = models
    run(folders[:1], miniwoz, training=None)
    run(folders[:1], miniwoz)
    assert [row["task"] for row in Board().rows()] == ["sweep", "sweep, tuned"] and loaded == folders[:1] * 2


@pytest.mark.slow
def test_a_model_that_was_tuned_in_full_is_the_one_that_is_measured(models, miniwoz):
    """Trap: no adapter, so that the score is the base model's."""
    folders, _ = models
    untuned, tuned = run(folders[:1], miniwoz, training=replace(STEPS, full_finetune=True))
    assert tuned["model"] == untuned["model"] and tuned["adapter"] and tuned["flops"] > 0
    assert tuned["perplexity"] != untuned["perplexity"] and "failed" not in tuned


@pytest.mark.slow
def test_killed_between_models_it_goes_on_with_the_next(models, miniwoz, monkeypatch):
    folders, loaded = models

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "finetune", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folders, miniwoz)
    assert [row["model"] for row in Board().rows()] == ["gpt_neox"]
    rows = run(folders, miniwoz)
    assert loaded == [folders[0], *folders] and len(Board().rows()) == 4 and all("bleu" in row for row in rows)


def test_an_interrupt_while_training_stops_the_sweep_and_is_no_failure_of_the_model(models, miniwoz, monkeypatch):
    def stopped(*_, **__):
        raise Interrupted("interrupted at step 1 of 2", "the adapter so far is in …", "the same call again goes on")

    monkeypatch.setattr(module, "finetune", stopped)
    with pytest.raises(LabError, match="interrupted"):
        run(models[0], miniwoz)
    assert not any("failed" in row for row in Board().rows())


@pytest.mark.slow
def test_a_failure_is_a_row_with_its_reason_and_the_others_are_measured(models, miniwoz, monkeypatch):
    """And it is tried again: what was missing may be there by then."""
    (folder, _), _ = models

    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(module, "finetune", out_of_memory)
        missing, _, untuned, tuned = run(["/nowhere/model", folder], miniwoz)
    assert "no model" in missing["failed"] and "bleu" in untuned
    assert tuned["failed"] == "CUDA out of memory." and tuned["training"]["max_steps"] == 2
    table = Board().table()
    assert "CUDA out of memory." in list(table.failed) and "failed: no model" in Board().html().html
    assert Board().figure().data  # rows without scores are no obstacle
    assert all("bleu" in row for row in run([folder], miniwoz))


@pytest.mark.slow
def test_a_model_is_gone_before_the_next_is_loaded(models, miniwoz, monkeypatch):
    """Trap: rows, tracebacks, peft or Trainer keep it, and a sweep needs the memory of all models together."""
    alive, seen, real = [], [], module.load_model

    def load(name, **how):
        gc.disable()  # it must not be luck
        seen.append([reference() is None for reference in alive])
        lm = real(name, **how)
        alive.extend(weakref.ref(thing) for thing in (lm.model, next(iter(lm.model.parameters()))))
        return lm

    def fails(*_, **__):
        raise RuntimeError("while the model is in a traceback's frames")

    monkeypatch.setattr(module, "load_model", load)
    try:
        run(models[0], miniwoz)
        monkeypatch.setattr(module, "evaluate", fails)
        run(models[0], miniwoz, n=1)
    finally:
        gc.enable()
    assert len(seen) == 4 and all(all(gone) for gone in seen) and all(reference() is None for reference in alive)


@pytest.mark.slow
def test_compute_is_six_times_parameters_times_tokens(models, miniwoz):
    """Kaplan et al. 2020: of the parameters outside the input embedding, with those of the LoRA; all tokens read."""
    folders, _ = models
    model, tokenizer = family("gpt_neox")
    training = replace(STEPS, max_train_dialogues=1)
    (dialogue,), _ = split_dialogues(miniwoz, training)
    windows = examples(dialogue, TextCodec(tokenizer), max_length=128)
    *_, row = run(folders[:1], miniwoz, training=replace(training, max_steps=len(windows)))  # each is read once
    adapter = load_file(f"{row['adapter']}/adapter_model.safetensors").values()
    size = model.num_parameters() - model.get_input_embeddings().weight.numel() + sum(part.numel() for part in adapter)
    assert row["flops"] == pytest.approx(6 * size * sum(len(window.input_ids) for window in windows), rel=1e-6)


# --- what a sweep knows again, and what it says -----------------------------------------------------------------------


def written_before(board, change):
    """Rewrite every row as an earlier labkit would have written it."""
    rows = [json.loads(line) for line in board.path.read_text().splitlines()]
    for row in rows:
        change(row)
    board.path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_a_field_that_a_configuration_gets_makes_no_earlier_row_unknown(models, miniwoz):
    """Neither a new field, nor what rows were called before: the same sweep computes nothing."""
    folders, loaded = models
    run(folders[:1], miniwoz)

    def older(row):
        record = row["sweep"]
        del record["decoding"]["typical_p"], record["which"], record["dialogue_ids"]
        record["model"] = folders[0]
        if record["training"]:
            del record["training"]["use_dora"]
            record["training"]["model"] = folders[0]

    written_before(Board(), older)
    rows = run(folders[:1], miniwoz)
    assert loaded == folders[:1] and len(Board().rows()) == 2 and all("bleu" in row for row in rows)


@pytest.mark.slow
def test_a_setting_that_differs_from_the_default_of_its_field_is_another_run(models, miniwoz):
    folders, loaded = models
    config = DecodingConfig(strategy="sample", top_k=5, max_new_tokens=8)
    run(folders[:1], miniwoz, training=None, decoding=config)
    written_before(Board(), lambda row: row["sweep"]["decoding"].pop("top_k"))  # it had no such setting then
    run(folders[:1], miniwoz, training=None, decoding=config)
    assert loaded == folders[:1] * 2


@pytest.mark.slow
def test_a_sweep_looks_at_dev_unless_told_otherwise_and_names_no_path(models, miniwoz, tmp_path):
    folders, _ = models
    (row,) = run(folders[:1], miniwoz, training=None)
    assert row["split"] == "dev" and Board().looks_at_test() == {}
    text = Board().path.read_text()
    assert str(tmp_path) not in text and row["model"] == "gpt_neox" and row["dialogue_ids"]


@pytest.mark.slow
def test_replies_per_second_are_of_writing_replies_not_of_training_and_perplexity(models, miniwoz, monkeypatch):
    folders, _ = models
    clock, late = time.perf_counter, []
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + sum(late))

    def slow(function):
        def waited(*args, **options):
            late.append(1000)  # seconds on the clock, and none of the test's
            return function(*args, **options)

        return waited

    monkeypatch.setattr(module, "finetune", slow(module.finetune))
    monkeypatch.setattr(module, "reply_perplexity", slow(module.reply_perplexity))
    rows = run(folders[:1], miniwoz)
    replies = sum(len(dialogue.bot_turns) for dialogue in miniwoz["dev"][:2])
    assert len(late) == 3
    for row in rows:
        assert row["seconds"] < 1000
        assert row["speed"]["replies_per_second"] > replies / 1000, "the waiting is in it"


def test_a_sweep_over_no_dialogues_is_refused(miniwoz):
    for n in (0, -1):
        with pytest.raises(LabError, match="choose n from 1 on"):
            sweep(["mini-pythia"], miniwoz, n=n)
