"""What each subcommand does. The docstring of a command is its help; its parameters are its flags (flags.toml)."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import labkit
from labkit import lab as decisions
from labkit.corpora.types import Corpus, Dialogue, Predictions
from labkit.errors import Interrupted, LabError
from labkit.machine.hardware import hardware
from labkit.machine.paths import clone_root
from labkit.shown import readable
from labkit.storage import read_json, read_record, writable_file, writable_folder, write_json, write_record
from labkit.writable import is_stream

if TYPE_CHECKING:
    from labkit.decoding.config import DecodingConfig
    from labkit.decoding.grammar import StateGrammar
    from labkit.metrics import Scores
    from labkit.models import LanguageModel
    from labkit.results.row import Settings

JSON = (".json",)


def doctor(*, json_file: Path | None) -> int:
    """Print what this machine can do and what the lab uses on it; exit with 1 when something blocks it."""
    check_output(json_file)
    lab = decisions.decide()
    say(lab)
    if json_file:
        write_json(json_file, lab.to_json())
    return int(bool(lab.problems))


def generate(
    *,
    model: str,
    adapter: str | None,
    bits: int | None,
    corpus: str,
    split: str,
    limit: int | None,
    out: Path,
    format: str,
    grammar: str,
    max_length: int,
    instruction: str,
    settings: "Settings",
) -> None:
    """Reply to every user turn; write PREDICTIONS.json and, beside it, .run.json: what wrote it."""
    from labkit.prompts.format import check_format
    from labkit.results.row import Run

    config = labkit.DecodingConfig(**settings)
    for path in (out, run_file(out), partial_file(out)):
        check_output(path, near=out)
    loaded = labkit.load_corpus(corpus, splits=[split])
    dialogues = loaded[split][:limit]
    check_format(format, loaded.database)
    held_to = _grammar(grammar, format, loaded)
    lm = labkit.load_model(model, bits=bits, adapter=adapter)
    prompt = {"format": format, "max_length": max_length, "instruction": instruction}
    told = {**prompt, "grammar": grammar} if held_to else prompt  # records of earlier versions have no grammar
    run = Run.of(lm, decoding=config, training=training_record(adapter or model), prompt=told)
    record = {**run.to_record(), "corpus": corpus, "split": split, "limit": limit}
    how = {**prompt, "database": loaded.database, "grammar": held_to}
    predictions, seconds = _predict(lm, dialogues, config, record, out, how=how)
    write_json(out, predictions)
    if not is_stream(out):
        write_record(run_file(out), {**record, "seconds": seconds}, about=out)
        partial_file(out).unlink(missing_ok=True)
    say(f"{len(dialogues)} dialogues written to {out}")


def _grammar(name: str, format: str, corpus: Corpus) -> "StateGrammar | None":
    """The grammar that the states of a format are held to.

    Raises:
        LabError: the format has no states, or the corpus no schema.
    """
    from labkit.decoding.grammar import grammar_called
    from labkit.prompts.format import STATEFUL

    if name != "none" and format not in STATEFUL:
        action = f"choose --format {', '.join(STATEFUL)}, or leave out --grammar"
        raise LabError("a grammar is for states that the model writes", f"format {format}", action)
    return grammar_called(name, corpus)


def _predict(
    lm: "LanguageModel",
    dialogues: Sequence[Dialogue],
    config: "DecodingConfig",
    record: dict[str, object],
    out: Path,
    *,
    how: Mapping[str, object],
) -> tuple[Predictions, float]:
    """Predictions and the seconds of writing them, saved after every batch; an unfinished run is gone on with.

    `record` says what the run is, and `how` has the other arguments of `labkit.predict`.
    """
    partial = partial_file(out)
    done, seconds_before = _unfinished(partial, record)
    started = perf_counter()

    def keep(batch: Predictions) -> None:
        done.update(batch)
        if not is_stream(out):
            seconds = seconds_before + perf_counter() - started
            write_json(partial, {"run": record, "seconds": seconds, "predictions": done}, indent=None)

    waiting = [dialogue for dialogue in dialogues if dialogue.key not in done]
    if waiting:
        done |= labkit.predict(lm, waiting, config, **how, on_batch=keep)
    seconds = seconds_before + perf_counter() - started
    return {dialogue.key: done[dialogue.key] for dialogue in dialogues}, seconds


def _unfinished(partial: Path, record: Mapping[str, object]) -> tuple[Predictions, float]:
    """What an interrupted run of the same command has left, and the seconds that it took.

    Raises:
        LabError: the file is not labkit's.
    """
    from labkit.metrics.predictions import checked

    if not partial.is_file():
        return {}, 0.0
    earlier = read_json(partial)
    if not isinstance(earlier, dict) or not {"run", "predictions"} <= earlier.keys():
        raise LabError(f"{partial} holds no unfinished predictions", "", "delete it, or choose another --out")
    if earlier["run"] != json.loads(json.dumps(record)):
        return {}, 0.0
    seconds = earlier.get("seconds", 0.0)
    return checked(earlier["predictions"]), seconds if isinstance(seconds, float) else 0.0


def converse(
    *,
    model: str,
    adapter: str | None,
    bits: int | None,
    corpus: str,
    split: str,
    dialogues: int,
    states: str | None,
    grammar: str,
    format: str | None,
    patience: int,
    typos: float,
    misheard: float,
    json_file: Path,
    settings: "Settings",
) -> None:
    """Let simulated users talk to a model, to the end; print scores, add a row to the board, write a corpus."""
    from labkit.cli.conversations import converse as run

    for path in (json_file, partial_file(json_file)):
        check_output(path, near=json_file)
    user = {"patience": patience, "typos": typos, "misheard": misheard}
    how_loaded = {"model": model, "adapter": adapter, "bits": bits}
    states_from = {"states": states, "format": format, "grammar": grammar}
    chosen = {"corpus": corpus, "split": split, "dialogues": dialogues, **states_from}
    say(run(how_loaded, chosen, user, settings, json_file))


def evaluate(
    *, predictions: Path, corpus: str, split: str, scorer: str, json_file: Path | None, allow_lexical: bool
) -> None:
    """Score PREDICTIONS.json, print a table and add a row to the results board."""
    from labkit import metrics
    from labkit.results.board import Board
    from labkit.results.row import Run, result_row

    check_output(json_file)
    board = Board()
    board.check_writable()
    loaded = labkit.load_corpus(corpus, splits=[split])
    replies = metrics.read_predictions(predictions)
    record = read_record(run_file(predictions), about=predictions)
    if not record and run_file(predictions).is_file():
        say(f"{run_file(predictions)} is of other predictions: the row does not say what wrote these")
    run = Run.from_record(record, otherwise=predictions.name)
    scores = metrics.evaluate(replies, loaded, split, scorer=scorer, allow_lexical=allow_lexical)
    board.add(result_row("evaluate", run, loaded, split, scores))
    if json_file:
        write_json(json_file, scores.to_mwzeval())
    say(table(scores))  # last: a reader that hangs up (`| head`) costs no row


def compare(*, predictions: Path, predictions_b: Path, corpus: str, split: str, allow_lexical: bool) -> None:
    """Compare two prediction files on the same dialogues: difference, interval and p of every score (B - A)."""
    from labkit import metrics

    made = [metrics.read_predictions(file) for file in (predictions, predictions_b)]  # before a corpus is loaded
    loaded = labkit.load_corpus(corpus, splits=[split])
    scores = [metrics.evaluate(replies, loaded, split, allow_lexical=allow_lexical) for replies in made]
    say(metrics.compare(*scores))


def table(scores: "Scores") -> str:
    """Scores as lines of text: in all, and by domain."""
    lines = [str(scores)]
    if scores.per_domain:
        lines.append(f"{'':<11} Inform  Success")
        for domain, inform in sorted(scores.per_domain["inform"].items()):
            success = scores.per_domain["success"][domain]
            lines.append(f"{domain:<11} {inform:6.1f}  {success:7.1f}")
    return "\n".join(lines)


def finetune(*, model: str, corpus: str, out: Path, settings: "Settings") -> None:
    """Train a LoRA adapter on the corpus' training split and save it."""
    config = labkit.FinetuneConfig(**settings)
    writable_folder(out, writes=())  # what is in it, training looks at
    result = labkit.finetune(None, labkit.load_corpus(corpus), config, out)
    trained = f"{result.trainable:,} of {result.total:,} parameters ({result.trainable / result.total:.2%})"
    say(f"{result.adapter}: {trained} in {result.seconds:.0f} s, {result.tokens_per_second:.0f} tokens/s")


