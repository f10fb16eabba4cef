"""The decoding lab with a model in it: one page and the stand-ins' weights beside it, which need no server.

The page holds the modules of `live/` and the notebook's `lab.mjs` as data: addresses, and the weights are scripts: so a
double click opens it, too.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from labkit.corpora.types import Dialogue
from labkit.course.site.packed import as_script, packed
from labkit.decoding.config import DecodingConfig
from labkit.models.find import WEIGHTS
from labkit.notebook.decoding_lab.files import MODULE, STYLE
from labkit.notebook.decoding_lab.tables import LONGEST
from labkit.notebook.decoding_lab.twin import dials
from labkit.prompts.format import spoken
from labkit.storage import Json, atomic_path, read_json, write_text

PAGE = "decoding-lab.html"
SOURCES = Path(__file__).parent / "live"
MODULES = ("kernel", "gpt_neox", "packed", "tokenizer", "prompts", "draws", "page")
MODELS = ("mini-pythia-2m", "mini-pythia-8m")  # the first one is loaded with the page, others when they are chosen
DIALOGUES = 12  # of MiniWOZ's test split
EXAMPLES = 2  # whole dialogues that can be put before the history
OPENING = "hello , i am looking for a hotel in the north"
CONTEXT = 1024  # tokens that a stand-in reads
Content = dict[str, object]  # as JSON


def write_live_page(folder: Path) -> list[Path]:
    """Write the page and the weights into a folder; returns their paths."""
    models = [Model.of(name) for name in MODELS]
    written = [_write(folder / model.file, model.script) for model in models]
    page = write_text(folder / PAGE, live_page(models))
    return [page, *written]


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A shipped stand-in as the page offers it."""

    name: str
    folder: Path
    parameters: str  # to read: "1.9 million"
    script: bytes  # the configuration and the weights

    @classmethod
    def of(cls, name: str) -> "Model":
        """A stand-in by its name."""
        folder = WEIGHTS / name
        weights = (folder / "model.safetensors").read_bytes()
        parameters = len(weights) / 2  # float16
        script = _script(name, read_json(folder / "config.json"), weights)
        return cls(name, folder, parameters=f"{parameters / 1e6:.1f} million", script=script)

    @property
    def file(self) -> str:
        """The name of the script that holds the weights."""
        return f"{self.name}.js"

    @property
    def megabytes(self) -> int:
        """What is loaded."""
        return round(len(self.script) / 1e6)

    def described(self) -> Content:
        """What the page says of it before it is loaded."""
        return {
            "name": self.name,
            "file": self.file,
            "parameters": self.parameters,
            "megabytes": self.megabytes,
        }


def _script(name: str, config: Json, weights: bytes) -> bytes:
    """A script that hands the configuration and the packed weights to the page."""
    text = json.dumps({"config": config, "weights": packed(weights)}, ensure_ascii=False)
    return as_script(f'(globalThis.decodingLabModels ??= {{}})["{name}"] = {text};\n')


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    return path


# --- the page ---------------------------------------------------------------------------------------------------------


def live_page(models: list[Model]) -> str:
    """The page as HTML; it loads nothing but the weights beside it."""
    style = (SOURCES / "live.css").read_text(encoding="utf-8") + STYLE.read_text(encoding="utf-8")
    template = (SOURCES / "live.html").read_text(encoding="utf-8")
    described = [model.described() for model in models]
    text = json.dumps(page_data(models), ensure_ascii=False)
    text = text.replace("</", "<\\/").replace("<!--", "<\\u0021--")  # neither ends the script nor opens a comment
    return Environment(autoescape=True).from_string(template).render(style=style, models=described, data=text)


def page_data(models: list[Model]) -> Content:
    """Everything that the page's modules are given."""
    dialogues, examples = _dialogues()
    own = {"name": "your own dialogue", "exchanges": [[OPENING, ""]]}
    return {
        "modules": _modules(),
        "models": [model.described() for model in models],
        "tokenizer": read_json(models[0].folder / "tokenizer.json"),
        "room": CONTEXT - LONGEST,
        "dialogues": [own, *dialogues],
        "examples": examples,
        "start": _start(1 + len(dialogues), len(examples)),
    }


def _modules() -> dict[str, str]:
    """{name: address} of the modules."""
    paths = {name: SOURCES / f"{name}.mjs" for name in MODULES}
    paths["lab"] = MODULE
    return {name: _address(path) for name, path in paths.items()}


def _address(path: Path) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _dialogues() -> tuple[list[Content], list[Content]]:
    """Dialogues of the test split, and some of the training split as examples."""
    from labkit.corpora import load_corpus

    corpus = load_corpus("miniwoz", splits=["test", "train"])
    dialogues = [exchanges_of(dialogue) for dialogue in corpus["test"][:DIALOGUES]]
    shortest = sorted(corpus["train"][:50], key=lambda dialogue: len(dialogue.turns))
    return dialogues, [exchanges_of(dialogue) for dialogue in shortest[:EXAMPLES]]


def exchanges_of(dialogue: Dialogue) -> Content:
    """A dialogue as the page has it: what the user said and the reply, with placeholders, turn by turn."""
    words = spoken(dialogue)
    pairs = zip(words[::2], words[1::2], strict=True)
    return {"name": dialogue.dialogue_id, "exchanges": [list(pair) for pair in pairs]}


def _start(dialogues: int, examples: int) -> Content:
    """What the front end begins with, as `labkit.notebook.decoding_lab.twin.start_of` gives it in a notebook; the page
    adds the tokens that end a reply."""
    return {
        "id": "live",
        "live": True,
        "recorded": False,
        "dialogues": dialogues,
        "shots": examples,
        "place": {"dialogue": 0, "turn": 0, "instruction": "", "shots": 0},
        "config": dials(DecodingConfig(strategy="sample", max_new_tokens=40)),
    }
