"""Point 1: no command deletes or replaces what labkit did not write; decided before any work begins."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attacks.case import EITHER, LINE, RESULT, Case, command, expect, untouched, written
from attacks.stage import MODEL, adapter_copy, stage
from labkit.models import load_model, save_adapter, save_model
from labkit.results.board import Board
from labkit.storage import LIST, atomic_folder, write_json, write_text

THESIS = "years of work"
BEFORE_WORK = "cannot write|holds what labkit|holds a run|folder|another name|--out|--html|--json|--job|--csv"

Writer = Callable[[str], object]


def cases() -> list[Case]:
    """Every writer of a folder into every wrong folder, every writer of a file onto every wrong file."""
    return [*_folders(), *_files(), *_sound()]


# --- folders ----------------------------------------------------------------------------------------------------------


def _merge(out: str) -> None:
    """The model is none: who looks at --out first says so first."""
    command("merge", "--model", "no/such/thing", "--adapter", "nothing", "--out", out)


def _pretrain(out: str) -> None:
    command("pretrain", "--size", "500k", "--steps", 1, "--out", out)


def _finetune(out: str) -> None:
    command("finetune", "--model", MODEL, "--corpus", stage().corpus_folder, "--max-steps", 1, "--out", out)


def _preflight(out: str) -> None:
    notebook = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    written(Path.home() / "empty.ipynb", notebook)
    command("preflight", "--notebooks", Path.home() / "empty.ipynb", "--html", out)


def _site(out: str) -> None:
    command("site", "--out", out, "--executed", "no/such/thing")


def _atomic(out: str) -> None:
    with atomic_folder(out) as folder:
        (folder / "model.safetensors").write_text("new")


FOLDER_WRITERS: dict[str, Writer] = {
    "labkit merge": _merge,
    "labkit pretrain": _pretrain,
    "labkit finetune": _finetune,
    "labkit preflight": _preflight,
    "labkit site": _site,
    "save_model": lambda out: save_model(stage().lm, out),
    "save_adapter": lambda out: save_adapter(load_model(MODEL, adapter=stage().adapter), out),
    "atomic_folder": _atomic,
}
SHARES = ("labkit finetune",)  # these write beside what else is in the folder
FEW = ("a file", "below a file", "a link in a circle", "nothing", "a device", "a name of 300 letters", "a NUL")


def _foreign_file() -> str:
    written("out/thesis.tex", THESIS)
    return "out"


def _foreign_folder() -> str:
    written("out/data/years/x.csv", THESIS)
    return "out"


def _empty_foreign_folder() -> str:
    Path("out/empty").mkdir(parents=True)
    return "out"


def _foreign_beside_ours() -> str:
    _atomic("out")
    written("out/thesis.tex", THESIS)
    return "out"


def _changed_since() -> str:
    _atomic("out")
    written("out/model.safetensors", THESIS)
    return "out"


def _damaged_list() -> str:
    _atomic("out")
    written(f"out/{LIST}", "{")
    return "out"


def _list_that_lies() -> str:
    """A stranger's list: it names a file outside, and one whose content it does not know."""
    written("thesis.tex", THESIS)
    written("out/thesis.tex", THESIS)
    written(f"out/{LIST}", json.dumps({"files": {"../thesis.tex": "", "thesis.tex": "0" * 64}}))
    return "out"


def _link_in_it() -> str:
    written("elsewhere/thesis.tex", THESIS)
    _atomic("out")
    os.symlink("../elsewhere", "out/link")
    return "out"


def _link_to_foreign() -> str:
    written("elsewhere/thesis.tex", THESIS)
    os.symlink("elsewhere", "out")
    return "out"


def _link_to_a_file() -> str:
    written("thesis.tex", THESIS)
    os.symlink("thesis.tex", "out")
    return "out"


def _a_file() -> str:
    written("out", THESIS)
    return "out"


def _below_a_file() -> str:
    written("out", THESIS)
    return "out/model"


def _link_in_a_circle() -> str:
    os.symlink("out", "out")
    return "out"


def _here() -> str:
    written("thesis.tex", THESIS)
    return "."


