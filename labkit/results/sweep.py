"""Several models on the same dialogues in one call, untuned and tuned."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.bars import progress_bar
from labkit.corpora.types import Corpus, Dialogue
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import predict
from labkit.errors import Interrupted, LabError
from labkit.lab import Lab
from labkit.machine.device import free_memory
from labkit.machine.one_line import first_line
from labkit.metrics import evaluate, reply_perplexity
from labkit.models import LanguageModel, load_adapter, load_model
from labkit.models.names import STAND_INS
from labkit.results.board import Board
from labkit.results.ladders import ladder
from labkit.results.row import Row, fingerprint, model_name, result_row, same_settings
from labkit.storage import last_checkpoint, read_json
from labkit.training.config import LOADING, FinetuneConfig
from labkit.training.memory_plan import plan_memory
from labkit.training.run import finetune

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Planned", "Prompt", "Row", "ladder", "planned", "sweep", "task"]


@dataclass(frozen=True)
class Prompt:
    """How `labkit.predict` asks."""

    max_length: int = 1024  # tokens
    instruction: str = ""
    chat: bool = False


@dataclass(frozen=True)
class Planned:
    """One run of a sweep: what tells it from the others."""

    model: str  # as the caller named it
    corpus: str
    split: str
    dialogues: int
    dialogue_ids: str | None  # their fingerprint
    decoding: DecodingConfig
    prompt: Prompt
    loading: FinetuneConfig  # of which only the fields LOADING count
    training: FinetuneConfig | None  # None: untuned

    @property
    def how_loaded(self) -> dict[str, object]:
        """What `load_model` is given."""
        return {name: getattr(self.loading, name) for name in LOADING}

    @property
    def which(self) -> str:
        """Tells models apart that have the same name in different folders, without saying where those are."""
        return hashlib.sha256(self.model.encode("utf-8", "surrogatepass")).hexdigest()[:10]

    def to_record(self) -> Row:
        """As it stands in a row, under "sweep": JSON, and no machine's path."""
        training = None
        if self.training:
            training = {**asdict(self.training), "model": model_name(self.model)}
        record = {
            "model": model_name(self.model),
            "which": self.which,
            "corpus": self.corpus,
            "split": self.split,
            "dialogues": self.dialogues,
            "dialogue_ids": self.dialogue_ids,
            "decoding": asdict(self.decoding),
            "prompt": self._asked(),
            "loading": self.how_loaded,
            "training": training,
        }
        return json.loads(json.dumps(record, default=str))

    def _asked(self) -> Row:
        """A tuned model has learnt the lab's format: only the length counts."""
        asked = asdict(self.prompt)
        return {"max_length": self.prompt.max_length} if self.training else asked

    def is_in(self, row: Row) -> bool:
        """Whether a row of the board, perhaps an older labkit's, is of this run. The rule is `same_settings`'s."""
        record = row.get("sweep")
        if not isinstance(record, dict):
            return False
        for name in ("corpus", "split", "dialogues"):
            if record.get(name) != getattr(self, name):
                return False
        if record.get("dialogue_ids") not in (None, self.dialogue_ids):
            return False
        names = (record.get("which"), record.get("model"))  # older rows have the model as it was named
        is_this_model = names[0] == self.which or (names[0] is None and names[1] == self.model)
        if not is_this_model or not same_settings(record.get("decoding"), self.decoding):
            return False
        return self._is_asked_and_trained_so(record)

    def _is_asked_and_trained_so(self, record: Row) -> bool:
        prompt = self.prompt if not self.training else Prompt(self.prompt.max_length)
        if not same_settings(record.get("prompt"), prompt):
            return False
        if not same_settings({**asdict(self.loading), **(record.get("loading") or {})}, self.loading):
            return False
        training = record.get("training")
        if isinstance(training, dict):
            training = {**training, "model": self.model}  # compared above
        return same_settings(training, self.training)


