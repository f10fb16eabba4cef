"""Peak resident memory of fine-tuning steps on this CPU, beside what `plan_memory` predicts.

Run by test_memory.py in a process of its own, with MALLOC_MMAP_THRESHOLD_ set, and without what the lab does to keep
memory from step to step: freed tensors then go back to the system at once, so that the peak is that of the tensors and
not of the allocator's habits; with "usual" on the command line the allocator is as it is. Prints one JSON line a shape.
"""

import ctypes
import gc
import json
import re
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from tiny_training import byte_tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

import labkit.training.run
from labkit import plan_memory
from labkit.corpora.types import BOT, USER, Corpus, Dialogue, Turn
from labkit.models import load_model
from labkit.training.config import FinetuneConfig
from labkit.training.parts import rows_at_once
from labkit.training.precision import computes_in
from labkit.training.run import finetune

PYTHIA = {"vocab_size": 50304, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
SMALL = {"vocab_size": 257, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = {"vocab_size": 8192, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
LLAMA |= {"num_key_value_heads": 2, "intermediate_size": 1536, "max_position_embeddings": 512}
DEEP = {"vocab_size": 4096, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8}
SHAPES = {  # name: (model, configuration, batch, length, settings)
    "warm-up": (GPTNeoXForCausalLM, GPTNeoXConfig(**SMALL, intermediate_size=32), 1, 32, {}),
    "pythia-70m, 4 bit": (GPTNeoXForCausalLM, GPTNeoXConfig(**PYTHIA, intermediate_size=2048), 2, 192, {"bits": 4}),
    "llama, full": (LlamaForCausalLM, LlamaConfig(**LLAMA), 4, 192, {"full_finetune": True}),
    "deep, checkpointed": (
        GPTNeoXForCausalLM,
        GPTNeoXConfig(**DEEP, intermediate_size=2048),
        8,
        256,
        {"gradient_checkpointing": True, "train_embeddings": True},
    ),
}


def status(field: str) -> float:
    """MB of a field of /proc/self/status."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1.024e-3


def measured(kind: type, config: object, batch: int, length: int, settings: dict) -> tuple[float, dict[str, float]]:
    """(MB that the process grew by at its peak, the plan)."""
    tokenizer = byte_tokenizer()
    # "user> " + text + "\nbot> " … and the end token, one token a byte
    text = "x" * ((length - len("user> \nbot> \n") - 1) // 2)
    dialogues = [Dialogue(str(i), (), [Turn(USER, text), Turn(BOT, text)]) for i in range(batch)]
    corpus = Corpus("x", {"train": dialogues, "dev": dialogues[:1], "test": dialogues[:1]}, "test")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        size = {"max_steps": 2, "batch_size": batch, "max_length": length, "eval_steps": 0, "save_steps": 99}
        run = FinetuneConfig(folder, **{"bits": 32} | size | settings)
        finetune(None, corpus, run, Path(folder) / "out")  # a handle would keep its own weights, too
        grown = status("VmHWM") - before
        lm = load_model(folder, bits=run.bits)
    rows = rows_at_once(lm, run, computes_in(lm))
    return grown, plan_memory(config, batch=rows, length=length, **settings)


if __name__ == "__main__":
    if "usual" not in sys.argv:
        labkit.training.run.memory_kept = nullcontext
    for name, shape in SHAPES.items():
        grown, plan = measured(*shape)
        print(json.dumps({"shape": name, "measured": grown, "planned": sum(plan.values()), **plan}), flush=True)