def _above() -> str:
    written("thesis.tex", THESIS)
    return ".."


def _holds_best() -> str:
    written("out/best/thesis.tex", THESIS)
    return "out"


FOREIGN_FOLDERS: dict[str, Callable[[], str]] = {  # refused, whoever writes
    "a file": _a_file,
    "below a file": _below_a_file,
    "a link to a file": _link_to_a_file,
    "a link in a circle": _link_in_a_circle,
    "the working folder": _here,
    "the folder above": _above,
    "nothing": lambda: "",
    "a device": lambda: "/dev/null",
    "below a device": lambda: "/dev/null/out",
    "a name of 300 letters": lambda: "x" * 300,
    "a path of 5000 letters": lambda: "x/" * 2500,
    "a NUL": lambda: "a\0b",
    "half an emoji": lambda: "a\ud83d",
    "/proc": lambda: "/proc/nothing",
}
REPLACED_FOLDERS: dict[str, Callable[[], str]] = {  # refused by who replaces the whole folder
    "a foreign file": _foreign_file,
    "a foreign folder": _foreign_folder,
    "an empty foreign folder": _empty_foreign_folder,
    "a foreign file beside ours": _foreign_beside_ours,
    "a file of ours, changed since": _changed_since,
    "a damaged list": _damaged_list,
    "a list that lies": _list_that_lies,
    "a link to a folder in it": _link_in_it,
    "a link to a foreign folder": _link_to_foreign,
    "a folder best/": _holds_best,
}


def _folders() -> Iterator[Case]:
    for writer, write in FOLDER_WRITERS.items():
        for name, prepare in FOREIGN_FOLDERS.items():
            if writer == "labkit preflight" and name not in FEW:  # each starts a kernel where it is not refused
                continue
            yield Case(1, f"{writer} into {name}", partial(_into, write, prepare), says=BEFORE_WORK)
        if writer == "labkit preflight":
            continue
        for name, prepare in REPLACED_FOLDERS.items():
            right = EITHER if writer in SHARES else (LINE,)
            act = partial(_into, write, prepare)
            yield Case(1, f"{writer} into {name}", act, right, says=BEFORE_WORK, seconds=30)


def _into(write: Writer, prepare: Callable[[], str]) -> None:
    os.environ["HOME"] = str(Path("../home-of-user").resolve())
    out = prepare()
    with untouched(Path.cwd()):
        write(out)


# --- files ------------------------------------------------------------------------------------------------------------


def _generate(out: str) -> None:
    """The model is none: who looks at --out first says so first."""
    command("generate", "--model", "no/such/thing", "--corpus", stage().corpus_folder, "--out", out)


def _evaluate(out: str) -> None:
    command("evaluate", stage().predictions, "--corpus", stage().corpus_folder, "--json", out)


def _csv(out: str) -> None:
    board = Board()
    board.add({"task": "x", "model": "m"})
    board.csv(out)


def _converse(out: str) -> None:
    command("converse", "--model", "no/such/thing", "--corpus", stage().corpus_folder, "--json", out)


def _class() -> Path:
    """A class of one, whose notebook is none: who looks at the outputs first says so first."""
    return written("class/ann/1_zero_shot_evaluation.ipynb", "{").parents[1]


def _pool(option: str, out: str) -> None:
    board = written("board/results.jsonl", json.dumps({"task": "x", "model": "m"}))
    command("pool", board, option, out)


FILE_WRITERS: dict[str, Writer] = {
    "labkit generate": _generate,
    "labkit converse --json": _converse,
    "labkit grade --csv": lambda out: command("grade", _class(), "--csv", out),
    "labkit grade --html": lambda out: command("grade", _class(), "--html", out),
    "labkit pool --csv": partial(_pool, "--csv"),
    "labkit pool --html": partial(_pool, "--html"),
    "labkit report --html": lambda out: command("report", "--html", out),
    "labkit evaluate --json": _evaluate,
    "labkit doctor --json": lambda out: command("doctor", "--json", out),
    "labkit slurm --job": lambda out: command(
        "slurm", "--model", MODEL, "--corpus", "miniwoz", "--out", "a", "--job", out
    ),
    "Board().csv": _csv,
    "write_json": lambda out: write_json(out, {}),
    "write_text": lambda out: write_text(out, "x"),
}


