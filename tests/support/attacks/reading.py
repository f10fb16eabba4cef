"""Point 4: everything read is checked where it is read."""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import mutations
import numpy as np

import labkit
from attacks.case import EITHER, LINE, RESULT, Case, Wrong, command, expect, written
from attacks.stage import adapter_copy, model_copy, stage
from labkit import structure
from labkit.metrics import evaluate, read_predictions
from labkit.results.board import Board

EVERY = 50  # each so manieth of the mutations of a corpus folder; `mutations.py` tries all
DAMAGED = (
    "null",
    "[]",
    "3",
    '"x"',
    "true",
    "{",
    "",
    "\x00\x01",
    "[" * 5000,
    '{"x": NaN}',
    "\ud83d",
    '{"a": 1}{',
    "\ufeff[]",
)
ROWS = (
    "3", "null", "[1]", '"x"', "{", "{}", '{"task": null}', '{"task": [1]}', '{"bleu": "x"}', '{"bleu": NaN}',
    '{"intervals": 3}', '{"intervals": {"bleu": null}}', '{"intervals": {"bleu": [1]}, "bleu": 2}',
    '{"intervals": {"bleu": ["a", "b"]}, "bleu": 2}', '{"decoding": 3}', '{"decoding": [1]}', '{"adapter": 3}',
    '{"adapter": "a\\u0000b"}', '{"notes": 3}', '{"time": 3}', '{"time": null}', '{"model": {"a": 1}}', '{"speed": 3}',
    '{"stand_in": "x"}', '{"failed": 3}', '{"sweep": 3}', '{"richness": 3}', '{"richness": {"distinct": null}}',
    '{"model": "\\ud83d"}', '{"model": "<b>\\n</b>"}', '{"seed": 1e999}', '{"dialogues": -1}', '{"bits": "x"}',
    '{"parameters": "x"}', '{"task": "speed", "speed": {"x": "y"}}', '{"training": "x"}', '{"dst": 3}',
)  # fmt: skip
REPLIES = (
    "null", "3", "[]", '{"a": null}', '{"KEY": null}', '{"KEY": {}}', '{"KEY": [null]}', '{"KEY": [{}]}', '{"KEY": []}',
    '{"KEY": [{"response": null}]}', '{"KEY": [{"response": 3}]}', '{"KEY": [{"response": "\\ud83d"}]}',
    '{"KEY": [{"response": "x", "state": 3}]}', '{"KEY": [{"response": "x", "state": {"hotel": 3}}]}',
    '{"KEY": [{"response": "x", "state": {"hotel": {"area": 3}}}]}',
    '{"KEY": [{"response": "x", "state": {"train": {"leaveat": "HUGE pm"}}}]}',
    '{"KEY": [{"response": "x", "state": {"train": {"leaveat": "\\ud83d"}}}]}',
    '{"KEY": [{"response": "x", "active_domains": 3}]}', '{"KEY": [{"response": "x", "active_domains": [3]}]}',
    '{"KEY": [], "KEY": []}', '{"KEY": [], "KEY.json": []}', '{"\\ud83d": []}', "[" * 5000,
)  # fmt: skip
RECORDS = (
    "null", "[]", "3", '"x"', "{", '{"name": 3}', '{"decoding": 3}', '{"decoding": [1]}', '{"training": "x"}',
    '{"seconds": "x"}', '{"seconds": NaN}', '{"seconds": -1}', '{"seconds": 0}', '{"n_parameters": "x"}',
    '{"adapter": 3}',
    '{"adapter": "a\\u0000b"}', '{"bits": "x"}', '{"stand_in": 3}', '{"device": 3}', '{"name": "\\ud83d"}',
    '{"decoding": {"seed": []}}', '{"corpus": 3}', '{"sha256": 3}', '{"prompt": 3}', "[" * 5000,
)  # fmt: skip


def cases() -> list[Case]:
    """Corpora, predictions and their records, boards, cached vectors, records of runs, tokenizers."""
    return [*_corpora(), *_predictions(), *_records(), *_boards(), *_vectors(), *_runs(), *_texts()]


