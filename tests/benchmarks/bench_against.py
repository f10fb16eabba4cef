"""labkit against what the field uses, used well: TRL's SFTTrainer and transformers' generate; one JSON line each.

    pip install --no-deps --target build/trl trl    # a benchmark's dependency, not the lab's
    PYTHONPATH=build/trl python tests/benchmarks/bench_against.py [--shape …] [--rounds 2] [--only …] [--wall]

The shape is pythia-70m's (hidden 512, 6 layers, vocabulary 50,304), or the largest stand-in's, with random weights in
float32; `--shape small` is for trying the script.

Training: both read the same rows of MiniWOZ once, 8 at a time, rows of like length together, a LoRA of rank 16 on all
linear layers, AdamW, no gradient checkpointing, no validation; the rate counts the tokens with a loss, which are
the replies' (what `assistant_only_loss` is in TRL; the labels are given, so that both learn the same tokens).

Writing: 32 tokens after every prompt of some test dialogues. generate gets them sorted by length, in batches of 32,
padded on the left, with its cache. `same_text` is the share of replies that are equal.

What is compared runs in turns in one process, and a figure is the median over the rounds. Times are processor seconds:
other work on the machine lengthens them, too, but both alike. `--wall`: seconds by the clock on the wall, which count
threads that wait, and need a machine with nothing else on it. `floor` lines: this machine's matrix product and copy.
`of_floor` is the time over that of the operations that the task needs, at the product measured right before and right
after each round of each way, since a host's speed goes up and down (of LoRA training 4 for each weight and token: no
gradient of frozen weights; the head on tokens with a loss only; in writing every different prompt token read once;
attention of each token to those before it, with a backward pass of twice the forward one).
"""

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, TrainerCallback

from labkit.corpora import load_corpus
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import predict
from labkit.models import LanguageModel
from labkit.models.find import WEIGHTS
from labkit.prompts.build import examples, prompts
from labkit.prompts.codec import TextCodec
from labkit.prompts.sequences import IGNORED
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune

PYTHIA_70M = {"vocab_size": 50304, "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8}
SHAPES = {
    "pythia-70m": PYTHIA_70M,
    "mini-pythia-8m": {"vocab_size": 2048, "hidden_size": 320, "num_hidden_layers": 6, "num_attention_heads": 5},
    "small": {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}
BATCH, RATE, LENGTH = 8, 1e-3, 512
NEW_TOKENS, AT_ONCE = 32, 32


class Clock:
    now = staticmethod(time.process_time)


class TrainingSeconds(TrainerCallback):
    """Seconds of all steps of a training, with everything that happens between them."""

    seconds = 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.begun = Clock.now()

    def on_train_end(self, *_: object, **__: object) -> None:
        self.seconds = Clock.now() - self.begun


def language_model(shape: dict[str, int]) -> LanguageModel:
    torch.manual_seed(0)
    size = shape | {"intermediate_size": 4 * shape["hidden_size"], "max_position_embeddings": 2048}
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "mini-pythia-8m")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**size, bos_token_id=0, eos_token_id=0)).eval()
    return LanguageModel("pythia-70m shape", model, tokenizer, TextCodec(tokenizer), 32, "float32", "cpu", False)


