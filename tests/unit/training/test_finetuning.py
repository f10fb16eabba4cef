"""Fine-tuning: the loss, the data that it sees, and runs that stop and go on."""

import importlib
import signal
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tiny_training import SHAPE, TINY, plain_corpus, plain_dialogue, tiny_lm
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from labkit.corpora.search import VenueDatabase
from labkit.corpora.types import Corpus
from labkit.decoding.generate import next_token_logits
from labkit.errors import LabError
from labkit.machine.hardware import GIB, hardware
from labkit.models import LanguageModel, attach_adapter, load_adapter, load_model, merge, save_model
from labkit.models.likelihood import target_loss
from labkit.prompts.build import examples
from labkit.prompts.sequences import Example
from labkit.storage import read_json
from labkit.training.advice import smaller
from labkit.training.config import FinetuneConfig
from labkit.training.data import Collator, split_dialogues
from labkit.training.precision import compute_in, computes_in
from labkit.training.run import finetune, trainable
from labkit.training.scores import validation_scores


def _row(example: Example) -> dict[str, list[int]]:
    return {"input_ids": example.input_ids, "labels": example.labels}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return plain_corpus()


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
@pytest.mark.parametrize("adapter", [False, True])
def test_loss_of_target_positions_is_the_loss_of_full_logits(family: str, adapter: bool) -> None:
    """Trap: a shift by one, or padding that counts, in the shortcut around the output head."""
    lm = tiny_lm(family)
    if adapter:
        lm = attach_adapter(lm, r=2)
    rows = [_row(row) for d in (plain_dialogue("a", 3), plain_dialogue("b", 1)) for row in examples(d, lm.codec)]
    batch = Collator(lm.codec.pad_id)(rows)
    assert (batch["attention_mask"] == 0).any()
    logits = lm.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    full = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
    )
    torch.testing.assert_close(target_loss(lm.model, **batch), full)


@pytest.mark.parametrize("family", ["gpt_neox", "llama"])
def test_one_pass_a_dialogue_is_turn_by_turn(family: str) -> None:
    """Trap: history repeated in the target, or a reply that sees what came after it."""
    lm, dialogue = tiny_lm(family), plain_dialogue("a", 4)

    def total(recipe: str, batch_size: int) -> torch.Tensor:
        rows = [_row(row) for row in examples(dialogue, lm.codec, recipe=recipe)]
        batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        return torch.stack([target_loss(lm.model, **Collator(lm.codec.pad_id)(batch)) for batch in batches]).sum()

    torch.testing.assert_close(total("dialogues", 1), total("turns", 1))  # without padding
    torch.testing.assert_close(total("dialogues", 1), total("turns", 4))  # with padding


@pytest.mark.slow
def test_gradient_accumulation_is_one_large_batch(corpus: Corpus, tmp_path: Path) -> None:
    """Trap: the mean of batch means, which weighs a token in a short batch more."""
    one = replace(TINY, max_steps=1, batch_size=4, eval_steps=0, warmup_steps=0)
    many = replace(one, batch_size=1, gradient_accumulation_steps=4)
    first = finetune(tiny_lm(), corpus, one, tmp_path / "one").history[0]["loss"]
    assert finetune(tiny_lm(), corpus, many, tmp_path / "many").history[0]["loss"] == pytest.approx(first, rel=1e-4)


@pytest.mark.slow
def test_training_learns_and_gives_the_base_model_back(corpus: Corpus, tmp_path: Path) -> None:
    """Trap: zero-shot numbers computed after training with the adapter still on the model."""
    lm = tiny_lm()
    before = {name: weight.clone() for name, weight in lm.model.state_dict().items()}
    result = finetune(lm, corpus, replace(TINY, max_steps=20), tmp_path)
    losses = [row["eval_loss"] for row in result.history if "eval_loss" in row]
    assert losses[-1] < losses[0]
    assert lm.adapter is None and all(torch.equal(before[n], w) for n, w in lm.model.state_dict().items())
    assert 0 < result.trainable < result.total and result.tokens_per_second > 0


