"""What the loopback Hub serves: pythia-70m's and 14m's shapes under their names, and MultiWOZ 2.2's layout, raw and as
parquet.

Nothing here is the real thing, and what is made on the spot says so: the weights are random, the dialogues those of
../shared/data/multiwoz (rebuilt from MultiWOZ 2.1) where they are, else MiniWOZ.  Shapes, sizes and defects are real.

    python tests/hub/world.py FOLDER [train dialogues]
"""

import gzip
import json
import shutil
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from labkit.corpora.download import git_blob_id

MODEL, DATASET = "EleutherAI/pythia-70m", "pfb30/multi_woz_v22"
SHARED = Path(__file__).parents[2] / "shared" / "data" / "multiwoz"
PYTHIA_70M = {  # its config.json
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "vocab_size": 50304,
    "max_position_embeddings": 2048,
}
SMALLER = "EleutherAI/pythia-14m"
PYTHIA_14M = PYTHIA_70M | {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
TOKENS = 50_254  # of its tokenizer; the rest of the 50,304 is padding
FILES = {"train": 17, "dev": 2, "test": 2}  # of the original repository
TRAIN = 8437  # dialogues of the real train split


def build(folder: Path, train: int = TRAIN, multiwoz: Path = SHARED, width: int = PYTHIA_70M["hidden_size"]) -> Path:
    """Write what `server.serve` serves to `folder`, and the corpus' pins beside it (`folder`/pins.json); once.

    A smaller `width` of pythia-70m leaves its layers, heads, vocabulary and files as they are.
    """
    if not (folder / "pins.json").is_file():
        model(folder / "models" / MODEL / "main", hidden_size=width, intermediate_size=4 * width)
        model(folder / "models" / SMALLER / "main", **PYTHIA_14M)
        raw = corpus(multiwoz, train)
        write_parquet(raw, folder / "datasets" / DATASET)
        pins = write_raw(raw, folder / "raw")
        (folder / "pins.json").write_text(json.dumps(pins), encoding="utf-8")
    return folder


# --- the model --------------------------------------------------------------------------------------------------------


def model(folder: Path, **size: int) -> Path:
    """A GPT-NeoX of pythia-70m's shape with random weights in float16, as the real checkpoint has them."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**PYTHIA_70M | size, **tokens))
    newline, fillers = tokenizer(folder, model.config.vocab_size - 50)
    _end_lines(model, newline, fillers[::12])
    model.half().save_pretrained(folder)
    return folder


def _end_lines(model: Any, newline: int, last: range) -> None:
    """Make a newline follow the tokens `last`: lines end after some words, as a trained model's, and not at the limit.

    Embeddings 20 times as large make the next token depend on this one (else it is the same after every text).
    """
    import torch

    direction = torch.nn.functional.normalize(torch.randn(model.config.hidden_size), dim=0)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)
        model.get_input_embeddings().weight[list(last)] += 20 * direction
        model.get_output_embeddings().weight[newline] += direction


def tokenizer(folder: Path, tokens: int) -> tuple[int, range]:
    """The shipped tokenizer with words that no text holds, up to pythia's size; ids of the newline and of these."""
    import labkit.models

    shipped = next(Path(labkit.models.__file__).parent.glob("weights/mini-pythia-8m"))
    content = json.loads((shipped / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    fillers = range(len(vocabulary), tokens)
    vocabulary |= {f"Ġfiller{number}": number for number in fillers}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    shutil.copy(shipped / "tokenizer_config.json", folder)
    return vocabulary["Ċ"], fillers


# --- the corpus -------------------------------------------------------------------------------------------------------


def corpus(multiwoz: Path, train: int) -> dict[str, Any]:
    """{"splits", "dialog_acts", "goals", "booked_domains", "database", "schema"} of real dialogues, else of MiniWOZ.

    There is no train split among the real ones: it is the first 900 dialogues of dev, again and again under new ids,
    so that reading it takes the time and the memory that it takes with the real one; dev is what is left.
    """
    if not multiwoz.is_dir():
        from labkit.corpora.miniwoz import generate

        return generate(sizes={"train": train, "dev": 150, "test": 150})
    raw: dict[str, Any] = {
        name: load(multiwoz / f"{name}.json.gz") for name in ("dialog_acts", "goals", "booked_domains")
    }
    dev = load(multiwoz / "dev.json.gz")
    raw["splits"] = {"train": [], "dev": dev[900:], "test": load(multiwoz / "test.json.gz")}
    raw["schema"] = load(multiwoz / "schema.json")
    raw["database"] = {path.name.split("_db")[0]: load(path) for path in sorted((multiwoz / "db").iterdir())}
    for number, dialogue in enumerate(islice(cycle(dev[:900]), train)):
        copy = dialogue | {"dialogue_id": f"COPY{number:05}.json"}
        raw["splits"]["train"].append(copy)
        raw["dialog_acts"][copy["dialogue_id"]] = raw["dialog_acts"][dialogue["dialogue_id"]]
    return raw


def load(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def write_raw(raw: dict[str, Any], folder: Path) -> dict[str, dict[str, str]]:
    """The files at the addresses of labkit's pins, and the pins with the blob ids of these files."""
    from labkit.corpora.download import pins

    contents: dict[str, Any] = {name: raw[name] for name in ("dialog_acts", "goals", "booked_domains", "schema")}
    contents = {f"{name}.json": value for name, value in contents.items()} | {"LICENSE": "made for a test"}
    contents |= {f"db/{domain}_db.json": entities for domain, entities in raw["database"].items()}
    for split, count in FILES.items():
        dialogues = raw["splits"][split]
        size = -(-len(dialogues) // count)
        for number in range(count):
            part = dialogues[number * size : (number + 1) * size]
            contents[f"{split}/dialogues_{number + 1:03}.json"] = part
    own = {}
    for place, pin in pins().items():
        path = folder.joinpath(pin["repository"], pin["commit"], pin["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(contents.get(place, []), ensure_ascii=False, indent=1), encoding="utf-8")
        own[place] = pin | {"blob": git_blob_id(path)}
    return own


# --- the parquet export -----------------------------------------------------------------------------------------------


def write_parquet(raw: dict[str, Any], folder: Path, rows: int = 50) -> None:
    """The dataset's repository: a script on main, which no client runs any more, and the export with its known defects.

    Two configurations, of which a bare `load_dataset` makes one dataset of twice the size; `start` and `exclusive_end`
    of a frame's slots swapped.  The first `rows` dialogues of each split are enough to show both.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "main").mkdir(parents=True)
    (folder / "main" / "multi_woz_v22.py").write_text("raise RuntimeError('a script from the Hub was run')\n")
    for config in ("v2.2", "v2.2_active_only"):
        for split, name in {"train": "train", "dev": "validation", "test": "test"}.items():
            path = folder / "refs/convert/parquet" / config / name / "0000.parquet"
            path.parent.mkdir(parents=True)
            dialogues = raw["splits"][split][:rows]
            pq.write_table(pa.Table.from_pylist([exported(d, raw["dialog_acts"]) for d in dialogues]), path)


def exported(dialogue: dict[str, Any], acts: dict[str, Any]) -> dict[str, Any]:
    """A raw dialogue as the Hub's script laid it out: lists of fields in place of lists of objects."""
    own = acts[dialogue["dialogue_id"]]
    turns: dict[str, list[Any]] = {name: [] for name in ("turn_id", "speaker", "utterance", "frames", "dialogue_acts")}
    for turn in dialogue["turns"]:
        turns["turn_id"].append(turn["turn_id"])
        turns["speaker"].append(int(turn["speaker"] == "SYSTEM"))
        turns["utterance"].append(turn["utterance"])
        turns["frames"].append(_frames(turn["frames"]))
        turns["dialogue_acts"].append(_acts(own.get(turn["turn_id"], {"dialog_act": {}, "span_info": []})))
    return {"dialogue_id": dialogue["dialogue_id"], "services": dialogue["services"], "turns": turns}


def _frames(frames: list[dict[str, Any]]) -> dict[str, list[Any]]:
    empty = {"active_intent": "NONE", "requested_slots": [], "slot_values": {}}
    states = [frame.get("state", empty) for frame in frames]
    values = [state["slot_values"] for state in states]
    lists = [{"slots_values_name": list(value), "slots_values_list": list(value.values())} for value in values]
    return {
        "service": [frame["service"] for frame in frames],
        "state": [
            {
                "active_intent": state["active_intent"],
                "requested_slots": state["requested_slots"],
                "slots_values": value,
            }
            for state, value in zip(states, lists, strict=True)
        ],
        "slots": [[_swapped(slot) for slot in frame["slots"] if "start" in slot] for frame in frames],
    }


def _swapped(slot: dict[str, Any]) -> dict[str, Any]:
    return {
        "slot": slot["slot"],
        "value": str(slot["value"]),
        "start": slot["exclusive_end"],
        "exclusive_end": slot["start"],
        "copy_from": "",
        "copy_from_value": [],
    }


def _acts(own: dict[str, Any]) -> dict[str, Any]:
    pairs = own["dialog_act"].values()
    spans = list(zip(*own["span_info"], strict=True)) or [()] * 5
    names = ("act_type", "act_slot_name", "act_slot_value", "span_start", "span_end")
    slots = [{"slot_name": [str(p[0]) for p in pair], "slot_value": [str(p[1]) for p in pair]} for pair in pairs]
    return {
        "dialog_act": {"act_type": list(own["dialog_act"]), "act_slots": slots},
        "span_info": {name: list(column) for name, column in zip(names, spans, strict=True)},
    }


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
