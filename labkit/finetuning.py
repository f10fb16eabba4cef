"""LoRA fine-tuning (Hu et al. 2022) on dialogues; QLoRA (Dettmers et al. 2023) where the base model is quantised.

A dialogue is one training sequence with the loss on all its bot turns, and the output head is applied to those
positions only; transformers' Trainer does the steps. A run writes into one folder, and the same call goes on from it.
"""

import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import SPLIT_ALIASES, Corpus, Dialogue
from labkit.environment import FAST_BF16, GIB, STAND_INS, bf16_speedup, hardware, seed_everything
from labkit.errors import Interrupted, LabError
from labkit.memory import plan_memory
from labkit.models import (
    LanguageModel,
    attach_adapter,
    count_parameters,
    embedding_names,
    layer_kinds,
    load_model,
    memory_errors,
    save_adapter,
    save_model,
)
from labkit.models.pretrain import last_checkpoint
from labkit.prompts import IGNORED, Example, TextCodec, examples
from labkit.storage import alone_in, read_json, write_json

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainingArguments

# Trainer's optimisers that need torch and bitsandbytes only; paged ones keep their state in CUDA's unified memory
PAGED = {"paged_adamw_32bit": "adamw_torch", "paged_adamw_8bit": "adamw_bnb_8bit", "paged_lion_32bit": "lion_32bit"}
PAGED |= {"paged_lion_8bit": "lion_8bit"}
PLAIN = ("adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "lion_32bit", "lion_8bit", "adafactor", "sgd")
OPTIMIZERS = (*PLAIN, *PAGED)
LOADING = ("bits", "quant_type", "double_quant", "reinitialise", "seed")  # fields that load_model takes
SCORES = ("loss", "bleu", "inform", "success", "combined", "own")  # of the validation dialogues
OwnScore = Callable[[dict[str, list[dict[str, Any]]]], float]  # of predictions; the higher the better
Watcher = Callable[[list[dict[str, Any]]], None]
STEPPING = ("max_steps", "save_steps", "learning_rate", "weight_decay", "max_grad_norm", "gradient_accumulation_steps")


def _option(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class FinetuneConfig:
    """Every choice of a fine-tuning run, under the names that transformers and peft give them."""

    model: str = _option("mini-pythia", "base model: a stand-in, a folder, a .gguf file or a Hub id")
    bits: int | None = _option(None, "bits of the base weights: 4, 8, 16 or 32; default: what the device is fast in")
    quant_type: str = _option("nf4", "4-bit data type: nf4 or fp4")
    double_quant: bool = _option(True, "quantise the quantisation constants too")
    lora_r: int = _option(16, "rank of the LoRA matrices")
    lora_alpha: int = _option(32, "LoRA scale: the update counts alpha / r times")
    lora_dropout: float = _option(0.0, "dropout before the LoRA matrices")
    lora_modules: str = _option("linear", "layers with a LoRA: linear, attention, ffn, or a regular expression")
    use_dora: bool = _option(False, "train magnitude and direction apart (DoRA, Liu et al. 2024)")
    use_rslora: bool = _option(False, "scale by alpha / sqrt(r) (rank-stabilised LoRA, Kalajdzievski 2023)")
    init_lora_weights: str = _option("default", "default (no change), gaussian, or loftq (Li et al. 2024)")
    train_embeddings: bool | None = _option(None, "train the embeddings, in full; default: of the stand-ins")
    full_finetune: bool = _option(False, "train all weights instead of a LoRA")
    reinitialise: bool = _option(False, "begin with random weights instead of the pretrained ones")
    format: str = _option("turns", "text format: turns, state or dialogs")
    recipe: str = _option("dialogues", "one pass per dialogue (dialogues), or one sequence per reply (turns)")
    lexical: bool = _option(False, "keep names and numbers; Inform and Success then say nothing")
    train_on_source: bool = _option(False, "put the loss on the user's turns as well")
    train_split: str = _option("train", "split to train on")
    dev_split: str = _option("dev", "split for the validation loss; if it is the training split, a part is held out")
    max_train_dialogues: int | None = _option(None, "train on so many dialogues, drawn with the seed; default: all")
    max_dev_dialogues: int = _option(30, "compute the validation loss on so many dialogues")
    max_length: int = _option(512, "longest sequence in tokens; a longer dialogue becomes several windows")
    max_steps: int = _option(200, "optimiser steps")
    batch_size: int = _option(8, "dialogues per forward pass (replies with recipe=turns)")
    gradient_accumulation_steps: int = _option(1, "forward passes per step")
    learning_rate: float | None = _option(None, "peak learning rate; default: 4e-3 for the stand-ins, 1e-3 for others")
    lr_scheduler: str = _option("cosine", "schedule after the warm-up: cosine, linear, constant_with_warmup, …")
    warmup_steps: int = _option(10, "steps of linear warm-up")
    weight_decay: float = _option(0.0, "decoupled weight decay")
    max_grad_norm: float = _option(1.0, "gradients longer than this are scaled down to it")
    optim: str = _option("adamw_torch", f"optimiser: {', '.join(OPTIMIZERS)}")
    gradient_checkpointing: bool = _option(False, "recompute activations in the backward pass: less memory, more time")
    group_by_length: bool = _option(True, "put dialogues of similar length into a batch")
    eval_steps: int = _option(50, "validation loss every so many steps; 0: never")
    score_dialogues: int = _option(0, "at every validation, reply to so many dialogues, too: BLEU, Inform, Success")
    metric_for_best_model: str | None = _option(None, f"keep the best adapter by {', '.join(SCORES)}; default: last")
    early_stopping_patience: int | None = _option(None, "stop after so many validations without a better one")
    save_steps: int = _option(50, "checkpoint every so many steps")
    seed: int = _option(42, "seed of the LoRA matrices, the sample and the order of the dialogues")
    report_to: str = _option("none", "where Trainer reports to: none, tensorboard, wandb, …")


@dataclass(frozen=True)
class FinetuneResult:
    """What a finished run leaves. `seconds` and `tokens_per_second` are of the call that finished it."""

    adapter: Path  # folder with the adapter, or with the whole model after full_finetune
    # {"step", "loss", …} every few steps; every eval_steps {"step", "eval_loss"} and, where replies were scored,
    # "eval_bleu", "eval_inform", "eval_success", "eval_combined" and "eval_sample", a reply
    history: list[dict[str, Any]]
    trainable: int  # parameters
    total: int
    seconds: float
    tokens_per_second: float  # target tokens, the ones with a loss


def finetune(
    lm: LanguageModel | None,
    corpus: Corpus,
    config: FinetuneConfig = FinetuneConfig(),
    out: Path | str = "adapter",
    watch: Watcher | None = None,
    own_score: OwnScore | None = None,
) -> FinetuneResult:
    """Train an adapter (with `full_finetune` the model) into `out`; the same call again goes on, or returns at once.

    `lm`: a loaded base model, which is given back without the adapter (full fine-tuning changes it); None loads
    `config.model`. In `out`: the adapter, run.json (the configuration), checkpoints/, and, written last, result.json.
    `watch` is called with the history so far whenever it grows (`plots.live` draws it).
    `own_score` gets the replies to the `score_dialogues` at every validation: "own" among the scores.

    Raises:
        LabError: a configuration that cannot be met, another configuration's run in `out`, out of memory, or an
            interrupt (adapter and checkpoint are then written).
    """
    out = Path(out)
    rate = 4e-3 if (lm.stand_in if lm else config.model in STAND_INS) else 1e-3
    config = replace(config, learning_rate=config.learning_rate or rate)
    run = {**asdict(config), "corpus": corpus.name}
    if lm is not None:
        run |= {"model": lm.name, "bits": lm.bits}
    if done := _finished(run, out):
        return done
    _check(config, own_score)
    with alone_in(out):  # who waited for another process finds what it made
        return _finished(run, out) or _finetune(lm, corpus, config, run, out, watch, own_score)


def _finetune(
    lm: LanguageModel | None, corpus: Corpus, config: FinetuneConfig, run: Any, out: Path, watch: Any, own_score: Any
) -> FinetuneResult:
    """`finetune` in a folder that is this process's alone and whose run is not finished."""
    train, dev = split_dialogues(corpus, config)
    seed_everything(config.seed)
    base = lm or load_model(config.model, **{name: getattr(config, name) for name in LOADING})
    _check_fit(base, config)
    embeddings = base.model.get_input_embeddings(), base.model.get_output_embeddings()
    write_json(out / "run.json", run)
    with memory_errors(partial(_smaller, base, config)):
        checkpoint = last_checkpoint(out / "checkpoints")
        tuned = _trainable(base, config, checkpoint)
        _compute_in(base, _computes_in(base))
        scored = dev[: config.score_dialogues]
        score = partial(_scores, tuned, scored, corpus, config, own_score) if scored else dict
        data = [_dataset(dialogues, base.codec, config) for dialogues in (train, dev)]
        trainer = _trainer(tuned, *data, config, out, score)
        trainer.add_callback(_follower(trainer, tuned, config, out, watch))
        seconds = _train(trainer, tuned, config, out, checkpoint)
    trainable, total = count_parameters(tuned.model)
    history, speed = _history(trainer.state.log_history), trainer.target_tokens / seconds
    result = FinetuneResult(out, history, trainable, total, seconds, speed)
    if trainer.is_world_process_zero():
        write_json(out / "result.json", {**asdict(result), "adapter": "."})
    if lm is not None and not config.full_finetune:
        _compute_in(lm, lm.dtype)
        tuned.model.unload()  # the caller's model stays the base model,
        lm.model.set_input_embeddings(embeddings[0])  # which peft leaves with the trained embeddings
        lm.model.set_output_embeddings(embeddings[1])
    return result


# --- what a run may be ------------------------------------------------------------------------------------------------


def _finished(run: dict[str, Any], out: Path) -> FinetuneResult | None:
    """The result in `out`, if there is one. A folder belongs to one configuration."""
    if (out / "run.json").exists():
        old = asdict(FinetuneConfig()) | read_json(out / "run.json")  # fields that an older labkit did not have
        differing = [f"{key} {old.get(key)!r} → {run.get(key)!r}" for key in old | run if old.get(key) != run.get(key)]
        if differing:
            action = "delete it or change --out"
            raise LabError(f"{out} holds a run of another configuration", "; ".join(differing), action)
    result = out / "result.json"
    return FinetuneResult(**read_json(result) | {"adapter": out}) if result.exists() else None


def _check(config: FinetuneConfig, own_score: OwnScore | None = None) -> None:
    if SPLIT_ALIASES.get(config.dev_split, config.dev_split) == "test":
        raise LabError("the test split is not for validation", "", "choose dev_split='dev'")
    if config.optim not in OPTIMIZERS:
        raise LabError(f"unknown optimiser {config.optim!r}", "", f"choose one of {', '.join(OPTIMIZERS)}")
    metric, generated = config.metric_for_best_model, set(SCORES) - {"loss"}
    if metric == "own" and own_score is None:
        raise LabError("metric_for_best_model='own' needs your score", "", "finetune(…, own_score=your_function)")
    if metric not in (None, *SCORES) or (config.early_stopping_patience and not metric):
        found = f"metric_for_best_model={metric!r}"
        raise LabError("no such score to choose the adapter by", found, f"choose one of {', '.join(SCORES)}")
    if not config.eval_steps and (metric or config.score_dialogues):
        raise LabError("scores need a validation", "eval_steps=0", "set eval_steps to every how many steps")
    if (metric in generated and not config.score_dialogues) or (config.score_dialogues and config.format == "dialogs"):
        found = f"score_dialogues={config.score_dialogues}, format={config.format!r}"
        raise LabError("no replies would be scored", found, "set score_dialogues, and format to turns or state")
    _check_reporter(config.report_to)
    if config.init_lora_weights not in ("default", "gaussian", "loftq"):
        raise LabError(f"init_lora_weights={config.init_lora_weights!r}", "", "choose default, gaussian or loftq")
    counted = ("max_steps", "batch_size", "gradient_accumulation_steps", "save_steps")
    counts = {name: getattr(config, name) for name in counted}
    if min(counts.values()) < 1:
        raise LabError("counts begin at 1", str(counts), "mend the configuration")


def _check_reporter(name: str) -> None:
    from transformers.integrations import get_available_reporting_integrations

    if name != "none" and name not in (known := get_available_reporting_integrations()):
        found = f"installed and known to transformers: {', '.join(known) or 'none'}"
        raise LabError(f"cannot report to {name!r}", found, f"pip install {name}, or choose none")


def _check_fit(lm: LanguageModel, config: FinetuneConfig) -> None:
    if config.max_length > lm.context_length:
        found = f"{lm.name} was made for {lm.context_length}"
        raise LabError(f"max_length={config.max_length} is too long", found, f"max_length={lm.context_length}")
    if config.full_finetune and lm.bits < 16:
        raise LabError("quantised weights cannot be trained in full", f"bits={lm.bits}", "choose bits=16 or 32")


def _smaller(lm: LanguageModel, config: FinetuneConfig) -> str:
    """The smallest change whose memory plan fits this device, and is clearly below the plan of what did not fit."""
    hw = hardware()
    device = ((hw.gpu_memory_gb or hw.ram_gb) * GIB - 5e8) / 1e6  # without what Python or CUDA take themselves
    try:
        planned = _planned(lm, config)
    except LabError:  # there is no plan for every architecture, and this is the end of another error
        return "choose a smaller batch_size or max_length, or gradient_checkpointing=True"
    for change in _cheaper(config, lm.bits):
        if (smaller := _planned(lm, replace(config, **change))) < min(device, 0.9 * planned):
            changed = ", ".join(f"{name}={value}" for name, value in change.items())
            return f"{changed}: planned {smaller:,.0f} MB, where {planned:,.0f} MB did not fit"
    return "choose a smaller model"


def _cheaper(config: FinetuneConfig, bits: int) -> Iterator[dict[str, Any]]:
    """Changes that take ever less memory; each keeps those before it, the first ones change the least."""
    change: dict[str, Any] = {}
    rows, length = config.batch_size, config.max_length
    while rows > 1:  # the same steps in more passes
        rows //= 2
        passes = config.batch_size * config.gradient_accumulation_steps // rows
        yield (change := {"batch_size": rows, "gradient_accumulation_steps": passes})
    if not config.gradient_checkpointing:
        yield (change := {**change, "gradient_checkpointing": True})
    while length > 256:
        length = max(256, length // 2)
        yield (change := {**change, "max_length": length})
    if bits > 4:
        yield {**change, "bits": 4, **({"full_finetune": False} if config.full_finetune else {})}


def _planned(lm: LanguageModel, config: FinetuneConfig) -> float:
    """Megabytes of a step, by the memory plan."""
    same = ("optim", "double_quant", "full_finetune", "gradient_checkpointing", "use_dora", "use_rslora")
    options = {name: getattr(config, name) for name in same}
    options |= {name: getattr(config, f"lora_{name}") for name in ("r", "alpha", "modules")}
    options |= {"batch": config.batch_size, "length": config.max_length, "bits": config.bits or lm.bits}
    options |= {"dtype": lm.dtype, "train_embeddings": _trains_embeddings(lm, config)}
    return sum(plan_memory(lm.model.config, **options).values())


def split_dialogues(corpus: Corpus, config: FinetuneConfig) -> tuple[list[Dialogue], list[Dialogue]]:
    """(training, validation) dialogues: whole ones, drawn with the seed, and none in both.

    Raises:
        LabError: no such split, or no training dialogue is left.
    """
    train, dev = list(corpus[config.train_split]), list(corpus[config.dev_split]) if config.eval_steps else []
    Random(config.seed).shuffle(train)
    if dev and corpus[config.train_split] is corpus[config.dev_split]:
        held_out = min(config.max_dev_dialogues, len(train) // 5)
        dev, train = train[:held_out], train[held_out:]
    train = train[: config.max_train_dialogues]
    if not train:
        raise LabError(f"no training dialogues in {config.train_split!r}", corpus.name, "choose another split")
    return train, Random(config.seed).sample(dev, min(len(dev), config.max_dev_dialogues))


# --- model and data ---------------------------------------------------------------------------------------------------


def _trainable(lm: LanguageModel, config: FinetuneConfig, checkpoint: str | None) -> LanguageModel:
    """The model with what is to be trained: a new LoRA, or all its weights in float32."""
    if config.full_finetune:
        if config.gradient_checkpointing:
            lm.model.gradient_checkpointing_enable({"use_reentrant": False})
        model = lm.model.float().requires_grad_(True)
        if checkpoint:  # Trainer 5.17 resumes without the output head of a GPT-NeoX, and only warns
            model.load_state_dict(type(model).from_pretrained(checkpoint).state_dict())
        return replace(lm, model=model)
    lora = {name: getattr(config, f"lora_{name}") for name in ("r", "alpha", "dropout", "modules")}
    lora |= {name: getattr(config, name) for name in ("gradient_checkpointing", "use_dora", "use_rslora")}
    lora["modules_to_save"] = embedding_names(lm.model) if _trains_embeddings(lm, config) else None
    start = config.init_lora_weights
    tuned = attach_adapter(lm, init_lora_weights=True if start == "default" else start, **lora)
    print(f"LoRA on {layer_kinds(tuned.model.targeted_module_names)}")
    for parameter in tuned.model.parameters():  # a step of a trained embedding is lost in bfloat16's 8 bits
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # no vocabulary was resized; without this, peft asks the Hub about it at every checkpoint
    tuned.model.save_pretrained = partial(tuned.model.save_pretrained, save_embedding_layers=False)
    return tuned


def _computes_in(lm: LanguageModel) -> str:
    """The type of a step's matrix products: bfloat16 for 4 bits on a CPU with units for it, though it loads as float32.

    Weights of 4 bits are no more exact than bfloat16's 8; scores are computed in what the model was loaded in.
    """
    return "bfloat16" if lm.bits == 4 and lm.device == "cpu" and bf16_speedup() > FAST_BF16 else lm.dtype


def _compute_in(lm: LanguageModel, dtype: str) -> None:
    import torch

    for module in lm.model.modules():
        if hasattr(module, "compute_type_is_set"):  # bitsandbytes' Linear4bit
            module.compute_dtype = getattr(torch, dtype)


def _trains_embeddings(lm: LanguageModel, config: FinetuneConfig) -> bool:
    """A LoRA cannot reach the rows of tokens that pre-training hardly used, such as a stand-in's placeholders.

    mini-pythia-8m on MiniWOZ, --bits 4 --batch-size 2 --max-steps 240 --eval-steps 240: validation loss 0.89 with
    --train-embeddings, 1.22 with --no-train-embeddings.
    """
    return lm.stand_in if config.train_embeddings is None else config.train_embeddings


def _dataset(dialogues: Sequence[Dialogue], codec: TextCodec, config: FinetuneConfig) -> Any:
    """A `datasets.Dataset` with one row a training sequence: input_ids, labels, length."""
    import datasets

    options = {name: getattr(config, name) for name in ("format", "recipe", "max_length", "lexical", "train_on_source")}
    rows: list[Example] = [example for dialogue in dialogues for example in examples(dialogue, codec, **options)]
    return datasets.Dataset.from_list(
        [{"input_ids": row.input_ids, "labels": row.labels, "length": len(row.input_ids)} for row in rows]
    )


@dataclass(frozen=True)
class Collator:
    """Rows of different length → one batch, filled up on the right. The labels are IGNORED where nothing is learnt."""

    pad_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, "torch.Tensor"]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        fill = [longest - len(row["input_ids"]) for row in rows]
        ids = torch.tensor([row["input_ids"] + [self.pad_id] * n for row, n in zip(rows, fill, strict=True)])  # [B, T]
        mask = torch.tensor([[1] * (longest - n) + [0] * n for n in fill])  # [B, T]
        labels = torch.tensor([row["labels"] + [IGNORED] * n for row, n in zip(rows, fill, strict=True)])  # [B, T]
        labels[:, 0] = IGNORED  # nothing comes before the first token, so nothing predicts it
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


# --- loss -------------------------------------------------------------------------------------------------------------


def target_loss(
    model: Any, input_ids: "torch.Tensor", attention_mask: "torch.Tensor", labels: "torch.Tensor"
) -> "torch.Tensor":
    """Cross-entropy in nats, summed over the labels that are not IGNORED; scalar.

    The output head, most of the work in a small model with a large vocabulary, sees only the positions before a label.
    A hook on it selects them, so that any architecture, adapter or parallel wrapper runs as it is.
    """
    import torch

    wanted = labels[:, 1:] != IGNORED  # [B, T-1]: position t predicts label t+1
    inner = getattr(model, "module", model)
    head = (inner.get_base_model() if hasattr(inner, "get_base_model") else inner).get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][wanted],))  # [B, T, H] → [N, H]
    try:
        logits = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits  # [N, V]
    finally:
        hook.remove()
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="sum")


