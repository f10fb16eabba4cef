"""Point 5: the command line. The options and their values are in options.toml."""

import io
import os
import signal
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Timer

from attacks.case import RESULT, STOPPED, Case, command, expect
from attacks.stage import stage

SPELT = {"LONG": "x" * 5000, "NUL": "a\0b", "HALF": "half \ud83d"}  # what a TOML file cannot say, or not well
SECONDS = 12.0  # a refusal that takes longer comes after the work
ENCODINGS = ("cp1252", "latin-1", "ascii", "cp437", "utf-8")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def cases() -> list[Case]:
    """Options, whole command lines, encodings and signals."""
    return [*_options(), *_lines(), *_encodings(), *_signals()]


def _table() -> dict:
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _filled(words: str) -> list[str]:
    """The words of a command line, with the stage's places."""
    here = stage()
    places = {"{corpus}": here.corpus_folder, "{adapter}": here.adapter, "{predictions}": here.predictions}
    return [str(places.get(word, SPELT.get(word, word))) for word in words.split()]


def _options() -> Iterator[Case]:
    table = _table()
    for entry in table["commands"]:
        words = _filled(entry["words"])
        for option, values in entry["options"].items():
            if isinstance(values, str):
                values = table["values"][values]
            for value in values:
                given = f"{option}={SPELT.get(value, value)}"
                name = f"labkit {words[0]} … {option}={value}"
                says = _says(option)
                yield Case(5, name, partial(_refused, *words, given), says=says, seconds=SECONDS)


def _says(option: str) -> str:
    """The line names the option, in one of its spellings, or what it is about."""
    name = option.removeprefix("--")
    spellings = {name, name.replace("-", "_"), name.replace("-", " "), name.split("-")[-1]}
    about = {name: ["cannot write"] for name in ("out", "json", "html", "csv")} | {"limit": ["dialogues"]}
    about["notebooks"] = about["executed"] = ["notebook"]
    about["only"] = ["benchmark"]
    about["num-beams"] = ["candidate", "beam"]
    about["strategy"] = ["decoding"]
    about["corpus"] = ["dialogues", "folder"]
    about["optim"] = ["optimi"]
    about["lora-r"] = ["rank"]
    about["push-to-hub"] = ["owner"]
    about["model"] = about["adapter"] = ["is read from there"]  # --out is in it
    return "(?i)" + "|".join([*sorted(spellings), *about.get(name, [])])


def _refused(*words: str) -> None:
    """The command ends with one line, and has made no output."""
    try:
        command(*words)
    finally:
        made = [path.as_posix() for path in Path().rglob("*") if path.is_file() and not path.name.startswith(".")]
        expect(not made, f"refused after it wrote {made}")


def _lines() -> Iterator[Case]:
    for name, words in _table()["lines"].items():
        yield Case(5, f"labkit: {name}", partial(command, *_filled(words)), seconds=SECONDS)


# --- encodings and signals --------------------------------------------------------------------------------------------


def _encodings() -> Iterator[Case]:
    here = stage()
    compare = ["compare", here.predictions, here.predictions, "--corpus", here.corpus_folder]
    evaluate = ["evaluate", here.predictions, "--corpus", here.corpus_folder]
    for encoding in ENCODINGS:
        for words in (["doctor"], compare, evaluate, ["data-card", "--limit", "2"], ["evaluate", "ä→\u4e2d.json"]):
            code = 2 if words[0] == "evaluate" and len(words) == 2 else 0
            if code:
                words = [*words, "--corpus", here.corpus_folder]
            name = f"labkit {words[0]} on a stream of {encoding}, exit code {code}"
            yield Case(5, name, partial(_printed_in, encoding, words, code), (RESULT,))


def _printed_in(encoding: str, words: list, code: int) -> None:
    from labkit.cli import main

    os.environ["LAB_MODEL"] = "/no/such/model"  # so that the doctor has a problem to tell, with its arrow
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    sys.stdout, sys.stderr = streams
    try:
        ended = main([str(word) for word in words])
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    for stream in streams:
        stream.flush()
    said = [stream.buffer.getvalue().decode(encoding) for stream in streams]
    expect("Traceback" not in said[1], said[1][-300:])
    expect(ended == code or words[0] == "doctor", f"exit code {ended}: {said[1]!a}")
    expect(bool(said[code // 2].strip()), "nothing was said")


def _signals() -> Iterator[Case]:
    here = stage()
    generate = ["generate", "--model", "mini-pythia-500k", "--corpus", here.corpus_folder, "--out", "p.json"]
    generate += ["--max-new-tokens", 500, "--min-new-tokens", 500, "--batch-size", 1]
    finetune = ["finetune", "--model", "mini-pythia-500k", "--corpus", here.corpus_folder, "--out", "adapter"]
    finetune += ["--max-steps", 100_000, "--eval-steps", 0]
    pretrain = ["pretrain", "--size", "500k", "--steps", 100_000, "--out", "model"]
    for number in SIGNALS:
        for words in (generate, finetune, pretrain):
            name = f"labkit {words[0]} gets {number.name}"
            yield Case(5, name, partial(_signalled, number, words), (STOPPED,), seconds=40)


def _signalled(number: signal.Signals, words: list) -> None:
    """The signal comes two seconds after the start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = Timer(2.0, os.kill, (os.getpid(), number))
    timer.start()
    command(*words)
