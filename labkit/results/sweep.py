"""Several models on the same dialogues in one call, untuned and tuned; and the shapes of model families as data."""

import gc
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from labkit.corpora.types import Corpus, Dialogue
from labkit.decoding.config import DecodingConfig
from labkit.decoding.predict import predict
from labkit.errors import Interrupted, LabError
from labkit.lab import Lab
from labkit.machine.one_line import first_line
from labkit.metrics import evaluate, reply_perplexity
from labkit.models import LanguageModel, load_adapter, load_model
from labkit.models.names import STAND_INS
from labkit.results.board import Board
from labkit.results.row import result_row
from labkit.storage import last_checkpoint, read_json, shipped
from labkit.training.config import LOADING, FinetuneConfig
from labkit.training.memory_plan import plan_memory
from labkit.training.run import finetune

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Row = dict[str, Any]


def sweep(
    models: Sequence[str],
    corpus: Corpus,
    *,
    split: str = "test",
    n: int | None = None,
    decoding: DecodingConfig | None = None,
    training: FinetuneConfig | None = None,
    lab: Lab | None = None,
    max_length: int = 1024,
    instruction: str = "",
    chat: bool = False,
) -> list[Row]:
    """Measure every model untuned and, with `training`, tuned: a row on the board for each, in that order.

    A run that the board has is skipped: same model, corpus, split, number of dialogues, decoding and training settings,
    seeds and prompt. One that was interrupted goes on, and one that failed has a row with its reason ("failed") and is
    tried again by the next call. There is one model in memory at a time.

    Args:
        n: score the first `n` dialogues of the split; None: all.
        training: what to tune with; its `model` is set to each of the models in turn.
        max_length, instruction, chat: how `labkit.predict` asks; the latter two for untuned models only, since a tuned
            one has learnt the lab's format.

    Returns:
        rows with, beside what `result_row` says, "perplexity" of the true replies in the lab's format, "per_domain"
        rates, "memory" (MB at the peak of a training step, untuned of one reply, by `plan_memory`) and, for tuned
        models, "flops": 6 x parameters without embeddings x tokens (Kaplan et al. 2020, section 2.1). That is an upper
        bound for a LoRA, whose frozen base needs no gradient of its weights.
    """
    import torch
    from tqdm.auto import tqdm

    common = _Common(corpus, split, corpus[split][:n], decoding or DecodingConfig(), lab)
    prompt = {"max_length": max_length, "instruction": instruction, "chat": chat}
    runs = {name: common.runs(str(name), training, prompt) for name in models}
    with tqdm(total=sum(map(len, runs.values())), desc="sweep", unit="run") as bar:
        for name, some in runs.items():
            bar.set_postfix_str(str(name))
            missing = [run for run in some if "failed" in common.latest(run)]
            bar.update(len(some) - len(missing))
            common.explore(missing, bar)
            gc.collect()  # what peft, Trainer or a traceback tied into a circle
            torch.cuda.empty_cache()  # does nothing without a GPU
    return [common.latest(run) for some in runs.values() for run in some]


