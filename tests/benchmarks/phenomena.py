"""What the lab teaches, seen on the stand-ins: one Markdown table, about 40 minutes on 2 cores.

    python tests/benchmarks/phenomena.py [FOLDER for adapters; a second run goes on there]

MiniWOZ, 100 test dialogues. Perplexity is that of the corpus' own replies. A row "2m, …" says what it changed of
the run "QLoRA, mini-pythia-2m"; nothing else differs. "own_texts" is the perplexity of texts like those of
pre-training.
"""

import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from labkit.corpora import load_corpus
from labkit.corpora.miniwoz.pretraining import pretraining_texts
from labkit.course.standins.pretrain import blocks
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import predict
from labkit.errors import LabError
from labkit.machine.hardware import hardware
from labkit.metrics import constant_predictions, evaluate
from labkit.models import load_model
from labkit.models.likelihood import reply_perplexity
from labkit.storage import read_json, write_json
from labkit.training.config import FinetuneConfig
from labkit.training.run import finetune

SIZES = ("mini-pythia-500k", "mini-pythia-2m", "mini-pythia-8m")
MIDDLE = FinetuneConfig(model="mini-pythia-2m", bits=4, max_steps=440, batch_size=2, learning_rate=4e-3, eval_steps=0)
FULL = replace(MIDDLE, bits=32, full_finetune=True, learning_rate=2e-3)
RUNS = {
    **{f"QLoRA, {size}": replace(MIDDLE, model=size) for size in SIZES},
    "2m, LoRA on attention only": replace(MIDDLE, lora_modules="attention"),
    "2m, LoRA on the MLP only": replace(MIDDLE, lora_modules="ffn"),
    "2m, 20 steps": replace(MIDDLE, max_steps=20),
    "2m, learning rate / 30": replace(MIDDLE, learning_rate=MIDDLE.learning_rate / 30),
    "2m, learning rate × 20": replace(MIDDLE, learning_rate=MIDDLE.learning_rate * 20),
    "2m, 32 bits": replace(MIDDLE, bits=32),
    "2m, full fine-tuning": FULL,
    "2m, full, from random weights": replace(FULL, reinitialise=True),
}
GREEDY = DecodingConfig(repetition_penalty=1.1)  # chosen on dev
DECODING = {
    "greedy, no penalty": DecodingConfig(),
    "sampling, temperature 0.5": DecodingConfig("sample", temperature=0.5),
    "sampling, temperature 1": DecodingConfig("sample"),
    "sampling, temperature 1.5": DecodingConfig("sample", temperature=1.5),
    "beam search, 2": DecodingConfig("beam", num_beams=2),
    "beam search, 4": DecodingConfig("beam"),
    "contrastive search": DecodingConfig("contrastive"),
}


class Table:
    """Rows on disk, so that a second run goes on after the last one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "phenomena.json"
        self.corpus = load_corpus("miniwoz")
        self.dialogues = self.corpus["test"][:100]
        self.rows: dict[str, dict[str, Any]] = read_json(self.file) if self.file.is_file() else {}

    def add(self, name: str, lm: Any = None, decoding: DecodingConfig = GREEDY, **extra: float) -> None:
        predictions = constant_predictions(self.dialogues) if lm is None else predict(lm, self.dialogues, decoding)
        scores = evaluate(predictions, self.corpus)
        figures = {"perplexity": reply_perplexity(lm, self.dialogues)} if lm and decoding == GREEDY else {}
        figures |= {score: getattr(scores, score) for score in ("bleu", "inform", "success")}
        figures |= {"trigrams": scores.richness["num_trigrams"], "words": scores.richness["avg_lengths"], **extra}
        self.rows[name] = figures
        write_json(self.file, self.rows)
        print(json.dumps({name: figures}), file=sys.stderr, flush=True)

    def tune(self, name: str, config: FinetuneConfig) -> None:
        started = time.perf_counter()
        result = finetune(None, self.corpus, config, self.folder / name.replace("/", "by"))
        seconds = time.perf_counter() - started
        self.add(name, tuned(config, result.adapter), final_loss=result.history[-1]["loss"], seconds=seconds)

    def markdown(self) -> str:
        columns = ("own_texts", "perplexity", "bleu", "inform", "success", "trigrams", "words", "final_loss", "seconds")
        lines = ["| run | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for name, figures in self.rows.items():
            cells = (f"{figures[column]:,.4g}" if column in figures else "" for column in columns)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)


def tuned(config: FinetuneConfig, folder: Path) -> Any:
    if config.full_finetune:
        return load_model(str(folder), bits=config.bits)
    return load_model(config.model, bits=config.bits, adapter=folder)


def text_perplexity(lm: Any) -> float:
    """Of 300 texts that are made like those of pre-training, with a seed that it did not use."""
    import torch

    rows = torch.tensor(blocks(pretraining_texts(7, 300), lm.codec.tokenizer)["input_ids"])
    with torch.inference_mode():
        return float(torch.stack([lm.base(row[None], labels=row[None]).loss for row in rows]).mean().exp())


def untuned(table: Table, name: str, model: str, bits: int, decoding: DecodingConfig = GREEDY) -> None:
    lm = load_model(model, bits=bits)
    table.add(name, lm, decoding, **({"own_texts": text_perplexity(lm)} if decoding == GREEDY else {}))


def decoded(table: Table, name: str, decoding: DecodingConfig) -> None:
    run = f"QLoRA, {SIZES[-1]}"
    table.add(name, tuned(RUNS[run], table.folder / run), decoding)


def main(folder: Path) -> None:
    table = Table(folder)
    todo = {"constant “ok”": table.add}
    for bits in (32, 4):
        todo |= {f"zero-shot, {s}, {bits} bits": partial(untuned, table, model=s, bits=bits) for s in SIZES}
    beams = DecodingConfig("beam", num_beams=2)
    todo["zero-shot, mini-pythia-8m, 4 bits, beam search, 2"] = partial(
        untuned, table, model=SIZES[-1], bits=4, decoding=beams
    )
    todo |= {name: partial(table.tune, config=config) for name, config in RUNS.items()}
    todo |= {f"8m tuned, {how}": partial(decoded, table, decoding=config) for how, config in DECODING.items()}
    for name, row in todo.items():
        if name not in table.rows:
            try:
                row(name)
            except LabError as error:
                print(f"{name}: {error}", file=sys.stderr)
    print(table.markdown())
    print(f"\n{hardware()}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/phenomena"))