@pytest.mark.slow
def test_saved_adapter_is_the_trained_one(corpus: Corpus, tmp_path: Path) -> None:
    lm = tiny_lm()
    save_model(lm, tmp_path / "base")
    finetune(load_model(str(tmp_path / "base")), corpus, TINY, tmp_path / "out")
    tuned = load_model(str(tmp_path / "base"), adapter=tmp_path / "out")
    ids = torch.tensor([[1, 2, 3]])
    assert not torch.allclose(tuned.model(ids).logits, lm.model(ids).logits, atol=1e-4)


@pytest.mark.slow
def test_full_finetuning_saves_a_model(corpus: Corpus, tmp_path: Path) -> None:
    result = finetune(tiny_lm(), corpus, replace(TINY, full_finetune=True), tmp_path)
    assert result.trainable == result.total
    assert load_model(str(tmp_path)).n_parameters == result.total


@pytest.mark.slow
def test_finished_run_is_returned_and_another_configuration_refused(corpus: Corpus, tmp_path: Path) -> None:
    first = finetune(tiny_lm(), corpus, TINY, tmp_path)
    stamp = (tmp_path / "adapter_model.safetensors").stat().st_mtime_ns
    assert finetune(tiny_lm(), corpus, TINY, tmp_path) == first
    assert (tmp_path / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(LabError, match="learning_rate 0\\.01 → 0\\.5"):
        finetune(tiny_lm(), corpus, replace(TINY, learning_rate=0.5), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_interrupted_run_goes_on_to_the_same_weights(full: bool, corpus: Corpus, tmp_path: Path) -> None:
    """Traps: no resume; a step lost or made twice; other dialogues; GPT-NeoX's output head left out by Trainer."""
    config = replace(TINY, full_finetune=full, eval_steps=0)
    finetune(tiny_lm(), corpus, config, tmp_path / "whole")
    with pytest.raises(LabError, match="the same call again goes on"):
        _interrupted_at(4, lambda: finetune(tiny_lm(), corpus, config, tmp_path / "parts"))
    assert not (tmp_path / "parts" / "result.json").exists()
    finetune(tiny_lm(), corpus, config, tmp_path / "parts")
    whole, parts = (next((tmp_path / run).glob("*model.safetensors")).read_bytes() for run in ("whole", "parts"))
    assert whole == parts


def _interrupted_at(step: int, call) -> None:
    """Ctrl-C in the middle of a step."""
    from labkit.training import trainer

    original, seen = trainer.target_loss, []

    def counting(*args, **kwargs):
        if torch.is_grad_enabled():
            seen.append(1)
        if len(seen) == step:
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    trainer.target_loss = counting
    try:
        call()
    finally:
        trainer.target_loss = original


@pytest.mark.slow
def test_half_written_checkpoint_is_passed_over(corpus: Corpus, tmp_path: Path) -> None:
    """Trap: a process killed while it saved leaves a folder that Trainer would load."""
    with pytest.raises(LabError):
        _interrupted_at(5, lambda: finetune(tiny_lm(), corpus, TINY, tmp_path))
    last = max((tmp_path / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    (last / "trainer_state.json").write_text('{"epoch": 1')
    assert len(finetune(tiny_lm(), corpus, TINY, tmp_path).history) > 0


def test_caps_count_whole_dialogues_and_no_split_leaks(corpus: Corpus) -> None:
    """Trap: the first N turns, which cut a dialogue in half; validation on what was trained, or on test."""
    train, dev = split_dialogues(corpus, replace(TINY, max_train_dialogues=4, max_dev_dialogues=3))
    assert len(train) == 4 and all(dialogue in corpus["train"] for dialogue in train)
    assert len(dev) == 3 and all(dialogue in corpus["dev"] for dialogue in dev)
    train, dev = split_dialogues(corpus, replace(TINY, train_split="dev"))
    assert dev and not {d.dialogue_id for d in train} & {d.dialogue_id for d in dev}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dev_split": "validation", "train_split": "nope"}, "no split 'nope'"),
        ({"dev_split": "test"}, "not for validation"),
        ({"max_length": 300}, "too long"),
        ({"optim": "adam_from_mars"}, "optim='adam_from_mars'.*adamw_torch"),
        ({"max_train_dialogues": 0}, "max_train_dialogues=0.*1 or more"),
        ({"lora_modules": "nothing_of_the_kind"}, "matches"),
    ],
)
def test_bad_configuration_is_one_line(change: dict, message: str, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=message):
        finetune(tiny_lm(), corpus, replace(TINY, **change), tmp_path / "out")


def test_quantised_weights_are_not_trained_in_full(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="bits=4"):
        finetune(replace(tiny_lm(), bits=4), corpus, replace(TINY, full_finetune=True), tmp_path / "out")


def test_paged_optimiser_on_cpu_is_substituted(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="adamw_torch it is"):
        finetune(tiny_lm(), corpus, replace(TINY, max_steps=1, eval_steps=0, optim="paged_adamw_32bit"), tmp_path)


def test_a_regular_expression_shows_what_it_matched(corpus: Corpus, tmp_path: Path, capsys) -> None:
    """Trap of the original: an option of LoRA modules without effect, which nothing on the screen gave away."""
    config = replace(TINY, max_steps=1, eval_steps=0, lora_modules=r"layers\.1\.attention|dense_h")
    finetune(tiny_lm(), corpus, config, tmp_path)
    block = "gpt_neox.layers.N."
    shown = f"{block}attention.dense (1), {block}attention.query_key_value (1), {block}mlp.dense_h_to_4h (2)"
    assert f"LoRA on {shown}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "nonsense"])
def test_a_reporter_that_is_not_there_is_one_line(name: str, corpus: Corpus, tmp_path: Path) -> None:
    """Trap: transformers' own error, after the model has been loaded and run.json written."""
    if find_spec(name) or (name == "tensorboard" and find_spec("tensorboardX")):
        pytest.skip(f"{name} is installed here, and works")
    with pytest.raises(LabError, match=f"cannot report to '{name}'"):
        finetune(tiny_lm(), corpus, replace(TINY, report_to=name), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_reports_go_to_tensorboard(corpus: Corpus, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("tensorboardX", reason="no TensorBoard writer is installed")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    finetune(tiny_lm(), corpus, replace(TINY, report_to="tensorboard"), tmp_path / "run")
    (events,) = (tmp_path / "logs").rglob("events.out.tfevents.*")
    assert b"eval/loss" in events.read_bytes()


@pytest.mark.slow
def test_out_of_memory_names_the_smallest_change(corpus: Corpus, tmp_path: Path, monkeypatch) -> None:
    def full(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr("labkit.training.trainer.target_loss", full)
    with pytest.raises(LabError, match=r"batch_size=1, gradient_accumulation_steps=2: planned .* MB did not fit"):
        finetune(tiny_lm(), corpus, replace(TINY, lora_dropout=0.1), tmp_path)


@pytest.fixture(scope="module")
def larger_lm() -> LanguageModel:
    size = SHAPE | {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**size | {"num_hidden_layers": 6}))
    return replace(tiny_lm(), model=model, stand_in=False)


AGAIN = ({"batch_size": 8, "max_length": 256}, 300, "batch_size=2, gradient_accumulation_steps=4: planned")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "memory_mb", "said"),
    [
        ({"batch_size": 8, "max_length": 256}, 1000, "batch_size=4, gradient_accumulation_steps=2: planned"),
        pytest.param(*AGAIN, marks=pytest.mark.long),
        ({"batch_size": 1, "max_length": 512}, 1000, "gradient_checkpointing=True: planned"),
        ({"batch_size": 1, "gradient_checkpointing": True, "max_length": 2048}, 260, "max_length=1024: planned"),
        ({"batch_size": 1, "gradient_checkpointing": True, "max_length": 256}, 1000, "bits=4: planned"),
        ({"batch_size": 8}, 50, "choose a smaller model"),
    ],
)
def test_what_fits_is_the_memory_plan(change: dict, memory_mb: int, said: str, larger_lm, monkeypatch) -> None:
    """Trap: advice that was not checked, and fails as well. The device is a made-up one."""
    device = replace(hardware(), gpu_memory_gb=(memory_mb + 500) * 1e6 / GIB)
    monkeypatch.setattr("labkit.training.advice.hardware", lambda: device)
    assert smaller(replace(larger_lm, device="cuda"), FinetuneConfig(**change)).startswith(said)


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "said"), [(1, "gradient_checkpointing=True: "), (4, "batch_size=2, gradient_acc")])
def test_advice_for_a_cpu_counts_the_rows_that_are_in_memory_at_once(threads, said, larger_lm, monkeypatch) -> None:
    """Trap: a smaller batch as advice, where each row is trained by itself and a batch takes what one row does."""
    device = replace(hardware(), gpu_memory_gb=0, ram_gb=1000)
    monkeypatch.setattr("labkit.training.advice.hardware", lambda: device)
    monkeypatch.setattr("labkit.training.parts.torch.get_num_threads", lambda: threads)
    assert smaller(larger_lm, FinetuneConfig(batch_size=8)).startswith(said)


