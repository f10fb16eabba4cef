"""transformers' Trainer for the loss on replies: arguments, scores on the way, stopping, publishing."""

import copy
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Corpus, Dialogue
from labkit.errors import Interrupted
from labkit.machine.hardware import FAST_BF16, bf16_speedup
from labkit.models import LanguageModel, attach_adapter, embedding_names, layer_kinds
from labkit.models.likelihood import target_loss
from labkit.prompts.sequences import IGNORED
from labkit.training.config import PAGED, SCORES, STEPPING, FinetuneConfig, OwnScore, Watcher
from labkit.training.data import Collator
from labkit.training.record import history_of, write_weights

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments


def _trainable(lm: LanguageModel, config: FinetuneConfig, checkpoint: str | None) -> LanguageModel:
    """The model with what is to be trained: a new LoRA, or all its weights in float32."""
    if config.full_finetune:
        model = copy.deepcopy(lm.model).float().requires_grad_(True)  # the handle's own weights stay as they are
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
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


def _scores(
    lm: LanguageModel, dialogues: list[Dialogue], corpus: Corpus, config: FinetuneConfig, own: OwnScore | None = None
) -> dict[str, Any]:
    """Scores of greedy replies to validation dialogues, and the first as a sample; no goals: only BLEU and `own`."""
    from labkit import metrics
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.predict import predict

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
                watch(history_of(state.log_history))

        def on_evaluate(self, args, state, control, **_):
            if _since_best(state.log_history, config) == 0:
                write_weights(trainer, lm, config, out / "best")
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


def _publish(trainer: "Trainer", lm: LanguageModel, config: FinetuneConfig, out: Path) -> None:
    """Move the best or else the last adapter or model into `out`, file by file: the checkpoints beside it stay."""
    written, best = out / ".partial", (out / "best").is_dir()
    if not best:
        write_weights(trainer, lm, config, written)
    if not trainer.is_world_process_zero():
        return
    if best:  # a copy: killed from here on, the same call again must find the best one
        shutil.copytree(out / "best", written, dirs_exist_ok=True)
    for file in sorted(written.iterdir(), key=lambda file: file.name.endswith("config.json")):
        file.replace(out / file.name)
    written.rmdir()
