"""labkit against transformers' generate and TRL's SFTTrainer on the same card, and the share of its peak."""

import time
from collections.abc import Callable

import pytest

PEAKS = {  # TFLOP/s of bfloat16 without sparsity, by a part of the card's name; from NVIDIA's data sheets
    "H200": 989,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
}
NEW_TOKENS = 32
AT_ONCE = 32
BATCH = 8


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds until the card has finished, too."""
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    wait()
    begun = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begun


def of_peak(operations: float, seconds: float) -> str:
    """The share of the card's peak, where it is known."""
    import torch

    rate = operations / seconds / 1e12
    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a CPU"
    for card, peak in PEAKS.items():
        if card in name:
            return f"{rate:.2f} TFLOP/s, {rate / peak:.1%} of the bf16 peak"
    return f"{rate:.3f} TFLOP/s; no peak is known of {name}"


def loaded(shape, is_rehearsal: bool):
    """pythia-410m's shape in 16 bits; in a rehearsal a tiny one in 32."""
    from labkit.models import load_model

    return load_model(str(shape("tiny" if is_rehearsal else "pythia-410m")), bits=32 if is_rehearsal else 16)


def matrices(lm) -> tuple[int, int]:
    """Weights of the layers' matrices, and of the output head."""
    config = lm.base.config
    return 12 * config.num_hidden_layers * config.hidden_size**2, config.vocab_size * config.hidden_size


def generate_well(lm, asked: list[list[int]]) -> None:
    """transformers' generate: longest prompts first, batches of 32 padded on the left, cache; no reply ends early."""
    import torch

    asked = sorted(asked, key=len, reverse=True)
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        empty = [len(some[0]) - len(ids) for ids in some]
        ids = [[0] * n + ids for n, ids in zip(empty, some, strict=True)]
        mask = [[0] * n + [1] * (len(some[0]) - n) for n in empty]
        with torch.inference_mode():
            lm.base.generate(
                torch.tensor(ids, device=lm.device),
                attention_mask=torch.tensor(mask, device=lm.device),
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=0,
                pad_token_id=0,
            )


def test_writing_against_generate(shape, note, is_rehearsal):
    from labkit.corpora import load_corpus
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.generate import generate
    from labkit.prompts.build import prompts

    lm = loaded(shape, is_rehearsal)
    some = load_corpus("miniwoz", sizes={"train": 1, "dev": 1, "test": 2 if is_rehearsal else 24})["test"]
    asked = [prompt.input_ids for dialogue in some for prompt in prompts(dialogue, lm.codec)]
    config = DecodingConfig(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    ways = {"generate": lambda: generate_well(lm, asked), "labkit": lambda: generate(lm, asked, config)}
    taken = {}
    for name, way in ways.items():
        way()
        taken[name] = seconds_of(way)
    body, head = matrices(lm)
    written = NEW_TOKENS * len(asked)
    operations = 2 * (body + head) * written + 2 * body * sum(map(len, asked))
    note(
        f"{len(asked)} replies of {NEW_TOKENS} tokens, {lm.bits} bits",
        f"labkit {written / taken['labkit']:.0f} tokens/s, generate {written / taken['generate']:.0f}: "
        f"{taken['generate'] / taken['labkit']:.2f} times; {of_peak(operations, taken['labkit'])}",
    )
    assert all(seconds > 0 for seconds in taken.values())


def test_training_against_trl(shape, note, is_rehearsal, tmp_path, device):
    trl = pytest.importorskip(
        "trl", reason="trl is not installed: pip install --no-deps trl (a benchmark's dependency)"
    )
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback

    from labkit.corpora import load_corpus
    from labkit.prompts.build import examples
    from labkit.prompts.sequences import IGNORED
    from labkit.training.config import FinetuneConfig
    from labkit.training.run import finetune

    class Clock(TrainerCallback):
        """Seconds from the first step to the last, of whichever Trainer it is given to."""

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.begun = time.perf_counter()

        def on_train_end(self, *_: object, **__: object) -> None:
            seconds_of(lambda: None)  # waits for the card
            self.seconds = time.perf_counter() - self.begun

    lm = loaded(shape, is_rehearsal)
    corpus = load_corpus("miniwoz", sizes={"train": 8 if is_rehearsal else 160, "dev": 1, "test": 1})
    made = [example for dialogue in corpus["train"] for example in examples(dialogue, lm.codec, max_length=512)]
    rows = [{"input_ids": row.input_ids, "labels": row.labels} for row in made]
    steps = -(-len(rows) // BATCH)
    settings = trl.SFTConfig(
        str(tmp_path / "trl"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        train_sampling_strategy="group_by_length",
        learning_rate=1e-3,
        gradient_checkpointing=False,
        bf16=not is_rehearsal,
        use_cpu=device == "cpu",
        max_length=512,
        save_strategy="no",
        report_to="none",
    )
    our_clock, their_clock = Clock(), Clock()
    theirs = trl.SFTTrainer(
        model=loaded(shape, is_rehearsal).model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=lm.tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        callbacks=[their_clock],
    )
    config = FinetuneConfig(
        lm.name, bits=lm.bits, max_steps=steps, batch_size=BATCH, max_length=512, eval_steps=0, learning_rate=1e-3
    )
    theirs.train()
    result = finetune(lm, corpus, config, tmp_path / "out", callbacks=[our_clock])
    learnt = sum(label != IGNORED for row in rows for label in row["labels"])
    ours = our_clock.seconds
    body, head = matrices(lm)
    operations = 4 * body * sum(len(row["input_ids"]) for row in rows) + 4 * head * learnt
    note(
        f"LoRA, {steps} steps of {BATCH}, {lm.bits} bits",
        f"labkit {learnt / ours:.0f} reply tokens/s, SFTTrainer {learnt / their_clock.seconds:.0f}: "
        f"{their_clock.seconds / ours:.2f} times; {of_peak(operations, ours)}",
    )
    assert [row["loss"] for row in result.history if "loss" in row]
