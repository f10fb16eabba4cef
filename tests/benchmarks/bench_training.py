"""Training and generation against the 2023 lab's way, on the pythia-70m shape with random weights; one JSON line each.

    python tests/benchmarks/bench_training.py [--dialogues 4] [--test-dialogues 12] [--small]

Training: "useful" tokens are those of the replies. The literal 2023 loop has the whole history in the target again, and
its loss on both; "mended" is the same loop (one sequence a pass, 16 passes a step, gradient checkpointing, the output
head on every position) with the loss on the reply only. Generation: every reply to some test dialogues, by
Trainer.predict (batches of 4, padded on the right, adapter beside the weights, no end token, as in 2023) and by labkit.
Random weights do not end a reply, so what labkit saves by rows leaving at their end token is not in its figure.

Every variant runs in a process of its own, for its peak: the megabytes by which its resident memory grew. Times are
processor seconds, which other programs on the machine disturb least. `--small` is a shape for trying the script.
"""

import argparse
import json
import multiprocessing
import re
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, Seq2SeqTrainer, Seq2SeqTrainingArguments

from labkit.corpora import load_corpus
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import predict
from labkit.models import LanguageModel, attach_adapter, merge
from labkit.models.find import WEIGHTS
from labkit.models.likelihood import target_loss
from labkit.prompts.build import examples, prompts
from labkit.prompts.codec import TextCodec
from labkit.prompts.sequences import IGNORED
from labkit.training.data import Collator

PYTHIA_70M = {"vocab_size": 50304, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
SMALL = {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
NEW_TOKENS = 32


def full_head_loss(model, batch):
    """What a model computes when it is given labels: logits at every position, then the mask."""
    return model(**batch).loss


def sum_loss(model, batch):
    return target_loss(model, **batch)


def literal(row):
    """The 2023 collator's sequence: the history, then the history again with the reply, and a loss on all of that."""
    history = row["input_ids"][: next(i for i, label in enumerate(row["labels"]) if label != IGNORED)]
    return {"input_ids": history + row["input_ids"], "labels": [IGNORED] * len(history) + row["input_ids"]}


# name: (recipe, sequences a pass, passes a step, checkpointing, loss, change of a row)
VARIANTS = {
    "2023 loop, literal": ("turns", 1, 16, True, full_head_loss, literal),
    "2023 loop, target mended": ("turns", 1, 16, True, full_head_loss, dict),
    "turns, batches of 8, no checkpointing": ("turns", 8, 1, False, full_head_loss, dict),
    "dialogues, head on every position": ("dialogues", 4, 1, False, full_head_loss, dict),
    "labkit: dialogues, head on targets": ("dialogues", 4, 1, False, sum_loss, dict),
}


def lora(shape: dict[str, int], checkpointing: bool = False) -> LanguageModel:
    torch.manual_seed(0)
    size = shape | {"intermediate_size": 4 * shape["hidden_size"], "max_position_embeddings": 2048}
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "mini-pythia-8m")
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**size, bos_token_id=0, eos_token_id=0))
    lm = LanguageModel("pythia-70m shape", model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)
    return attach_adapter(lm, gradient_checkpointing=checkpointing)


def dialogues(n: int):
    return load_corpus("miniwoz", sizes={"train": n, "dev": 1, "test": 1})["train"]


def training(name: str, shape: dict[str, int], n: int) -> dict[str, float]:
    """Useful tokens per processor second of forward, backward and optimiser steps over the first dialogues."""
    recipe, size, passes, checkpointing, loss, change = VARIANTS[name]
    lm = lora(shape, checkpointing)
    lm.model.train()
    if checkpointing:
        lm.model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in lm.model.parameters() if p.requires_grad], lr=1e-3)
    made = [example for dialogue in dialogues(n) for example in examples(dialogue, lm.codec, recipe=recipe)]
    rows = sorted(({"input_ids": r.input_ids, "labels": r.labels} for r in made), key=lambda r: -len(r["input_ids"]))
    useful = sum(label != IGNORED for row in rows for label in row["labels"])
    rows = [change(row) for row in rows]
    batches = [Collator(lm.codec.pad_id)(rows[i : i + size]) for i in range(0, len(rows), size)]
    loss(lm.model, batches[-1]).backward()  # warm-up
    started = time.process_time()
    for number, batch in enumerate(batches, 1):
        loss(lm.model, batch).backward()
        if number % passes == 0 or number == len(batches):
            optimizer.step()
            optimizer.zero_grad()
    seconds = time.process_time() - started
    return {"useful_tokens": useful, "passes": len(batches), "seconds": seconds, "rate": useful / seconds}


def generation(name: str, shape: dict[str, int], n: int) -> dict[str, float]:
    """Replies per processor second, NEW_TOKENS each, to the first dialogues with gold history."""
    lm, some = lora(shape), dialogues(n)
    lm.model.eval()
    asked = [prompt.input_ids for dialogue in some for prompt in prompts(dialogue, lm.codec)]
    started = time.process_time()
    if name.startswith("labkit"):
        predict(merge(lm), some, DecodingConfig(max_new_tokens=NEW_TOKENS))
    else:
        lm.model.generation_config.update(eos_token_id=None, pad_token_id=lm.codec.pad_id, do_sample=False)
        lm.model.generation_config.max_new_tokens = NEW_TOKENS
        with tempfile.TemporaryDirectory() as out:
            how = {"predict_with_generate": True, "per_device_eval_batch_size": 4, "report_to": "none"}
            arguments = Seq2SeqTrainingArguments(out, use_cpu=True, remove_unused_columns=False, **how)
            collate = Collator(lm.codec.pad_id)
            trainer = Seq2SeqTrainer(lm.model, arguments, data_collator=lambda rows: without_labels(collate(rows)))
            trainer.predict([{"input_ids": ids, "labels": ids} for ids in asked])
    seconds = time.process_time() - started
    return {"replies": len(asked), "seconds": seconds, "rate": len(asked) / seconds}


def without_labels(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


def status(field: str) -> float:
    """MB of a field of /proc/self/status."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1.024e-3


def measured(task: str, name: str, *arguments) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, the parent's, is forgotten
    before = status("VmRSS")
    row = globals()[task](name, *arguments)
    return {"variant": name, **row, "peak_mb": status("VmHWM") - before}


def compare(task: str, names: list[str], shape: dict[str, int], n: int) -> None:
    """A line for each variant, each in a process of its own, and one with how many times as fast the last one is."""
    rates, context = {}, multiprocessing.get_context("fork")
    for name in names:
        with context.Pool(1) as pool:
            row = pool.apply(measured, (task, name, shape, n))
        rates[name] = row["rate"]
        print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    ratios = {f"to {name}": round(rates[names[-1]] / rate, 2) for name, rate in rates.items()}
    print(json.dumps(ratios | {"threads": THREADS, "hidden_size": shape["hidden_size"]}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialogues", type=int, default=4)
    parser.add_argument("--test-dialogues", type=int, default=12)
    parser.add_argument("--small", action="store_true")
    a = parser.parse_args()
    THREADS, shape = torch.get_num_threads(), SMALL if a.small else PYTHIA_70M
    compare("training", list(VARIANTS), shape, a.dialogues)
    compare("generation", ["Trainer.predict", "labkit: predict"], shape, a.test_dialogues)
