"""A small MultiWOZ folder, and every field of every file in it changed in every way: gone, null, another type, nested …

    python tests/support/mutations.py [N [FIRST]]    # tries all, or each N-th, and counts what came of it

What a changed folder is used for is what the course does with a corpus: load, look, delexicalise, score, explain.
"""

import copy
import json
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from labkit.corpora import Corpus, load_corpus
from labkit.corpora.miniwoz import generate
from labkit.errors import LabError
from labkit.metrics import Scores

Json = Any  # whatever a JSON file holds
KEPT_ROWS = 1  # of a database file: its rows are alike
KEPT_TURNS = 4
GONE = object()
DEEP: Json = "deep"
for _ in range(200):
    DEEP = [DEEP]
BAD_NAMES = ("half an emoji", "huge text", "markup", "no text")
VALUES: dict[str, Json] = {
    "gone": GONE,
    "null": None,
    "number": 7,
    "huge number": 10**400,
    "fraction": 0.5,
    "true": True,
    "text": "x",
    "no text": "",
    "huge text": "9" * 20_000 + " pm",
    "list": [],
    "list of null": [None],
    "object": {},
    "object with null": {"x": None},
    "nested": DEEP,
    "non-ASCII": "İstanbul Straße ぁ 😀",
    "markup": "<b>\n\x1b[31m</b>",
    "half an emoji": "\ud83d",
}


class Mutation(NamedTuple):
    """In a file, the value at the end of a path of names and indices is replaced."""

    file: str
    path: tuple[str | int, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.file} {'/'.join(map(str, self.path))}: {self.kind}"


def corpus_files() -> dict[str, Json]:
    """{place: content} of two MiniWOZ dialogues, cut to a few turns, slots and rows; that of dev has no acts."""
    raw = generate(seed=3, sizes={"test": 1, "dev": 1})
    for dialogues in raw["splits"].values():
        del dialogues[0]["turns"][KEPT_TURNS:]
        for turn in dialogues[0]["turns"]:
            turn["frames"] = [frame for frame in turn["frames"] if _says_something(frame)][:2]
    (test,) = raw["splits"]["test"]
    key = test["dialogue_id"].removesuffix(".json").lower()
    acts = raw["dialog_acts"][test["dialogue_id"]]
    files: dict[str, Json] = {
        "test/dialogues_001.json": [test],
        "dev/dialogues_001.json": raw["splits"]["dev"],
        "dialog_acts.json": {test["dialogue_id"]: {turn: acts[turn] for turn in list(acts)[:KEPT_TURNS]}},
        "goals.json": {key: raw["goals"][key]},
        "booked_domains.json": {key: raw["booked_domains"][key][: KEPT_TURNS // 2]},
        "schema.json": [service | {"slots": service["slots"][:2]} for service in raw["schema"][:2]],
    }
    for domain, rows in raw["database"].items():
        files[f"db/{domain}_db.json"] = rows[:KEPT_ROWS]
    return files


def _says_something(frame: Json) -> bool:
    return bool(frame["slots"] or frame.get("state", {}).get("slot_values"))


def places(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a file, the file's whole content included."""
    yield path
    names: list[str | int] = []
    if isinstance(value, dict):
        names = list(value)
    elif isinstance(value, list):
        names = list(range(len(value)))
    for name in names:
        yield from places(value[name], (*path, name))


def mutations(files: dict[str, Json]) -> list[Mutation]:
    """Every place of every file with every kind of value, and every name with one that cannot be."""
    result = []
    for file, content in files.items():
        for path in places(content):
            result += [Mutation(file, path, kind) for kind in VALUES]
            if path and isinstance(path[-1], str):
                result += [Mutation(file, path, f"name: {kind}") for kind in BAD_NAMES]
    return result


def mutated(content: Json, path: tuple[str | int, ...], kind: str) -> Json:
    """A changed copy of a file's content; GONE where nothing is left."""
    value = VALUES[kind.removeprefix("name: ")]
    if not path:
        return value
    content = copy.deepcopy(content)
    owner = content
    for name in path[:-1]:
        owner = owner[name]
    if kind.startswith("name: "):
        owner[value] = owner.pop(path[-1])
    elif value is GONE:
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    return content


def write(folder: Path, files: dict[str, Json]) -> None:
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps(content), encoding="utf-8")


def use(folder: Path) -> None:
    """What the course does with a corpus: load it, score replies, explain the scores, look at it."""
    from labkit.course.datacard import data_card
    from labkit.structure import representations

    corpus = load_corpus(folder)
    json.dumps([corpus.goals, corpus.booked, corpus.schema, corpus.database]).encode()
    for split in corpus:
        _look(corpus, split, _score(corpus, split))
        representations(corpus[split])
    data_card([corpus])


def _score(corpus: Corpus, split: str) -> Scores:
    """Gold replies with their belief states; and, without them, a constant reply."""
    from labkit.metrics import constant_predictions, evaluate, gold_predictions

    dialogues = corpus[split]
    evaluate(constant_predictions(dialogues), corpus, split)
    gold = gold_predictions(dialogues)
    for dialogue in dialogues:
        for reply, turn in zip(gold[dialogue.key], dialogue.bot_turns, strict=True):
            reply["state"] = turn.state
    scores = evaluate(gold, corpus, split)
    str(scores)
    return scores


def _look(corpus: Corpus, split: str, scores: Scores) -> None:
    from labkit.metrics import gold_predictions
    from labkit.notebook.view import lexical_view, show_dialogue, show_explanation

    gold = gold_predictions(corpus[split])
    for dialogue in corpus[split]:
        shown = show_dialogue(dialogue, gold, states=True)
        (shown.html + shown.text).encode()
        if dialogue.key in corpus.goals:
            show_explanation(scores.explain(dialogue.dialogue_id)).html.encode()
        for number, reply in enumerate(gold[dialogue.key]):
            lexical_view(reply["response"], dialogue, number, corpus.database).encode()


def outcome(mutation: Mutation, files: dict[str, Json], folder: Path) -> tuple[str, str]:
    """("a result" | "one clear line" | "no clear line" | "traceback", the message)."""
    changed = mutated(files[mutation.file], mutation.path, mutation.kind)
    write(folder, files)
    if changed is GONE:
        (folder / mutation.file).unlink()
    else:
        write(folder, {mutation.file: changed})
    try:
        use(folder)
    except LabError as error:
        text = str(error)
        clear = text.isprintable() and "→" in text and len(text) < 1000
        return ("one clear line" if clear else "no clear line"), text
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {str(error)[:100]} ({Path(frame.filename).name}:{frame.lineno})"
    return "a result", ""


def main() -> None:
    files = corpus_files()
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chosen = mutations(files)[first::every]
    counts: Counter[str] = Counter()
    bad: dict[str, list[Mutation]] = {}  # {where it failed: by which}
    with tempfile.TemporaryDirectory() as folder:
        for number, mutation in enumerate(chosen):
            if number % 200 == 0:
                print(number, dict(counts), flush=True)
            kind, text = outcome(mutation, files, Path(folder))
            counts[kind] += 1
            if kind in ("traceback", "no clear line"):
                bad.setdefault(text.split("(")[-1] if kind == "traceback" else text[:200], []).append(mutation)
    print(f"{len(chosen)} tried of {len(mutations(files))}:", dict(counts))
    for text, which in bad.items():
        print(f"  {len(which)} times {text}; first {str(which[0])[:150]!r}")


if __name__ == "__main__":
    main()