def sweep(
    models: Sequence[str],
    corpus: Corpus,
    *,
    split: str = "dev",
    n: int | None = None,
    decoding: DecodingConfig | None = None,
    training: FinetuneConfig | None = None,
    lab: Lab | None = None,
    max_length: int = 1024,
    instruction: str = "",
    chat: bool = False,
) -> list[Row]:
    """Measure every model untuned and, with `training`, tuned: a row on the board for each, in that order.

    A run that the board has is skipped: same model, corpus, split, dialogues, decoding and training settings, seeds and
    prompt. One that was interrupted goes on, and one that failed has a row with its reason ("failed") and is tried
    again by the next call. There is one model in memory at a time.

    Args:
        split: what is chosen by a sweep is chosen on dev. The test split is for the one that was chosen.
        n: score the first `n` dialogues of the split; None: all.
        training: what to tune with; its `model` is set to each of the models in turn.
        max_length, instruction, chat: how `labkit.predict` asks; the latter two for untuned models only, since a tuned
            one has learnt the lab's format.

    Returns:
        rows with, beside what `result_row` says ("seconds" and "speed" are of writing the replies alone), "perplexity"
        of the true replies in the lab's format, "per_domain" rates, "memory" (MB at the peak of a training step,
        untuned of one reply, by `plan_memory`) and, for tuned models, "flops": 6 x parameters without embeddings x
        tokens (Kaplan et al. 2020, section 2.1). That is an upper bound for a LoRA, whose frozen base needs no gradient
        of its weights.

    Raises:
        LabError: `n` is no number of dialogues, or there is no such split.
        Interrupted: the student stopped a training.
    """

    if n is not None and n < 1:
        raise LabError(f"a sweep over {n} dialogues", "", "choose n from 1 on, or None for all")
    sweeping = _Sweep(corpus, split, corpus[split][:n], lab)
    prompt = Prompt(max_length, instruction, chat)
    plans = [sweeping.plans(str(name), decoding or DecodingConfig(), training, prompt) for name in models]
    with progress_bar(total=sum(map(len, plans)), desc="sweep", unit="run") as bar:
        for runs in plans:
            bar.set_postfix_str(model_name(runs[0].model))
            missing = [run for run in runs if "failed" in sweeping.latest(run)]
            bar.update(len(runs) - len(missing))
            sweeping.explore(missing, bar)
            free_memory()  # what peft, Trainer or a traceback tied into a circle
    return [sweeping.latest(run) for runs in plans for run in runs]


