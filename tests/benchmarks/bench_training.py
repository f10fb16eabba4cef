"""Useful tokens per second of LoRA training: one pass per dialogue with the head on targets, against turn by turn.

    python tests/benchmarks/bench_training.py [number of dialogues]

Random weights of the pythia-70m shape, MiniWOZ dialogues, LoRA r=16 on all linear layers. "Useful" are the reply tokens
that a recipe has its loss on; both recipes have it on the same ones. The 2023 loop is measured with its target mended:
one reply a batch, gradient checkpointing, the output head on every position. Times are processor seconds, which other
programs on the machine disturb least. Prints one JSON line a variant and one with the ratios.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

from labkit.corpora import load_corpus
from labkit.finetuning import Collator, target_loss
from labkit.models import LanguageModel, attach_adapter
from labkit.models.loading import WEIGHTS
from labkit.prompts import IGNORED, TextCodec, examples

Batch = dict[str, torch.Tensor]
PYTHIA_70M = {"vocab_size": 50304, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}


def full_head_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """What a model computes when it is given labels: logits at every position, then the mask."""
    return model(**batch).loss


def sum_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    return target_loss(model, **batch)


def lora(checkpointing: bool) -> LanguageModel:
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**PYTHIA_70M, intermediate_size=2048, max_position_embeddings=2048))
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "mini-pythia-8m")
    lm = LanguageModel("pythia-70m shape", model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", True)
    return attach_adapter(lm, gradient_checkpointing=checkpointing)


def measure(name: str, recipe: str, batch_size: int, checkpointing: bool, loss: Callable, n_dialogues: int) -> float:
    """Useful tokens per processor second of forward, backward and optimiser step over the first dialogues of train."""
    lm = lora(checkpointing)
    lm.model.train()
    if checkpointing:
        lm.model.enable_input_require_grads()
    optimizer = torch.optim.AdamW([p for p in lm.model.parameters() if p.requires_grad], lr=1e-3)
    dialogues = load_corpus("miniwoz", sizes={"train": n_dialogues, "dev": 1, "test": 1})["train"]
    rows = [example for dialogue in dialogues for example in examples(dialogue, lm.codec, recipe=recipe)]
    rows = sorted(({"input_ids": r.input_ids, "labels": r.labels} for r in rows), key=lambda r: -len(r["input_ids"]))
    batches = [Collator(lm.codec.pad_id)(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    useful = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
    loss(lm.model, batches[-1]).backward()  # warm-up
    started = time.process_time()
    for batch in batches:
        loss(lm.model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.process_time() - started
    row = {"variant": name, "useful_tokens": useful, "passes": len(batches), "seconds": round(seconds, 2)}
    print(json.dumps({**row, "useful_tokens_per_second": round(useful / seconds, 1)}), flush=True)
    return useful / seconds


def main(n_dialogues: int) -> None:
    old = measure("2023 loop, target mended", "turns", 1, True, full_head_loss, n_dialogues)
    turns = measure("turns, batches of 8, no checkpointing", "turns", 8, False, full_head_loss, n_dialogues)
    head = measure("dialogues, head on every position", "dialogues", 4, False, full_head_loss, n_dialogues)
    ours = measure("dialogues, head on targets", "dialogues", 4, False, sum_loss, n_dialogues)
    ratios = {"to 2023 loop": ours / old, "to turns": ours / turns, "of the head": ours / head}
    print(json.dumps({name: round(ratio, 2) for name, ratio in ratios.items()} | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
