"""Settings of fine-tuning, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.corpora.types import Predictions
from labkit.models.names import STAND_IN_MODEL
from labkit.options import option

if TYPE_CHECKING:
    from torch import Tensor

# Trainer's optimisers that need torch and bitsandbytes only; paged ones keep their state in CUDA's unified memory
PAGED = {
    "paged_adamw_32bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_bnb_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}
PLAIN = ("adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "lion_32bit", "lion_8bit", "adafactor", "sgd")
OPTIMIZERS = (*PLAIN, *PAGED)
LOADING = ("bits", "quant_type", "double_quant", "reinitialise", "seed")  # fields that load_model takes
SCORES = ("loss", "bleu", "inform", "success", "combined", "own")  # of the validation dialogues
STARTS = ("default", "gaussian", "loftq")  # values of init_lora_weights

HistoryRow = dict[str, float | int | str]
History = list[HistoryRow]
OwnScore = Callable[[Predictions], float]  # the higher the better
Watcher = Callable[[History], None]
# (log-probabilities [B] of chosen and rejected replies, the same two by the reference, beta) -> a single number
PreferenceLoss = Callable[["Tensor", "Tensor", "Tensor", "Tensor", float], "Tensor"]


@dataclass(frozen=True)
class FinetuneConfig:
    """Every choice of a fine-tuning run, under the names that transformers and peft give them."""

    model: str = option(STAND_IN_MODEL, "base model: a stand-in, a folder, a .gguf file or a Hub id")
    bits: int | None = option(None, "bits of the base weights: 4, 8, 16 or 32; default: what the device is fast in")
    quant_type: str = option("nf4", "4-bit data type: nf4 or fp4")
    double_quant: bool = option(True, "quantise the quantisation constants too")
    lora_r: int = option(16, "rank of the LoRA matrices")
    lora_alpha: int = option(32, "LoRA scale: the update counts alpha / r times")
    lora_dropout: float = option(0.0, "dropout before the LoRA matrices")
    lora_modules: str = option("linear", "layers with a LoRA: linear, attention, ffn, or a regular expression")
    use_dora: bool = option(False, "train magnitude and direction apart (DoRA, Liu et al. 2024)")
    use_rslora: bool = option(False, "scale by alpha / sqrt(r) (rank-stabilised LoRA, Kalajdzievski 2023)")
    init_lora_weights: str = option("default", "default (no change), gaussian, or loftq (Li et al. 2024)")
    train_embeddings: bool | None = option(None, "train the embeddings, in full; default: of the stand-ins")
    full_finetune: bool = option(False, "train all weights instead of a LoRA")
    reinitialise: bool = option(False, "begin with random weights instead of the pretrained ones")
    format: str = option("turns", "text format: turns, state, db, changes, changes-db or dialogs")
    recipe: str = option("dialogues", "one pass per dialogue (dialogues), or one sequence per reply (turns)")
    lexical: bool = option(False, "keep names and numbers; Inform and Success then say nothing")
    train_on_source: bool = option(False, "put the loss on the user's turns as well")
    train_split: str = option("train", "split to train on")
    dev_split: str = option("dev", "split for the validation loss; if it is the training split, a part is held out")
    max_train_dialogues: int | None = option(None, "train on so many dialogues, drawn with the seed; default: all")
    max_dev_dialogues: int = option(30, "compute the validation loss on so many dialogues")
    max_length: int = option(512, "longest sequence in tokens; a longer dialogue becomes several windows")
    max_steps: int = option(200, "optimiser steps")
    batch_size: int = option(8, "dialogues per forward pass (replies with recipe=turns)")
    gradient_accumulation_steps: int = option(1, "forward passes per step")
    learning_rate: float | None = option(None, "peak learning rate; default: 4e-3 for the stand-ins, 1e-3 for others")
    lr_scheduler: str = option("cosine", "schedule after the warm-up: cosine, linear, constant_with_warmup, …")
    warmup_steps: int = option(10, "steps of linear warm-up")
    weight_decay: float = option(0.0, "decoupled weight decay")
    max_grad_norm: float = option(1.0, "gradients longer than this are scaled down to it")
    optim: str = option("adamw_torch", f"optimiser: {', '.join(OPTIMIZERS)}")
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass: less memory, more time")
    group_by_length: bool = option(True, "put dialogues of similar length into a batch")
    eval_steps: int = option(50, "validation loss every so many steps; 0: never")
    score_dialogues: int = option(0, "at every validation, reply to so many dialogues, too: BLEU, Inform, Success")
    metric_for_best_model: str | None = option(None, f"keep the best adapter by {', '.join(SCORES)}; default: last")
    early_stopping_patience: int | None = option(None, "stop after so many validations without a better one")
    save_steps: int = option(50, "checkpoint every so many steps")
    seed: int = option(42, "seed of the LoRA matrices, the sample and the order of the dialogues")
    report_to: str = option("none", "where Trainer reports to: none, tensorboard, wandb, …")


@dataclass(frozen=True)
class FinetuneResult:
    """What a finished run leaves. `seconds` and `tokens_per_second` are of the call that finished it."""

    adapter: Path  # folder with the adapter, or with the whole model after full_finetune
    # {"step", "loss", …} every few steps; every eval_steps {"step", "eval_loss"} and, where replies were scored,
    # "eval_bleu", "eval_inform", "eval_success", "eval_combined" and "eval_sample", a reply
    history: History
    trainable: int  # parameters
    total: int
    seconds: float  # of the whole call
    tokens_per_second: float  # target tokens, the ones with a loss, by the time of training steps alone