def _scores(
    lm: LanguageModel, dialogues: list[Dialogue], corpus: Corpus, config: FinetuneConfig, own: OwnScore | None = None
) -> dict[str, Any]:
    """Scores of greedy replies to validation dialogues, and the first as a sample; no goals: only BLEU and `own`."""
    from labkit import metrics
    from labkit.decoding import DecodingConfig, predict

    prompt = {"format": config.format, "max_length": config.max_length}
    predictions = predict(lm, dialogues, DecodingConfig(batch_size=4 * config.batch_size), **prompt)
    scores = metrics.evaluate(predictions, corpus, config.dev_split, allow_lexical=True)
    found = {f"eval_{name}": getattr(scores, name, None) for name in SCORES}
    found |= {"eval_own": float(own(predictions))} if own else {}
    sample = {"eval_sample": predictions[dialogues[0].key][0]["response"]}
    return {name: score for name, score in found.items() if score is not None} | sample


def _trainer(
    lm: LanguageModel, train: Any, dev: Any, config: FinetuneConfig, out: Path, score: Callable[[], dict[str, Any]]
) -> "Trainer":
    from transformers import Trainer

    class TargetTrainer(Trainer):
        """Trainer with the loss on target positions, and validation: nats per target token, and what `score` adds."""

        target_tokens = 0

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            n = (inputs["labels"][:, 1:] != IGNORED).sum()
            self.target_tokens += int(n)
            # one gradient step is the mean over all target tokens of all processes, whatever batch they are in
            return target_loss(model, **inputs) * self.accelerator.num_processes / (num_items_in_batch or n)

        def evaluate(self, *_, **__):
            import torch

            self.model.eval()
            rows, size = list(self.eval_dataset), self.args.per_device_eval_batch_size
            # all of it in every process: a loader for several would repeat rows to fill the last batch
            batches = [self.data_collator(rows[i : i + size]) for i in range(0, len(rows), size)]
            batches = [self._prepare_inputs(batch) for batch in batches]
            with torch.no_grad():
                nats = sum(float(target_loss(self.model, **batch)) for batch in batches)
            n = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in batches)
            metrics = {"eval_loss": nats / n} | score()
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    trainer = TargetTrainer(
        lm.model,
        _arguments(lm, config, out, evaluate=len(dev) > 0),
        train_dataset=train,
        eval_dataset=dev,
        data_collator=Collator(lm.codec.pad_id),
    )
    trainer.model_accepts_loss_kwargs = True  # compute_loss divides by num_items_in_batch itself
    return trainer