def _corpora() -> Iterator[Case]:
    files = mutations.corpus_files()
    for mutation in mutations.mutations(files)[7::EVERY]:
        yield Case(4, f"corpus, {str(mutation)!a}", partial(_mutated, mutation, files), EITHER, seconds=30)
    for name in ("train/dialogues_001.json", "schema.json", "goals.json", "dialog_acts.json", "db/hotel_db.json"):
        for text in DAMAGED:
            yield Case(4, f"corpus, {name} is {text[:12]!a}", partial(_damaged_corpus, files, name, text), EITHER)


def _mutated(mutation: mutations.Mutation, files: dict) -> None:
    kind, text = mutations.outcome(mutation, files, Path())
    if kind in ("traceback", "no clear line"):
        raise Wrong(f"{kind}: {text!a}")


def _damaged_corpus(files: dict, name: str, text: str) -> None:
    mutations.write(Path(), files)
    written(name, text)
    mutations.use(Path())


def _predictions() -> Iterator[Case]:
    key = stage().corpus["test"][0].key
    for text in REPLIES:
        text = text.replace("KEY", key).replace("HUGE", "9" * 5000)
        yield Case(4, f"predictions {text[:70]!a}", partial(_scored, text), EITHER)
    for text in DAMAGED:
        yield Case(4, f"predictions file {text[:12]!a}", partial(_read, text))
    yield Case(4, "predictions gzipped, cut", partial(_read_gzip, b"\x1f\x8b\x08\x00"))
    yield Case(4, "predictions gzipped, none", partial(_read_gzip, b"{}"))


def _scored(text: str) -> None:
    file = written("p.json", text)
    command("evaluate", file, "--corpus", stage().corpus_folder, "--allow-lexical")


def _read(text: str) -> None:
    evaluate(read_predictions(written("p.json", text)), stage().corpus, "test")


def _read_gzip(content: bytes) -> None:
    read_predictions(written("p.json.gz", content))


def _records() -> Iterator[Case]:
    for text in RECORDS:
        yield Case(4, f"p.run.json is {text[:40]!a}", partial(_with_record, text), EITHER)
        yield Case(4, f"p.json.partial is {text[:40]!a}", partial(_with_partial, text), EITHER)


def _with_record(text: str) -> None:
    """The row goes onto the board, and can be shown; or one line says what is wrong with the record."""
    file = written("p.json", stage().predictions.read_bytes())
    written("p.run.json", text)
    command("evaluate", file, "--corpus", stage().corpus_folder)
    _shown(Board())


def _with_partial(text: str) -> None:
    written("p.json.partial", text)
    words = ["generate", "--model", "mini-pythia-500k", "--corpus", stage().corpus_folder, "--limit", 1]
    command(*words, "--max-new-tokens", 1, "--out", "p.json")


def _boards() -> Iterator[Case]:
    for text in ROWS:
        yield Case(4, f"a line of the board is {text[:60]!a}", partial(_board_with, text), EITHER)
    yield Case(4, "a line of the board is deep", partial(_board_with, "[" * 5000), EITHER)
    yield Case(4, "a line of the board is NULs", partial(_board_with, "\x00" * 50), EITHER)
    yield Case(4, "the board is a folder", _board_folder, EITHER)
    for sort in ("nosuch", "", 3, None):
        yield Case(4, f"board sorted by {sort!r}", partial(_sorted, sort))
    yield Case(4, "a table that is none", lambda: Board().original("moon"))


def _board_with(text: str) -> None:
    """The sound row is still shown."""
    board = Board()
    board.add({"task": "sound-row", "model": "m", "bleu": 3.0, "intervals": {"bleu": [2.0, 4.0]}, "corpus": "c"})
    with board.path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    _shown(board)
    expect("sound-row" in board.html().html, "the sound row is not shown")


def _shown(board: Board) -> None:
    board.table()
    board.html().html.encode()
    board.markdown().encode()
    board.csv()
    board.figure().to_json()
    for table in ("speed", "untuned", "tuned"):
        board.original(table)


def _board_folder() -> None:
    board = Board()
    board.path.mkdir(parents=True)
    board.add({"task": "x"})


def _sorted(sort: object) -> None:
    board = Board()
    board.add({"task": "x"})
    board.table(sort)