@pytest.mark.slow
def test_trained_embeddings_are_in_the_adapter_and_not_in_the_base(corpus: Corpus, tmp_path: Path) -> None:
    """A stand-in's placeholders were never seen in pre-training: a LoRA alone cannot tell them apart."""
    lm = tiny_lm()
    prompt = lm.codec.encode("user> hello\nbot>")
    before = next_token_logits(lm, prompt)
    config = replace(TINY, train_embeddings=True)
    run = finetune(lm, corpus, config, tmp_path / "run")
    assert (next_token_logits(lm, prompt) == before).all()
    plain = finetune(lm, corpus, replace(config, train_embeddings=False), tmp_path / "plain")
    embeddings = 2 * lm.model.get_input_embeddings().weight.numel()
    assert run.trainable == plain.trainable + embeddings
    tuned = load_adapter(lm, run.adapter)
    trained = tuned.model.get_output_embeddings().weight
    assert not torch.equal(trained, tiny_lm().model.get_output_embeddings().weight)
    merged, unmerged = next_token_logits(merge(tuned), prompt), next_token_logits(tuned, prompt)
    torch.testing.assert_close(torch.tensor(merged), torch.tensor(unmerged), atol=1e-4, rtol=0)


def test_what_is_trained_is_in_float32_whatever_the_base_is_in():
    """Trap: embeddings trained in bfloat16, whose 8 bits swallow the steps of a small learning rate."""
    lm = tiny_lm()
    lm.model.to(torch.bfloat16)
    tuned = trainable(replace(lm, dtype="bfloat16"), replace(TINY, train_embeddings=True), None, "bfloat16")
    trained = {str(p.dtype) for p in tuned.model.parameters() if p.requires_grad}
    frozen = {str(p.dtype) for p in tuned.model.parameters() if not p.requires_grad}
    assert trained == {"torch.float32"} and frozen == {"torch.bfloat16"}