def _arguments(lm: LanguageModel, config: FinetuneConfig, out: Path, evaluate: bool) -> "TrainingArguments":
    from transformers import TrainingArguments

    grouped = (
        {"train_sampling_strategy": "group_by_length"}
        if "train_sampling_strategy" in {option.name for option in fields(TrainingArguments)}
        else {"group_by_length": True}  # its name before transformers 5.1
    )
    arguments = TrainingArguments(
        str(out / "checkpoints"),
        **{name: getattr(config, name) for name in (*STEPPING, "seed", "report_to")},
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=min(config.warmup_steps, config.max_steps // 5),
        optim=_optimizer(config.optim, lm.device),
        eval_strategy="steps" if evaluate else "no",
        eval_steps=config.eval_steps or None,
        save_total_limit=2,
        logging_steps=max(1, min(10, config.max_steps // 20)),
        bf16=_computes_in(lm) == "bfloat16",
        fp16=lm.dtype == "float16" and lm.device == "cuda",
        use_cpu=lm.device == "cpu",
        dataloader_pin_memory=lm.device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        **(grouped if config.group_by_length else {}),
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # two GPUs in one process would be DataParallel, slower than one
    return arguments


def _optimizer(name: str, device: str) -> str:
    if name not in PAGED or device == "cuda":
        return name
    warnings.warn(f"optim={name} pages to a CUDA device, and this is {device}: {PAGED[name]} it is", stacklevel=2)
    return PAGED[name]


# --- run, stop, go on -------------------------------------------------------------------------------------------------


def _train(trainer: "Trainer", lm: LanguageModel, config: FinetuneConfig, out: Path, checkpoint: str | None) -> float:
    """Train, from the checkpoint if there is one, and write the adapter; returns seconds."""
    started = time.perf_counter()
    with _interruptible(trainer) as asked:
        if checkpoint:
            trainer.state = trainer.state.load_from_json(f"{checkpoint}/trainer_state.json")
        if not _stalled(trainer.state.log_history, config):  # else it was killed after its last step
            trainer.train(resume_from_checkpoint=checkpoint)
    lm.model.eval()
    _publish(trainer, lm, config, out)
    trainer.accelerator.wait_for_everyone()
    if asked.is_set() and trainer.state.global_step < config.max_steps:
        step = f"interrupted at step {trainer.state.global_step} of {config.max_steps}"
        raise Interrupted(step, f"the adapter so far is in {out}", "the same call again goes on from here")
    return time.perf_counter() - started


@contextmanager
def _interruptible(trainer: "Trainer") -> Iterator[threading.Event]:
    """Ctrl-C lets the step end and writes a checkpoint: no half-made step is saved. A second one stops at once."""
    from transformers import TrainerCallback

    asked = threading.Event()

    class StopAtStepEnd(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_save |= asked.is_set()
            control.should_training_stop |= asked.is_set()

    def ask(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    trainer.add_callback(StopAtStepEnd)
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _follower(trainer: "Trainer", lm: LanguageModel, config: FinetuneConfig, out: Path, watch: Watcher | None) -> Any:
    """A callback that keeps the best adapter, stops where it gets no better, and tells `watch`.

    All is decided from the history, which is in every checkpoint, so that a run that goes on decides the same.
    transformers' load_best_model_at_end would read a GPT-NeoX back without its output head.
    """
    from transformers import TrainerCallback

    class Follower(TrainerCallback):
        def on_log(self, args, state, control, **_):
            if watch and state.is_world_process_zero:
                watch(_history(state.log_history))

        def on_evaluate(self, args, state, control, **_):
            if _since_best(state.log_history, config) == 0:
                _write(trainer, lm, config, out / "best")
            control.should_training_stop |= _stalled(state.log_history, config)

    return Follower()


def _since_best(log: Sequence[dict[str, Any]], config: FinetuneConfig) -> int | None:
    """Validations since the best one, the first of equals; None where no metric was asked for, or none was made."""
    scores = [row[name] for row in log if (name := f"eval_{config.metric_for_best_model}") in row]
    if not scores:
        return None
    best = min(scores) if config.metric_for_best_model == "loss" else max(scores)
    return len(scores) - 1 - scores.index(best)


def _stalled(log: Sequence[dict[str, Any]], config: FinetuneConfig) -> bool:
    return (_since_best(log, config) or 0) >= (config.early_stopping_patience or float("inf"))


def _write(trainer: "Trainer", lm: LanguageModel, config: FinetuneConfig, folder: Path) -> None:
    """The first process writes the adapter or model; with FSDP each process has a part of it to hand in."""
    state = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        (save_model if config.full_finetune else save_adapter)(lm, folder, state)


def _publish(trainer: "Trainer", lm: LanguageModel, config: FinetuneConfig, out: Path) -> None:
    """Move the best or else the last adapter or model into `out`, file by file: the checkpoints beside it stay."""
    written, best = out / ".partial", (out / "best").is_dir()
    if not best:
        _write(trainer, lm, config, written)
    if not trainer.is_world_process_zero():
        return
    if best:  # a copy: killed from here on, the same call again must find the best one
        shutil.copytree(out / "best", written, dirs_exist_ok=True)
    for file in sorted(written.iterdir(), key=lambda file: file.name.endswith("config.json")):
        file.replace(out / file.name)
    written.rmdir()


def _history(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Losses and scores by step, for a plot."""
    rows = [row for row in log if "loss" in row or "eval_loss" in row]
    kept = {"step", "loss", "learning_rate", "eval_sample", *(f"eval_{name}" for name in SCORES)}
    return [{key: value for key, value in row.items() if key in kept} for row in rows]