def slurm(
    *,
    model: str,
    corpus: str,
    out: Path,
    nodes: int,
    gpus: int,
    fsdp: bool,
    time: str,
    job: Path,
    settings: "Settings",
) -> None:
    """Write a Slurm job file that runs `labkit finetune` with these flags; submitted again, it goes on."""
    from labkit.course.slurm import write_job

    labkit.FinetuneConfig(**settings)
    flags: dict[str, object] = {"--model": model, "--corpus": corpus, "--out": out}
    flags |= {f"--{name.replace('_', '-')}": value for name, value in settings.items()}
    written = write_job(job, flags, nodes=nodes, gpus=gpus, time=time, fsdp=fsdp)
    say(f"sbatch {written}")


def merge(*, model: str, adapter: str | None, out: Path, push_to_hub: str | None) -> None:
    """Merge an adapter into its model's 16- or 32-bit weights."""
    from labkit import models
    from labkit.results.board import Board
    from labkit.results.report import model_card

    _check_merge_output(out, model, adapter)
    merged = labkit.merge(labkit.load_model(model, adapter=adapter))
    say(f"merged model written to {models.save_model(merged, out)}")
    if push_to_hub:
        card = model_card(push_to_hub, merged, Board().rows(), adapter, training_record(adapter or model))
        say(f"pushed to {models.push_to_hub(merged, push_to_hub, card)}")