@dataclass(frozen=True)
class _Common:
    """What all runs of a sweep share. A run is a dict of what tells it from others, as it stands on the board."""

    corpus: Corpus
    split: str
    dialogues: Sequence[Dialogue]
    decoding: DecodingConfig
    lab: Lab | None

    @property
    def board(self) -> Board:
        return Board(self.lab.home if self.lab else None)

    def runs(self, name: str, training: FinetuneConfig | None, prompt: Row) -> list[Row]:
        """The model untuned and, with `training`, tuned; loaded in the same way for both."""
        config = replace(training or FinetuneConfig(), model=name)
        run = {"model": name, "corpus": self.corpus.name, "split": self.split, "dialogues": len(self.dialogues)}
        run |= {"decoding": asdict(self.decoding), "loading": {field: getattr(config, field) for field in LOADING}}
        tuned = [run | {"prompt": {"max_length": prompt["max_length"]}, "training": asdict(config)}] if training else []
        return json.loads(json.dumps([run | {"prompt": prompt, "training": None}, *tuned], default=str))

    def latest(self, run: Row) -> Row:
        """The newest row of a run; without one it has "failed" for no reason."""
        return (self.board.rows(sweep=run) or [{"failed": ""}])[-1]

    def explore(self, runs: Sequence[Row], bar: Any) -> None:
        """Runs of one model, which is loaded once and gone when this returns."""
        lm = None
        for run in runs:
            try:
                lm = lm or load_model(run["model"], **run["loading"])
                row = self.measure(lm, run)
            except Interrupted:  # by the student, while it trained
                raise
            except Exception as error:  # whatever one model does, the others are measured
                kept = {name: run[name] for name in ("model", "corpus", "split", "dialogues", "decoding", "training")}
                row = {"task": task(run), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "failed": first_line(error)}
                row |= kept | {"stand_in": run["model"] in STAND_INS or self.corpus.stand_in}
            self.board.add(row | {"sweep": run})
            bar.update()

    def measure(self, lm: LanguageModel, run: Row) -> Row:
        """A row for the board."""
        started, size, flops = time.perf_counter(), lm.n_parameters, None
        config = FinetuneConfig(**run["training"]) if run["training"] else None
        if config:
            lm, flops = self.tuned(lm, config, run)
        predictions = predict(lm, self.dialogues, self.decoding, **run["prompt"])
        # an untuned model may say names and numbers, and has its score for it
        scores = evaluate(predictions, self.corpus, self.split, allow_lexical=True)
        told = {"perplexity": reply_perplexity(lm, self.dialogues, run["prompt"]["max_length"])}
        told |= {"per_domain": scores.per_domain, "memory": planned(run, lm.bits), "flops": flops}
        told |= {"parameters": size}  # of the base: an adapter does not make a model bigger
        how = (scores, self.decoding, config, time.perf_counter() - started, self.lab)
        return result_row(task(run), lm, self.corpus, self.split, *how) | told

    def tuned(self, lm: LanguageModel, config: FinetuneConfig, run: Row) -> tuple[LanguageModel, float]:
        """The model with its adapter, and the floating-point operations that Trainer counted."""
        mark = hashlib.sha256(json.dumps(run["training"] | {"corpus": run["corpus"]}).encode()).hexdigest()[:10]
        out = self.board.path.parent / "adapters" / f"sweep-{lm.name.split('/')[-1]}-{mark}"
        finetune(lm, self.corpus, config, out)
        state = read_json(f"{last_checkpoint(out / 'checkpoints')}/trainer_state.json")
        tuned = load_model(str(out), bits=lm.bits) if config.full_finetune else load_adapter(lm, out)
        return replace(tuned, name=lm.name, stand_in=lm.stand_in, adapter=str(out)), state["total_flos"]


def task(run: Row) -> str:
    """What the board calls the run."""
    asked = [name for name, value in run["prompt"].items() if value and name != "max_length"]
    return ", ".join(["sweep", *["tuned"] * bool(run["training"]), *asked])


def planned(run: Row, bits: int) -> float | None:
    """MB at the peak of a run of the sweep by the memory plan; None where there is no plan for its architecture."""
    step, config = {"generate": True, "batch": 1, "length": run["prompt"]["max_length"]}, run["training"]
    if config:
        kept = ("full_finetune", "train_embeddings", "optim", "gradient_checkpointing")
        step = {"batch": config["batch_size"], "length": config["max_length"], **{name: config[name] for name in kept}}
        step |= {"r": config["lora_r"], "modules": config["lora_modules"]}
    with suppress(LabError):  # there is no plan for every architecture; the scores count more
        return round(sum(plan_memory(run["model"], bits=bits, **step).values()), 1)
    return None


def ladder(family: str) -> "dict[str, PretrainedConfig]":
    """Configurations of a model family, small to large, {name: configuration}; nothing is downloaded.

    `family`: a table of ladders.toml, whose shapes are those that the models were published with.
    """
    from transformers import AutoConfig

    shapes: Mapping[str, Any] = shipped(__file__, "ladders.toml")[family]
    return {name: AutoConfig.for_model(**shape) for name, shape in shapes.items()}
