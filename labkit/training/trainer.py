"""transformers' Trainer with the loss on replies. Importing this module imports torch and transformers."""

import time
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from transformers import Trainer, TrainingArguments

from labkit.compat import one_gpu_a_process
from labkit.machine.device import device_kind
from labkit.models import LanguageModel
from labkit.models.families import route_of
from labkit.models.likelihood import target_loss
from labkit.prompts.sequences import IGNORED
from labkit.training.config import PAGED, FinetuneConfig
from labkit.training.data import Collator, EpochOrder
from labkit.training.lora_layers import written_out_once
from labkit.training.parts import Batch, add_gradients, parts_of, works_in_parts

MOST_LOG_STEPS = 10  # a point of the loss curve at least every so many steps …
POINTS = 20  # … and about so many in a short run

Score = Callable[[], dict[str, float | str]]


class TargetTrainer(Trainer):
    """Trainer with the loss on target positions, and validation: nats per target token, and what `score` adds."""

    order: EpochOrder  # these five are set by make_trainer
    score: Score
    ignores_padding = False  # the model's layers look back only, so that no token sees the padding after it
    in_parts = False  # a step is done by threads, each with some rows
    width = 0  # of hidden states
    step_seconds = 0.0
    # tokens with a loss in the training steps of this call and process; stays on the device, since to read it at each
    # step would be to wait for it
    target_tokens: torch.Tensor | int = 0

    def _get_train_sampler(self, *_: object) -> EpochOrder:
        return self.order

    def training_step(
        self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        started = time.perf_counter()
        one_step = self._step_in_parts if self.in_parts else super().training_step
        loss = one_step(model, inputs, num_items_in_batch)
        self.step_seconds += time.perf_counter() - started
        return loss

    def _step_in_parts(
        self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | None
    ) -> torch.Tensor:
        """Trainer's own step where rows are trained each by itself (labkit.training.parts)."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        divisor = self._divisor(inputs, num_items_in_batch)

        def loss_of(part: Batch) -> torch.Tensor:
            return self._nats(model, part) / divisor

        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        with written_out_once(model):
            return add_gradients(loss_of, parts_of(inputs, self.width), trained)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        divisor = self._divisor(inputs, num_items_in_batch)
        return self._nats(model, inputs) * self.accelerator.num_processes / divisor

    def _divisor(self, inputs: Batch, num_items_in_batch: torch.Tensor | None) -> torch.Tensor:
        """One gradient step is the mean over all target tokens of all processes, whatever batch they are in."""
        n_targets = _count_targets(inputs)
        self.target_tokens = self.target_tokens + n_targets
        return n_targets if num_items_in_batch is None else num_items_in_batch

    def _nats(self, model: torch.nn.Module, inputs: Batch) -> torch.Tensor:
        if self.ignores_padding:  # attention then knows without a mask that half of it is not wanted
            inputs = {**inputs, "attention_mask": None}
        return target_loss(model, **inputs)

    def evaluate(self, *_: object, **__: object) -> dict[str, float | str]:
        """The validation loss over all of the validation set in every process: a loader for several processes would
        repeat rows to fill the last batch."""
        self.model.eval()
        nats = 0.0
        n_targets = 0
        for batch in self._validation_batches():
            with torch.no_grad(), self.accelerator.autocast():
                nats += float(target_loss(self.model, **batch))
            n_targets += int(_count_targets(batch))
        with self.accelerator.autocast():  # replies are written in the type of the step, whatever is in the model
            scores = self.score()
        metrics = {"eval_loss": nats / n_targets, **scores}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_batches(self) -> list[dict[str, torch.Tensor]]:
        rows = list(self.eval_dataset)
        size = self.args.per_device_eval_batch_size
        batches = []
        for start in range(0, len(rows), size):
            batch = self.data_collator(rows[start : start + size])
            batches.append(self._prepare_inputs(batch))
        return batches


def _count_targets(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return (batch["labels"][:, 1:] != IGNORED).sum()


def make_trainer(
    lm: LanguageModel,
    train: datasets.Dataset,
    dev: datasets.Dataset,
    config: FinetuneConfig,
    *,
    out: Path,
    step_type: str,
    score: Score,
    kind: type[TargetTrainer] = TargetTrainer,
) -> TargetTrainer:
    """A Trainer for `lm` as it is; `step_type` is the number type of a step's matrix products."""
    order = EpochOrder(
        len(train),
        config.seed,
        lengths=list(train["length"]) if config.group_by_length else None,
        rows_per_step=config.batch_size * config.gradient_accumulation_steps,
    )
    trainer = kind(
        model=lm.model,
        args=_arguments(lm, config, out, evaluate=len(dev) > 0, step_type=step_type),
        train_dataset=train,
        eval_dataset=dev,
        data_collator=Collator(lm.codec.pad_id),
    )
    trainer.model_accepts_loss_kwargs = True  # compute_loss divides by num_items_in_batch itself
    trainer.order = order
    trainer.score = score
    trainer.ignores_padding = route_of(lm.base).by_tree
    trainer.in_parts = works_in_parts(lm, config, step_type)
    if trainer.in_parts:
        trainer.width = lm.hidden_size
    return trainer


def _arguments(
    lm: LanguageModel, config: FinetuneConfig, out: Path, *, evaluate: bool, step_type: str
) -> TrainingArguments:
    arguments = TrainingArguments(
        str(out / "checkpoints"),
        max_steps=config.max_steps,
        save_steps=config.save_steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        seed=config.seed,
        report_to=config.report_to,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=config.warmup_steps,
        optim=optimizer_on(lm.device, config.optim),
        eval_strategy="steps" if evaluate else "no",
        eval_steps=config.eval_steps or None,
        save_total_limit=2,
        logging_steps=max(1, min(MOST_LOG_STEPS, config.max_steps // POINTS)),
        logging_nan_inf_filter=False,  # a loss that is no number is an error, not a gap in the curve
        bf16=step_type == "bfloat16",
        fp16=step_type == "float16" and device_kind(lm.device) == "cuda",
        use_cpu=device_kind(lm.device) == "cpu",
        dataloader_pin_memory=device_kind(lm.device) == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
    )
    one_gpu_a_process(arguments)
    return arguments


def optimizer_on(device: str, name: str) -> str:
    """The optimiser that `name` means on a device: paged ones page to a CUDA device only."""
    import warnings

    if name not in PAGED or device_kind(device) == "cuda":
        return name
    warnings.warn(f"optim={name} pages to a CUDA device, and this is {device}: {PAGED[name]} it is", stacklevel=2)
    return PAGED[name]