def _check_merge_output(out: Path, model: str, adapter: str | None) -> None:
    """The merged model must not replace what it is made from, nor anything else."""
    target = out.resolve()
    for source in filter(None, (model, adapter)):
        folder = Path(source).expanduser().resolve()
        if folder.exists() and (target == folder or target in folder.parents or folder in target.parents):
            raise LabError(f"cannot write {out}", f"{source} is read from there", "name a new or an empty folder")
    writable_folder(out)


def pretrain(*, size: str, out: Path, steps: int | None, minutes: float | None, seed: int) -> None:
    """Train a stand-in model from scratch."""
    writable_folder(out, writes=())  # what is in it, pretraining looks at
    from labkit.course.standins.pretrain import pretrain

    say(f"written to {pretrain(size, out, steps=steps, minutes=minutes, seed=seed)}")


def bench(*, only: str | None, json_file: Path | None) -> None:
    """Run the benchmarks of a clone's tests/benchmarks; every measurement is a line of JSON."""
    folder = (clone_root() or Path()) / "tests" / "benchmarks"
    known = [script.stem.removeprefix("bench_") for script in sorted(folder.glob("bench_*.py"))]
    chosen = only.split(",") if only else known
    if not known or set(chosen) - set(known):
        raise LabError(f"no benchmark {only or ''}", f"{folder} has {', '.join(known) or 'none'}", "run in a clone")
    check_output(json_file)
    rows: list[dict[str, object]] = [{"machine": asdict(hardware())}]
    for name in chosen:
        exit_code = _bench(name, folder, rows)
        if json_file:
            write_json(json_file, rows)
        if exit_code:
            raise LabError(f"benchmark {name} failed", f"exit code {exit_code}", "see its last lines above")


