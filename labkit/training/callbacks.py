"""What happens between the steps of a run: stopping, keeping the best, telling who watches, sealing checkpoints.

Importing this module imports torch and transformers.
"""

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from labkit.errors import LabError
from labkit.models import LanguageModel
from labkit.storage import seal
from labkit.training.config import FinetuneConfig, HistoryRow, Watcher
from labkit.training.record import history_of, write_weights
from labkit.training.together import any_of_us
from labkit.training.trainer import TargetTrainer

NAMES_OF_LOSSES = ("loss", "eval_loss")


class OrderOfEpoch(TrainerCallback):
    """Tells the order of rows which epoch it is. Not every version of transformers does when a run goes on."""

    def __init__(self, trainer: TargetTrainer):
        self.order = trainer.order

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.order.set_epoch(int(state.epoch or 0))


class Checkpoints(TrainerCallback):
    """Forces each checkpoint to the disk and lists its files, so that a damaged one is recognised."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            seal(folder)


class Finite(TrainerCallback):
    """A loss that is no number ends the run: every weight is lost from there on."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **told: dict[str, float],
    ) -> None:
        logs = told.get("logs") or {}
        for name in NAMES_OF_LOSSES:
            value = logs.get(name, 0.0)
            if not math.isfinite(value):
                found = f"{name} is {value} at step {state.global_step}"
                action = "lower learning_rate or raise warmup_steps, and train into another folder"
                raise LabError("the training has diverged", found, action)


class Follower(TrainerCallback):
    """Keeps the best adapter, stops where it gets no better, and tells `watch`.

    All is decided from the history, which is in every checkpoint, so that a run that goes on decides the same.
    transformers' load_best_model_at_end would read a GPT-NeoX back without its output head.
    """

    def __init__(
        self, trainer: TargetTrainer, lm: LanguageModel, config: FinetuneConfig, out: Path, watch: Watcher | None
    ):
        self.trainer = trainer
        self.lm = lm
        self.config = config
        self.out = out
        self.watch = watch

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if self.watch and state.is_world_process_zero:
            self.watch(history_of(state.log_history))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if since_best(state.log_history, self.config) == 0:
            write_weights(self.trainer, self.lm, self.config, self.out / "best")
        if any_of_us(is_stalled(state.log_history, self.config)):
            control.should_training_stop = True


def own_callbacks(
    trainer: TargetTrainer, lm: LanguageModel, config: FinetuneConfig, out: Path, watch: Watcher | None
) -> list[TrainerCallback]:
    """What every run has; a student's own come after them."""
    return [OrderOfEpoch(trainer), Checkpoints(), Finite(), Follower(trainer, lm, config, out, watch)]


def since_best(log: Sequence[HistoryRow], config: FinetuneConfig) -> int | None:
    """Validations since the best one, the first of equals; None where no metric was asked for, or none was made."""
    name = f"eval_{config.metric_for_best_model}"
    scores = [row[name] for row in log if name in row]
    if not scores:
        return None
    best = min(scores) if config.metric_for_best_model == "loss" else max(scores)
    return len(scores) - 1 - scores.index(best)


def is_stalled(log: Sequence[HistoryRow], config: FinetuneConfig) -> bool:
    """Whether the run has become no better for as many validations as the configuration is patient."""
    if config.early_stopping_patience is None:
        return False
    validations = since_best(log, config)
    return validations is not None and validations >= config.early_stopping_patience


class StopAtStepEnd(TrainerCallback):
    """Lets the step end and writes a checkpoint once somebody asked to stop: no half-made step is saved.

    All processes stop after the same step, whichever of them was asked.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if any_of_us(self.asked.is_set()):
            self.asked.set()
            control.should_save = True
            control.should_training_stop = True


@contextmanager
def interruptible(trainer: TargetTrainer) -> Iterator[threading.Event]:
    """Ctrl-C (or the Stop button) ends the training after the step; a second one stops at once. Yields whether it was
    asked for."""
    stop = StopAtStepEnd()
    trainer.add_callback(stop)
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        yield stop.asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop.asked
    finally:
        signal.signal(signal.SIGINT, before)