def test_a_model_that_nobody_else_has_is_not_copied_to_be_tuned_in_full():
    """Its weights lay in memory twice. Those of a handle that was given stay as they are."""
    lm, config = tiny_lm(), replace(TINY, full_finetune=True)
    assert trainable(lm, config, None, "float32", is_handed=False).model is lm.model
    assert trainable(lm, config, None, "float32", is_handed=True).model is not lm.model


@pytest.mark.parametrize(
    ("speedup", "wide", "dtype"), [(0.05, 64, "float32"), (1.9, 64, "bfloat16"), (1.9, 65, "float32")]
)
def test_four_bits_train_in_what_this_cpu_is_fast_in(monkeypatch, speedup, wide, dtype):
    """Trap: bfloat16 on a CPU that has to emulate it, sixty times slower; or float32 where bfloat16 is fast, which it
    is not for a narrow model."""
    monkeypatch.setattr("labkit.training.precision.WIDE", wide)
    monkeypatch.setattr("labkit.training.precision.bf16_speedup", lambda: speedup)
    lm = load_model("mini-pythia-500k", bits=4, device="cpu")
    assert computes_in(lm) == dtype and computes_in(replace(lm, bits=32)) == lm.dtype == "float32"
    layers = [module for module in lm.model.modules() if hasattr(module, "compute_type_is_set")]
    for wanted in (dtype, "float32"):
        compute_in(lm.model, wanted)
        assert {module.compute_dtype for module in layers} == {getattr(torch, wanted)}


# --- watched: scores on validation dialogues, the best adapter, an early stop -----------------------------------------


WATCHED = replace(TINY, max_steps=8, eval_steps=2, score_dialogues=2, metric_for_best_model="bleu")


