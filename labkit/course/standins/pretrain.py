"""Train a mini-pythia from scratch: the stand-in for the real pythia models, on generated dialogues of other domains.

The architecture is pythia's own (GPT-NeoX: parallel residual, untied embeddings; Biderman et al. 2023, "Pythia"), but
for rotary positions on the whole of each head, since a quarter of so small ones carries little; the tokenizer is a
byte-level BPE with pythia's end token as id 0. The model never sees a dialogue in a lab domain or a placeholder, so
zero-shot it is fluent and wrong: fine-tuning has work to do.
"""

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from labkit.errors import Interrupted, LabError
from labkit.machine.hardware import FAST_BF16, bf16_speedup, choose_dtype, processor_name
from labkit.models.base import name_rotary
from labkit.models.find import WEIGHTS
from labkit.storage import Json, atomic_folder, last_checkpoint, read_json, writable_folder, write_json

if TYPE_CHECKING:
    import datasets
    import torch
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast, Trainer

END = "<|endoftext|>"


VOCABULARY, CONTEXT, LENGTH = 2048, 1024, 512  # in tokens; LENGTH is that of a training sequence
BATCH = 4  # sequences a step
SAVE_STEPS = 100
CHECKPOINTS = ".checkpoint"  # in the folder of the model, until it is written
DEFAULT_MINUTES = 15


@dataclass(frozen=True)
class Size:
    """The shape of a stand-in, and the peak learning rate that suits it."""

    hidden: int
    layers: int
    heads: int
    learning_rate: float


SIZES = {"500k": Size(64, 4, 4, 4e-3), "2m": Size(160, 4, 5, 3e-3), "8m": Size(320, 6, 5, 2e-3)}  # each 4 × the last