def sft_trainer(lm: LanguageModel, rows: list[dict], steps: int, folder: str) -> float:
    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(
        folder,
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        train_sampling_strategy="group_by_length",
        learning_rate=RATE,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        max_length=LENGTH,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    clock = TrainingSeconds()
    SFTTrainer(
        model=language_model(lm_shape(lm)).model,
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=lm.tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"),
        callbacks=[clock],
    ).train()
    return clock.seconds


def lm_shape(lm: LanguageModel) -> dict[str, int]:
    return {name: getattr(lm.model.config, name) for name in PYTHIA_70M}


def labkit_training(lm: LanguageModel, corpus, steps: int, folder: str) -> float:
    clock = TrainingSeconds()
    config = FinetuneConfig(
        bits=32,
        max_steps=steps,
        batch_size=BATCH,
        max_length=LENGTH,
        eval_steps=0,
        save_steps=10**6,
        learning_rate=RATE,
    )
    finetune(lm, corpus, config, Path(folder) / "out", callbacks=[clock])
    return clock.seconds


def sizes(lm: LanguageModel) -> tuple[int, int]:
    """Weights of the matrices in the layers, and of the output head."""
    config = lm.model.config
    head = config.vocab_size * config.hidden_size
    return 12 * config.num_hidden_layers * config.hidden_size**2, head


def attention(lm: LanguageModel, n_looks: int) -> int:
    """Operations of looking at `n_looks` earlier tokens in all layers: a product with the key, one with the value."""
    config = lm.model.config
    return 4 * config.hidden_size * config.num_hidden_layers * n_looks


def looks(n_tokens: int, known: int = 0) -> int:
    """How many tokens are looked at while `n_tokens` are read after `known` ones, each looking at itself, too."""
    return sum(range(known + 1, known + n_tokens + 1))


def compare_training(shape: dict[str, int], n_dialogues: int, rounds: int) -> None:
    if importlib.util.find_spec("trl") is None:
        print(json.dumps({"training": "not compared", "why": "no trl: see the top of this script"}), flush=True)
        return
    lm = language_model(shape)
    corpus = load_corpus("miniwoz", sizes={"train": n_dialogues, "dev": 1, "test": 1})
    made = [example for d in corpus["train"] for example in examples(d, lm.codec, max_length=LENGTH)]
    rows = [{"input_ids": example.input_ids, "labels": example.labels} for example in made]
    learnt = sum(label != IGNORED for row in rows for label in row["labels"])
    tokens = sum(len(row["input_ids"]) for row in rows)
    body, head = sizes(lm)
    attended = attention(lm, sum(looks(len(row["input_ids"])) for row in rows))
    operations = 4 * body * tokens + 4 * head * learnt + 3 * attended
    steps = -(-len(rows) // BATCH)
    ways = {
        "TRL SFTTrainer": lambda folder: sft_trainer(lm, rows, steps, folder),
        "labkit finetune": lambda folder: labkit_training(lm, corpus, steps, folder),
    }

    def once(way: Callable[[str], float]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return way(folder)

    report(
        "training",
        in_turns({name: lambda way=way: once(way) for name, way in ways.items()}, rounds),
        done=learnt,
        unit="reply_tokens",
        operations=operations,
        rows=len(rows),
        tokens=tokens,
    )


def generate_well(lm: LanguageModel, asked: list[list[int]], num_beams: int) -> list[list[int]]:
    """transformers' generate: longest prompts first, batches padded on the left, cache."""
    order = sorted(range(len(asked)), key=lambda i: -len(asked[i]))
    replies: list[list[int]] = [[]] * len(asked)
    stop = set(lm.codec.stop_ids)
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        width = len(asked[some[0]])
        ids = torch.tensor([[0] * (width - len(asked[i])) + asked[i] for i in some])  # [B, T]
        mask = torch.tensor([[0] * (width - len(asked[i])) + [1] * len(asked[i]) for i in some])  # [B, T]
        with torch.inference_mode():
            out = lm.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                num_beams=num_beams,
                eos_token_id=sorted(stop),
                pad_token_id=0,
            )
        for i, tokens in zip(some, out[:, width:].tolist(), strict=True):
            end = next((at for at, token in enumerate(tokens) if token in stop), len(tokens))
            replies[i] = tokens[:end]
    return replies


def compare_writing(shape: dict[str, int], n_dialogues: int, rounds: int) -> None:
    lm = language_model(shape)
    some = load_corpus("miniwoz", sizes={"train": 1, "dev": 1, "test": n_dialogues})["test"]
    by_dialogue = [[prompt.input_ids for prompt in prompts(dialogue, lm.codec)] for dialogue in some]
    asked = [ids for of_dialogue in by_dialogue for ids in of_dialogue]
    body, head = sizes(lm)
    read = sum(max(map(len, of_dialogue)) for of_dialogue in by_dialogue)
    for num_beams in (1, 2):
        config = DecodingConfig(max_new_tokens=NEW_TOKENS)
        if num_beams > 1:
            config = DecodingConfig("beam", num_beams=num_beams, max_new_tokens=NEW_TOKENS)
        texts: dict[str, list] = {}

        def by_labkit(config: DecodingConfig = config, texts: dict[str, list] = texts) -> float:
            begun = Clock.now()
            written = predict(lm, some, config)
            texts["labkit"] = [reply["response"] for dialogue in some for reply in written[dialogue.key]]
            return Clock.now() - begun

        def by_generate(num_beams: int = num_beams, texts: dict[str, list] = texts) -> float:
            begun = Clock.now()
            written = generate_well(lm, asked, num_beams)
            texts["generate"] = [lm.codec.decode(ids) for ids in written]
            return Clock.now() - begun

        ways = {"transformers generate": by_generate, "labkit predict": by_labkit}
        taken = in_turns(ways, rounds)
        written = NEW_TOKENS * num_beams * len(asked)
        attended = sum(looks(max(map(len, of_dialogue))) for of_dialogue in by_dialogue)
        attended += num_beams * sum(looks(NEW_TOKENS, known=len(ids)) for ids in asked)
        operations = 2 * body * (read + written) + 2 * head * written + attention(lm, attended)
        equal = [one == other for one, other in zip(texts["labkit"], texts["generate"], strict=True)]
        report(
            f"writing, beams {num_beams}",
            taken,
            done=len(asked),
            unit="replies",
            operations=operations,
            prompt_tokens=round(sum(map(len, asked)) / len(asked)),
            same_text=round(sum(equal) / len(equal), 3),
        )


@dataclass(frozen=True)
class Round:
    """One way's turn."""

    seconds: float
    flops: float  # operations a second of a matrix product, before and after it


def in_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[Round]]:
    """Each way in every round; one round before them, of imports and first calls, is not counted."""
    taken: dict[str, list[Round]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        before = product_flops()
        for name, way in ways.items():
            seconds = way()
            after = product_flops()
            if number:
                taken[name].append(Round(seconds, (before + after) / 2))
            before = after
    return taken


def report(task: str, taken: dict[str, list[Round]], *, done: int, unit: str, operations: int, **more: float) -> None:
    for name, some in taken.items():
        seconds = statistics.median(one.seconds for one in some)
        of_floor = [one.seconds * one.flops / operations for one in some]
        row = {
            f"{unit}_per_second": round(done / seconds, 2),
            "seconds": round(seconds, 2),
            "of_floor": round(statistics.median(of_floor), 2),
            "of_floor_by_round": [round(one, 2) for one in of_floor],
        }
        print(json.dumps({"task": task, "way": name, **row, **more}), flush=True)
    theirs, ours = taken.values()
    ratios = sorted(their.seconds / our.seconds for their, our in zip(theirs, ours, strict=True))
    row = {"ratio": round(statistics.median(ratios), 2), "least": round(ratios[0], 2), "most": round(ratios[-1], 2)}
    print(json.dumps({"task": task, "labkit_is_faster_by": row, "rounds": len(ratios)}), flush=True)


def product_flops() -> float:
    """Operations a second of a matrix product."""
    x, w = torch.randn(2048, 2048), torch.randn(2048, 2048)
    seconds = seconds_of(lambda: torch.nn.functional.linear(x, w))
    return 2 * 2048**3 / seconds


def show_floor() -> None:
    """Operations a second of a matrix product, and bytes a second of a copy (read and written)."""
    a, b = torch.ones(2**25), torch.ones(2**25)
    copy = seconds_of(lambda: b.copy_(a))
    shown = {
        "matrix_product_gflops": round(product_flops() / 1e9, 1),
        "copy_gb_per_second": round(2 * a.nbytes / copy / 1e9, 1),
    }
    print(json.dumps({"floor": "this process", **shown, "threads": torch.get_num_threads()}), flush=True)


def seconds_of(work: Callable[[], object], least: float = 1.0) -> float:
    """Seconds of one call, over `least` seconds of calls."""
    work()
    begun = Clock.now()
    calls = 0
    while Clock.now() - begun < least:
        work()
        calls += 1
    return (Clock.now() - begun) / calls


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="pythia-70m")
    parser.add_argument("--wall", action="store_true", help="by the clock on the wall")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dialogues", type=int, default=16)
    parser.add_argument("--test-dialogues", type=int, default=13)
    parser.add_argument("--only", choices=("training", "writing"))
    a = parser.parse_args()
    torch.manual_seed(0)
    shape = SHAPES[a.shape]
    if a.wall:
        Clock.now = staticmethod(time.perf_counter)
    show_floor()
    if a.only != "writing":
        compare_training(shape, a.dialogues, a.rounds)
    if a.only != "training":
        compare_writing(shape, a.test_dialogues, a.rounds)