@pytest.mark.slow
def test_validation_scores_replies_of_the_dev_split_only(corpus: Corpus, tmp_path: Path, monkeypatch) -> None:
    """Traps: scores on test dialogues; a figure that is told only at the end; a score lost on its way."""
    decoding = import_module("labkit.decoding.predict")
    asked, told, real = [], [], decoding.predict
    monkeypatch.setattr(
        decoding, "predict", lambda lm, dialogues, *a, **k: asked.append(dialogues) or real(lm, dialogues, *a, **k)
    )
    result = finetune(tiny_lm(), corpus, WATCHED, tmp_path, watch=lambda history: told.append(len(history)))
    assert len(asked) == 4 and all(
        len(some) == 2 and {d.key for d in some} <= {d.key for d in corpus["dev"]} for some in asked
    )
    validations = [row for row in result.history if "eval_loss" in row]
    assert [row["step"] for row in validations] == [2, 4, 6, 8]
    assert all(0 <= row["eval_bleu"] <= 100 and isinstance(row["eval_sample"], str) for row in validations)
    assert told == sorted(told) and len(told) > 4 and told[-1] == len(result.history)


@pytest.mark.slow
def test_a_score_of_ones_own_chooses_the_adapter_and_stops_the_run(corpus: Corpus, tmp_path: Path) -> None:
    """Traps: a score that is shown and decides nothing; one that nobody gave."""
    given, seen = iter([2.0, 1.0, 9.0, 9.0]), []
    config = replace(WATCHED, metric_for_best_model="own", early_stopping_patience=1)
    result = finetune(tiny_lm(), corpus, config, tmp_path, own_score=lambda said: seen.append(said) or next(given))
    assert [row["eval_own"] for row in result.history if "eval_own" in row] == [2.0, 1.0]
    assert all(len(said) == 2 and all("response" in turn for turns in said.values() for turn in turns) for said in seen)
    with pytest.raises(LabError, match="own_score"):
        finetune(tiny_lm(), corpus, config, tmp_path / "other")