def pretrain(
    size: str = "8m",
    out: Path | str | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 2022,
    n_texts: int = 40_000,
) -> Path:
    """Train tokenizer and model of one size for `steps`, or for as many as a timing says fit into `minutes`.

    The same call again goes on from its last checkpoint. Writes safetensors in float16, the tokenizer and a model card
    into `out` (default: the folder where labkit looks for this size) and returns it.

    Raises:
        LabError: unknown size, no time to train, a folder with what labkit did not write, unfinished training of
            another configuration in `out`.
        Interrupted: Ctrl-C.
    """
    import datasets
    import torch

    from labkit.corpora.miniwoz.pretraining import pretraining_texts

    _check(size, minutes, steps)
    out = Path(out or WEIGHTS / f"mini-pythia-{size}")
    writable_folder(out, known=_own(out))
    torch.manual_seed(seed)
    texts = pretraining_texts(seed, n_texts)
    tokenizer = train_tokenizer(texts)
    held_out = max(4, len(texts) // 50)  # texts
    test = blocks(texts[:held_out], tokenizer)
    text = blocks(texts[held_out:], tokenizer)
    data = datasets.concatenate_datasets([text, repeats(max(1, len(text) // 20), seed)])
    checkpoint = last_checkpoint(out / CHECKPOINTS)
    model = build(size, checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    asked = {"size": size, "seed": seed, "n_texts": n_texts, "minutes": minutes, "steps": steps}
    run = _plan(asked, model, out)
    few = test.select(range(min(64, len(test))))
    trainer = _trainer(model, data, few, run, out / CHECKPOINTS)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except KeyboardInterrupt as stop:
        raise Interrupted("pretraining stopped", "", "the same call again goes on from the last checkpoint") from stop
    card = _card(trainer, {**run, "held_out": held_out, "tokens": len(text) * LENGTH})
    _write(out, model.to(torch.float16), tokenizer, card)
    return out


def _check(size: str, minutes: float | None, steps: int | None) -> None:
    if size not in SIZES:
        raise LabError(f"unknown size {size!r}", "", f"choose one of {', '.join(SIZES)}")
    if steps is not None and steps < 1:
        raise LabError(f"steps={steps} trains nothing", "", "choose 1 or more, or minutes")
    if minutes is not None and not 0 < minutes < math.inf:
        raise LabError(f"minutes={minutes} is no time to train", "", "choose a number above 0, or steps")


def build(size: str, checkpoint: str | None = None) -> "GPTNeoXForCausalLM":
    """A GPT-NeoX of one of the sizes with random weights, or with those of a checkpoint.

    Trainer 5.17 resumes without the output head, which GPT-NeoX has on disk under another name, and only warns.
    """
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    shape = SIZES[size]
    rotary = {"rotary_pct": 1.0}  # rotary positions on whole heads; it is read, but no declared argument
    config = GPTNeoXConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        **rotary,
        max_position_embeddings=CONTEXT,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=0,
    )
    if checkpoint:  # copied: the same product is another at an address that only a file has
        model = copy.deepcopy(GPTNeoXForCausalLM.from_pretrained(checkpoint))
    else:
        model = GPTNeoXForCausalLM(config)
    name_rotary(model)
    return model


def train_tokenizer(texts: list[str]) -> "PreTrainedTokenizerFast":
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) with one special token, the end token, as id 0."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        ),
    )
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=CONTEXT, **special)


def blocks(texts: list[str], tokenizer: "PreTrainedTokenizerFast") -> "datasets.Dataset":
    """All texts in one row of tokens, the end token after each, cut into blocks of LENGTH. The labels are the ids."""
    import datasets

    rows = tokenizer([text.strip() + "\n" + END for text in texts])["input_ids"]
    stream = [token for row in rows for token in row]
    cut = [stream[i : i + LENGTH] for i in range(0, len(stream) - LENGTH + 1, LENGTH)]  # [N, T]
    return datasets.Dataset.from_dict({"input_ids": cut, "labels": cut})


def repeats(n: int, seed: int) -> "datasets.Dataset":
    """`n` blocks of random tokens, each 32 of them said twice (Olsson et al. 2022, induction heads).

    With them every token occurs, the rare ones hardly; so a stand-in's embeddings are trained together with its LoRA.
    """
    import datasets

    rng = Random(seed)
    pieces = [rng.choices(range(1, VOCABULARY), k=32) * 2 for _ in range(n * LENGTH // 64)]
    stream = [token for piece in pieces for token in piece]
    cut = [stream[i : i + LENGTH] for i in range(0, len(stream), LENGTH)]  # [N, T]
    return datasets.Dataset.from_dict({"input_ids": cut, "labels": cut})


def _plan(run: Json, model: "GPTNeoXForCausalLM", out: Path) -> Json:
    """The settings of the run with dtype and number of steps, decided once and kept beside the checkpoints."""
    kept = out / CHECKPOINTS / "run.json"
    if kept.exists():
        plan = read_json(kept)
        if plan["asked"] != run:
            raise LabError(f"{kept.parent} is of another run", str(plan["asked"]), "delete it or choose another folder")
        return plan
    dtype = _type_of_a_step(model.device.type)
    steps = run["steps"]
    if not steps:
        minutes = run["minutes"] or DEFAULT_MINUTES
        steps = max(1, round(60 * minutes / _seconds_per_step(model, dtype)))
    plan = {**run, "asked": run, "dtype": dtype, "steps": steps}
    write_json(kept, plan)
    return plan


def _type_of_a_step(device: str) -> str:
    """bfloat16 where there are units for it: twice as fast there, and twenty times slower on some other CPUs.

    Steps of a small model are not asked: on a busy machine now one type was faster and now the other, and one seed gave
    two models.
    """
    if device == "cpu":
        return "bfloat16" if bf16_speedup() > FAST_BF16 else "float32"
    dtype, _ = choose_dtype(device)
    return "bfloat16" if dtype == "bfloat16" else "float32"


def _seconds_per_step(model: "GPTNeoXForCausalLM", dtype: str) -> float:
    import torch

    ids = torch.zeros(BATCH, LENGTH, dtype=torch.long, device=model.device)  # [B, T]

    def seconds() -> float:
        started = time.perf_counter()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            model(input_ids=ids, labels=ids).loss.backward()
        model.zero_grad()
        return time.perf_counter() - started

    return min(seconds() for _ in range(3))


def _trainer(
    model: "GPTNeoXForCausalLM", data: "datasets.Dataset", test: "datasets.Dataset", run: Json, folder: Path
) -> "Trainer":
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(folder),
        max_steps=run["steps"],
        per_device_train_batch_size=BATCH,
        learning_rate=SIZES[run["size"]].learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, run["steps"] // 30),
        weight_decay=0.05,
        adam_beta2=0.98,
        bf16=run["dtype"] == "bfloat16",
        use_cpu=model.device.type == "cpu",
        dataloader_pin_memory=False,
        logging_steps=max(1, run["steps"] // 40),
        save_steps=SAVE_STEPS,
        save_total_limit=1,
        seed=run["seed"],
        report_to="none",
    )
    return Trainer(model, arguments, train_dataset=data, eval_dataset=test)


def _write(out: Path, model: "GPTNeoXForCausalLM", tokenizer: "PreTrainedTokenizerFast", card: str) -> None:
    """The model folder, whole or not at all; the checkpoints in it go."""
    with atomic_folder(out, known=_own(out)) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")


def _own(out: Path) -> list[str]:
    """Names in the folder that are on no list and yet labkit's: the checkpoints, and what this clone ships."""
    shipped = [path.name for path in out.glob("*")] if out.parent == WEIGHTS else []
    return [CHECKPOINTS, *shipped]


def _card(trainer: "Trainer", run: Json) -> str:
    """The model card; every figure in it comes from this run."""
    loss = trainer.evaluate()["eval_loss"]
    history = [row for row in trainer.state.log_history if "loss" in row]
    last = len(history) - 1
    shown = [history[round(i * last / 7)] for i in range(8)]
    seconds = next(row["train_runtime"] for row in trainer.state.log_history if "train_runtime" in row)
    template = Path(__file__).with_name("mini-pythia.md").read_text(encoding="utf-8")
    return template.format(
        **{key: run[key] for key in ("size", "n_texts", "steps", "dtype", "seed", "held_out", "tokens")},
        parameters=trainer.model.num_parameters(),
        vocabulary=VOCABULARY,
        batch=BATCH,
        length=LENGTH,
        seen=run["steps"] * BATCH * LENGTH,
        learning_rate=SIZES[run["size"]].learning_rate,
        loss=loss,
        perplexity=math.exp(loss),
        minutes=seconds / 60,
        machine=_machine(trainer.args.device),
        command=f"labkit pretrain --size {run['size']} --steps {run['steps']} --seed {run['seed']} --out DIR",
        sparkline=_sparkline([row["loss"] for row in history]),
        curve_steps=" | ".join(str(row["step"]) for row in shown),
        rule="---|" * 9,
        curve_losses=" | ".join(f"{row['loss']:.2f}" for row in shown),
    )


def _sparkline(values: list[float]) -> str:
    """A curve as a line of text, a block for each value."""
    bars = "▁▂▃▄▅▆▇█"
    lowest = min(values)
    spread = max(values) - lowest or 1
    heights = [round(7 * (value - lowest) / spread) for value in values]
    return "".join(bars[height] for height in heights)


def _machine(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor_name()}, {torch.get_num_threads()} threads"