def _a_folder() -> str:
    written("out/thesis.tex", THESIS)
    return "out"


def _a_link_to_a_folder() -> str:
    written("elsewhere/thesis.tex", THESIS)
    os.symlink("elsewhere", "out")
    return "out"


def _a_thesis() -> str:
    written("thesis.tex", THESIS)
    return "thesis.tex"


def _a_link_to_a_thesis() -> str:
    written("thesis.tex", THESIS)
    os.symlink("thesis.tex", "out.json")
    return "out.json"


FOREIGN_FILES: dict[str, Callable[[], str]] = {
    "a folder": _a_folder,
    "a link to a folder": _a_link_to_a_folder,
    "below a file": _below_a_file,
    "a link in a circle": _link_in_a_circle,
    "nothing": lambda: "",
    "the working folder": lambda: ".",
    "below a device": lambda: "/dev/null/out",
    "a name of 300 letters": lambda: "x" * 300,
    "a NUL": lambda: "a\0b",
    "half an emoji": lambda: "a\ud83d",
    "/proc": lambda: "/proc/nothing",
}
OTHER_KINDS: dict[str, Callable[[], str]] = {  # write_json and write_text are told the kind by their callers
    "a thesis": _a_thesis,
    "a link to a thesis": _a_link_to_a_thesis,
}


def _files() -> Iterator[Case]:
    for writer, write in FILE_WRITERS.items():
        kinds = {} if writer.startswith("write_") else OTHER_KINDS
        for name, prepare in (FOREIGN_FILES | kinds).items():
            yield Case(1, f"{writer} onto {name}", partial(_into, write, prepare), says=BEFORE_WORK)


# --- what must go on working ------------------------------------------------------------------------------------------


def _sound() -> Iterator[Case]:
    for writer in ("save_model", "save_adapter", "atomic_folder"):
        yield Case(1, f"{writer} twice into its own folder", partial(_twice, FOLDER_WRITERS[writer]), (RESULT,))
        yield Case(1, f"{writer} through a link", partial(_through_a_link, FOLDER_WRITERS[writer]), (RESULT,))
    for writer in ("labkit evaluate --json", "labkit doctor --json", "Board().csv", "write_json", "write_text"):
        write = FILE_WRITERS[writer]
        yield Case(1, f"{writer} to /dev/null", partial(_to_a_device, write, "/dev/null"), (RESULT,))
        yield Case(1, f"{writer} to /dev/full", partial(_to_a_device, write, "/dev/full"), (LINE,))
        yield Case(1, f"{writer} through a link", partial(_file_through_a_link, write), (RESULT,))
    yield Case(1, "labkit merge into its adapter's folder", _merge_into_its_adapter)


def _twice(write: Writer) -> None:
    write("out")
    write("out")


def _through_a_link(write: Writer) -> None:
    Path("elsewhere").mkdir()
    os.symlink("elsewhere", "out")
    write("out")
    expect(Path("out").is_symlink(), "the link was replaced")
    expect(any(Path("elsewhere").iterdir()), "the link's target was not written")


def _to_a_device(write: Writer, device: str) -> None:
    try:
        write(device)
    finally:
        expect(stat.S_ISCHR(os.stat(device).st_mode), f"{device} was replaced")


def _file_through_a_link(write: Writer) -> None:
    kind = "csv" if write is _csv else "json"
    elsewhere = written(f"elsewhere.{kind}", "before")
    os.symlink(elsewhere, f"out.{kind}")
    write(f"out.{kind}")
    expect(Path(f"out.{kind}").is_symlink(), "the link was replaced")
    expect(elsewhere.read_text() != "before", "the link's target was not written")


def _merge_into_its_adapter() -> None:
    adapter = adapter_copy()
    written(adapter / "checkpoints/checkpoint-1/trainer_state.json", "{}")
    with untouched(adapter):
        command("merge", "--model", MODEL, "--adapter", adapter, "--out", adapter)