def _bench(name: str, folder: Path, rows: list[dict[str, object]]) -> int:
    """Run one benchmark, add its measurements to the rows, and return its exit code."""
    command = [sys.executable, folder / f"bench_{name}.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as run:
        for line in run.stdout:
            if line.startswith('{"'):  # Trainer prints {'loss': …
                print(f"{name}: {line}", end="", flush=True)
                rows.append({"benchmark": name, **json.loads(line)})
    return run.returncode


def data_card(*, corpus: Sequence[str] | None, limit: int | None) -> None:
    """Print what corpora are like in figures, side by side, as a Markdown table."""
    from labkit.course.datacard import data_card

    say(data_card([labkit.load_corpus(name) for name in corpus or ["miniwoz"]], limit or 1000))


def release(*, check: bool, repository: str, ref: str) -> None:
    """Make the student notebooks in notebooks/ from their sources in solutions/."""
    from labkit.course.release import release

    root = clone_root() or Path()
    written = release(root / "solutions", root / "notebooks", check=check, repository=repository, ref=ref)
    say("\n".join(f"wrote {path}" for path in written) or "notebooks/ is what solutions/ makes")


def preflight(
    *, html: Path, notebooks: Sequence[Path] | None, profiles: Sequence[str] | None, students: bool, cost: bool
) -> None:
    """Run the whole course headless, check it, and write the notebooks, the checks and the results board as HTML."""
    from labkit.course.preflight import preflight

    preflight(html, notebooks, profiles, students=students, cost=cost)


def site(*, out: Path, executed: Path | None) -> None:
    """Write the course as static pages, with the live decoding lab; it needs the packages of `make site`."""
    from labkit.course.site.build import build_site

    say(f"open {build_site(out, executed)}")


def grade(*, folder: Path, csv_file: Path, html: Path, seconds: float, profile: str) -> None:
    """Run a class's notebooks again, judge every check anew, and write who solved what as CSV and HTML."""
    from labkit.course.grade import grade

    try:
        graded = grade(folder, csv_file, html, seconds=seconds, profile=profile)
    except KeyboardInterrupt as stop:
        done = f"what was graded by then is in {csv_file} and {html}"
        raise Interrupted("interrupted", done, "the same command begins anew") from stop
    for remark in graded.remarks:
        say(remark)
    say(f"{len(graded.grades)} grades written to {csv_file} and {html}")


def pool(*, boards: Sequence[Path], csv_file: Path | None, html: Path | None) -> None:
    """Put a class's results boards into one: machines, settings, scores, as tables and as a page with figures."""
    from labkit.course.class_page import in_words, write_pool

    pooled = write_pool(boards, csv_file, html)
    say(in_words(pooled))


def report(*, html: Path) -> None:
    """Write your own run as one HTML page to hand in: answers, notes, results."""
    from labkit.course.student_page import write_report

    say(f"written to {write_report(html)}")


# --- files ------------------------------------------------------------------------------------------------------------


def run_file(predictions: Path) -> Path:
    """The file beside predictions that says what wrote them."""
    return predictions.with_name(f"{predictions.name.split('.json')[0]}.run.json")


def partial_file(predictions: Path) -> Path:
    """The file that keeps what an unfinished run has written so far."""
    return predictions.with_name(f"{predictions.name}.partial")


def check_output(path: Path | None, near: Path | None = None) -> None:
    """Refuse a file that cannot, or must not, be written, before any work begins.

    Args:
        near: the file that the user named, where `path` only stands beside it. Nothing stands beside a device.

    Raises:
        LabError: see `labkit.storage.writable_file`.
    """
    if path is None or (near is not None and path != near and is_stream(near)):
        return
    if path.suffix == ".gz":
        raise LabError(f"cannot write {path}", "labkit writes no gzipped JSON", "leave out .gz, and gzip it afterwards")
    kinds = (*JSON, ".partial") if near else JSON
    writable_file(path, kinds=kinds)


def training_record(folder: str) -> "Settings | None":
    """The configuration that `labkit finetune` has left beside an adapter, or a fully fine-tuned model."""
    record = Path(folder) / "run.json"
    return read_json(record) if record.is_file() else None


def say(text: object) -> None:
    """Print what a command found; control characters of ids and names do not reach the terminal."""
    print(readable(str(text)))