@dataclass(frozen=True)
class _Sweep:
    """What all runs of a sweep share."""

    corpus: Corpus
    split: str
    dialogues: Sequence[Dialogue]
    lab: Lab | None

    @property
    def board(self) -> Board:
        return Board(self.lab.home if self.lab else None)

    def plans(
        self, name: str, decoding: DecodingConfig, training: FinetuneConfig | None, prompt: Prompt
    ) -> list[Planned]:
        """The model untuned and, with `training`, tuned; loaded in the same way for both."""
        config = replace(training or FinetuneConfig(), model=name)
        loading = FinetuneConfig(**{field: getattr(config, field) for field in LOADING})
        untuned = Planned(
            model=name,
            corpus=self.corpus.name,
            split=self.split,
            dialogues=len(self.dialogues),
            dialogue_ids=fingerprint(dialogue.key for dialogue in self.dialogues),
            decoding=decoding,
            prompt=prompt,
            loading=loading,
            training=None,
        )
        if training is None:
            return [untuned]
        return [untuned, replace(untuned, training=config, prompt=Prompt(prompt.max_length))]

    def latest(self, run: Planned) -> Row:
        """The newest row of a run; without one it has "failed" for no reason."""
        for row in reversed(self.board.rows()):
            if run.is_in(row):
                return row
        return {"failed": ""}

    def explore(self, runs: Sequence[Planned], bar: "tqdm") -> None:
        """Runs of one model, which is loaded once and gone when this returns."""
        lm = None
        for run in runs:
            try:
                lm = lm or load_model(run.model, **run.how_loaded)
                row = self.measure(lm, run)
            except Interrupted:  # by the student, while it trained
                raise
            except Exception as error:  # whatever one model does, the others are measured
                row = self.failure(run, error)
            self.board.add({**row, "sweep": run.to_record()})
            bar.update()

    def failure(self, run: Planned, error: Exception) -> Row:
        """A row that says why there are no scores."""
        record = run.to_record()
        kept = ("model", "corpus", "split", "dialogues", "dialogue_ids", "decoding", "training")
        return {
            "task": task(run),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "failed": first_line(error).replace(run.model, model_name(run.model)),
            **{name: record[name] for name in kept},
            "stand_in": run.model in STAND_INS or self.corpus.stand_in,
        }

    def measure(self, lm: LanguageModel, run: Planned) -> Row:
        """A row for the board."""
        size = lm.n_parameters
        flops = None
        if run.training:
            lm, flops = self.tuned(lm, run.training)
        started = time.perf_counter()
        predictions = predict(lm, self.dialogues, run.decoding, **asdict(run.prompt))
        seconds = time.perf_counter() - started
        # an untuned model may say names and numbers, and has its score for it
        scores = evaluate(predictions, self.corpus, self.split, allow_lexical=True)
        row = result_row(
            task(run),
            lm,
            self.corpus,
            self.split,
            scores,
            decoding=run.decoding,
            training=run.training,
            seconds=seconds,
            lab=self.lab,
        )
        return {
            **row,
            "prompt": run.to_record()["prompt"],
            "perplexity": reply_perplexity(lm, self.dialogues, run.prompt.max_length),
            "per_domain": scores.per_domain,
            "memory": planned(run, lm.bits),
            "flops": flops,
            "parameters": size,  # of the base: an adapter does not make a model bigger
        }

    def tuned(self, lm: LanguageModel, config: FinetuneConfig) -> tuple[LanguageModel, float | None]:
        """The model with its adapter, and the floating-point operations that Trainer counted."""
        name = model_name(lm.name).split("/")[-1]
        out = self.board.path.parent / "adapters" / f"sweep-{name}-{self._mark(config)}"
        finetune(lm, self.corpus, config, out)
        tuned = load_model(str(out), bits=lm.bits) if config.full_finetune else load_adapter(lm, out)
        return replace(tuned, name=lm.name, stand_in=lm.stand_in, adapter=str(out)), _flops(out)

    def _mark(self, config: FinetuneConfig) -> str:
        """Tells the folders of different trainings apart; a field that the configuration gets later changes nothing."""
        chosen = {}
        for option in fields(config):
            value = getattr(config, option.name)
            if value != option.default:
                chosen[option.name] = value
        text = json.dumps({**chosen, "corpus": self.corpus.name}, sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def _flops(out: Path) -> float | None:
    checkpoint = last_checkpoint(out / "checkpoints")
    if checkpoint is None:
        return None
    return read_json(Path(checkpoint) / "trainer_state.json")["total_flos"]


def task(run: Planned) -> str:
    """What the board calls the run."""
    words = ["sweep"]
    if run.training:
        words.append("tuned")
    if run.prompt.instruction:
        words.append("instruction")
    if run.prompt.chat:
        words.append("chat")
    return ", ".join(words)


def planned(run: Planned, bits: int) -> float | None:
    """MB at the peak of a run of the sweep by the memory plan; None where there is no plan for its architecture."""
    step: dict[str, object] = {"generate": True, "batch": 1, "length": run.prompt.max_length}
    config = run.training
    if config:
        step = {
            "batch": config.batch_size,
            "length": config.max_length,
            "full_finetune": config.full_finetune,
            "train_embeddings": config.train_embeddings,
            "optim": config.optim,
            "gradient_checkpointing": config.gradient_checkpointing,
            "r": config.lora_r,
            "modules": config.lora_modules,
        }
    with suppress(LabError):  # there is no plan for every architecture; the scores count more
        return round(sum(plan_memory(run.model, bits=bits, **step).values()), 1)
    return None