def _scripted(monkeypatch, scores: list[float]) -> None:
    """Validation gives these BLEU scores, one after the other by step."""
    from labkit.training import run

    def score(lm, dialogues, corpus, config, own):
        return {"eval_bleu": scores[_scripted.trainer.state.global_step // config.eval_steps - 1], "eval_sample": ""}

    def kept(*args, **options):
        _scripted.trainer = real(*args, **options)
        return _scripted.trainer

    real = run._trainer
    monkeypatch.setattr(run, "_trainer", kept)
    monkeypatch.setattr(run, "validation_scores", score)


@pytest.mark.slow
def test_the_best_adapter_is_kept_and_a_run_that_gets_no_better_stops(
    corpus: Corpus, tmp_path: Path, monkeypatch
) -> None:
    """Traps: the last adapter instead of the best; patience counted from the start; an early stop taken for Ctrl-C."""
    _scripted(monkeypatch, [1, 3, 2, 3, 9])
    config = replace(WATCHED, max_steps=10, early_stopping_patience=2)
    result = finetune(tiny_lm(), corpus, config, tmp_path / "early")
    assert [row["eval_bleu"] for row in result.history if "eval_bleu" in row] == [1, 3, 2, 3]
    finetune(
        tiny_lm(), corpus, replace(config, early_stopping_patience=None, metric_for_best_model=None), tmp_path / "last"
    )
    checkpoint = tmp_path / "early" / "checkpoints" / "checkpoint-8" / "adapter_model.safetensors"
    weights = {run: (tmp_path / run / "adapter_model.safetensors").read_bytes() for run in ("early", "last")}
    assert weights["early"] not in (weights["last"], checkpoint.read_bytes())
    monkeypatch.undo()
    _scripted(monkeypatch, [1, 3, 2, 1, 1])  # the same steps, so that the best is step 4 again
    finetune(tiny_lm(), corpus, replace(config, early_stopping_patience=3), tmp_path / "again")
    assert (tmp_path / "again" / "adapter_model.safetensors").read_bytes() == weights["early"]


@pytest.mark.slow
def test_a_run_killed_after_its_early_stop_does_not_train_on(corpus: Corpus, tmp_path: Path, monkeypatch) -> None:
    """Trap: transformers resumes past the stop, and may find another best adapter there."""
    _scripted(monkeypatch, [3, 2, 1, 99, 99])
    config = replace(WATCHED, max_steps=10, early_stopping_patience=2)
    first = finetune(tiny_lm(), corpus, config, tmp_path)
    before = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "result.json").unlink()
    assert finetune(tiny_lm(), corpus, config, tmp_path).history == first.history
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_bot_learns_with_what_its_states_find(corpus: Corpus, tmp_path: Path) -> None:
    """The look-up is read and never learnt; without a database the run does not begin."""
    from labkit.training.data import dataset_of

    config = replace(TINY, format="db", max_steps=2, eval_steps=2, score_dialogues=1)
    with pytest.raises(LabError, match="no database"):
        finetune(tiny_lm(), corpus, config, tmp_path)
    assert not list(tmp_path.iterdir())
    hotels = {"hotel": [{"name": "a", "area": "north"}]}
    result = finetune(tiny_lm(), replace(corpus, database=hotels), config, tmp_path)
    assert read_json(tmp_path / "run.json")["format"] == "db"
    assert "eval_bleu" in result.history[-1]
    said = plain_dialogue("a", 1)
    said.turns[0].state = {"hotel": {"area": "north"}}
    (row,) = dataset_of([said], tiny_lm().codec, config, VenueDatabase(hotels))
    learnt = [token for token in row["labels"] if token != -100]
    text = tiny_lm().tokenizer.decode(row["input_ids"])
    assert text.startswith("user> question 0 of a\nstate> hotel area=north\ndb> hotel 1\nbot> answer 0")
    assert tiny_lm().tokenizer.decode(learnt) == " hotel area=north\n answer 0\n<end>"


@pytest.mark.parametrize(
    "change", [{"metric_for_best_model": "rouge"}, {"score_dialogues": 0}, {"eval_steps": 0}, {"format": "dialogs"}]
)
def test_a_choice_that_no_score_can_make_is_one_line(change: dict, corpus: Corpus, tmp_path: Path) -> None:
    """Trap: a run that stops, or keeps an adapter, by a score that nobody computes."""
    with pytest.raises(LabError, match="score"):
        finetune(tiny_lm(), corpus, replace(WATCHED, **change), tmp_path)


def test_the_live_figure_grows_with_the_history(monkeypatch) -> None:
    """Traps: a new figure for every log line; a FigureWidget, which needs anywidget; text of a model as markup."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    from labkit.notebook import plots

    shell = InteractiveShell.instance()
    monkeypatch.setattr(shell, "display_pub", publisher := CapturingDisplayPublisher())
    follow = plots.live()
    follow([{"step": 1, "loss": 3.0}, {"step": 2, "eval_loss": 2.0, "eval_bleu": 5.0, "eval_sample": "<b>hi"}])
    first, second = (output for output in publisher.outputs if "application/vnd.plotly.v1+json" in output["data"])
    assert second["update"] and first["transient"] == second["transient"]
    kind = "application/vnd.plotly.v1+json"
    lines = {line["name"]: line for line in second["data"][kind]["data"]}
    assert lines["BLEU"]["y"] == [5.0] and lines["BLEU"]["text"] == ["&lt;b&gt;hi"] and lines["BLEU"]["yaxis"] == "y2"
    assert lines["train loss"]["x"] == [1] and lines["dev loss"]["y"] == [2.0]


@pytest.mark.parametrize(("device", "n_rows"), [("cpu", 32), ("cuda", 8)])
def test_replies_of_a_validation_were_written_a_few_at_a_time_where_memory_is_no_question(
    device: str, n_rows: int, corpus: Corpus, monkeypatch
) -> None:
    asked = []

    def predict(lm, dialogues, decoding, **options):
        asked.append(decoding.batch_size)
        raise KeyboardInterrupt

    module = importlib.import_module("labkit.decoding.predict")  # `decoding.predict` is a module and a function
    monkeypatch.setattr(module, "predict", predict)
    with pytest.raises(KeyboardInterrupt):
        validation_scores(replace(tiny_lm(), device=device), corpus["dev"], corpus, replace(TINY, batch_size=2))
    assert asked == [n_rows]