VECTORS = {
    "empty": b"",
    "NULs": b"\x00" * 200,
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtins\x94.",
    "text": b"hello",
    "half a header": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'",
    "a header of its own": b"\x93NUMPY\x01\x00\x36\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9**99,)}\n",
    "an archive": b"PK\x05\x06" + b"\x00" * 18,
}
ARRAYS = {
    "another width": np.ones((2, 3), "float32"),
    "another number": np.ones((1, 64), "float32"),
    "NaN": np.full((2, 64), np.nan, "float32"),
    "zeros": np.zeros((2, 64), "float32"),
    "whole numbers": np.ones((2, 64), "int64"),
    "a number": np.float32(3),
}


def _vectors() -> Iterator[Case]:
    for name, content in VECTORS.items():
        yield Case(4, f"cached vectors: {name}", partial(_with_cached, content), (RESULT,))
    for name, array in ARRAYS.items():
        yield Case(4, f"cached vectors: {name}", partial(_with_cached, array), (RESULT,))
    yield Case(4, "cached vectors: cut", partial(_with_cached, None), (RESULT,))


def _with_cached(content: bytes | np.ndarray | None) -> None:
    """A damaged file is made again, and the vectors are what they were."""
    texts = ["a hotel", "a taxi"]
    first = structure.embed(texts, stage().lm, cache="vectors")
    (file,) = Path("vectors").glob("*.npy")
    if content is None:
        content = file.read_bytes()[:-100]
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content)
    again = structure.embed(texts, stage().lm, cache="vectors")
    expect(np.array_equal(first, again), "other vectors")


def _runs() -> Iterator[Case]:
    for text in DAMAGED:
        for name in ("run.json", "result.json"):
            yield Case(
                4, f"{name} of a run is {text[:12]!a}", partial(_finetuned_after, name, text), EITHER, seconds=60
            )
        yield Case(4, f"run.json of an adapter is {text[:12]!a}", partial(_merged_with, text), EITHER)


def _finetuned_after(name: str, text: str) -> None:
    written(f"out/{name}", text)
    words = ["finetune", "--model", "mini-pythia-500k", "--corpus", stage().corpus_folder, "--max-steps", 1]
    command(
        *words, "--batch-size", 1, "--max-train-dialogues", 1, "--eval-steps", 0, "--max-length", 64, "--out", "out"
    )


def _merged_with(text: str) -> None:
    adapter = adapter_copy()
    written(adapter / "run.json", text)
    words = ["generate", "--model", "mini-pythia-500k", "--adapter", adapter, "--corpus", stage().corpus_folder]
    command(*words, "--limit", 1, "--max-new-tokens", 1, "--out", "p.json")


def _texts() -> Iterator[Case]:
    yield Case(4, "ids with dots", _dots, (RESULT,))
    yield Case(4, "a pad token without a row", _pad_beyond, (RESULT,))
    for name, texts in {"half an emoji": ["a \ud83d"], "a number": [3], "None": [None], "NUL": ["\0"]}.items():
        right = (RESULT,) if name == "NUL" else (LINE,)
        yield Case(4, f"embed {name}", partial(structure.embed, texts, stage().lm), right)
    for name, ids in {
        "nothing": [[]],
        "beyond": [[10**6]],
        "negative": [[-1]],
        "text": [["x"]],
        "None": [None],
    }.items():
        yield Case(4, f"prompt of {name}", partial(labkit.generate, stage().lm, ids), EITHER)


def _dots() -> None:
    turns = [{"turn_id": str(i), "speaker": ("USER", "SYSTEM")[i], "utterance": "hi", "frames": []} for i in range(2)]
    dialogues = [{"dialogue_id": f"conv.2024.00{n}", "services": [], "turns": turns} for n in (1, 2)]
    written("test.json", json.dumps(dialogues))
    expect(len(labkit.load_corpus(os.getcwd())["test"]) == 2, "two ids are taken for one")


def _pad_beyond() -> None:
    from transformers import AutoTokenizer

    folder = model_copy()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    lm = labkit.load_model(str(folder))
    labkit.generate(lm, [[5], [5, 6, 7]], labkit.DecodingConfig(max_new_tokens=2))
    structure.embed(["hi", "hello there, a longer one"], lm)
