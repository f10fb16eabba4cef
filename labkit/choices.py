"""Which model, corpus and scorer: what was asked for, what is here already, and what the network has."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from labkit.corpora.download import address_of
from labkit.corpora.multiwoz import has_dialogues
from labkit.corpora.pins import pins
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.machine.network import (
    TOKEN_ACTION,
    Answer,
    Hub,
    Question,
    check_endpoint,
    decided,
    has_token,
    hub_question,
    in_words,
    offline,
    offline_by_user,
    probe,
    token_problem,
)
from labkit.machine.one_line import shortened
from labkit.machine.paths import cache_dir, exists
from labkit.machine.problem import Problem
from labkit.models.names import REAL_MODEL, STAND_IN_MODEL, STAND_INS
from labkit.storage import read_json

REAL_CORPUS = "multiwoz22"
STAND_IN_CORPUS = "miniwoz"
STAND_IN = {"LAB_MODEL": STAND_IN_MODEL, "LAB_CORPUS": STAND_IN_CORPUS}
OTHERS = {  # what a variable may name instead
    "LAB_MODEL": "a Hub id, a folder with config.json, a .gguf file, or mini-pythia",
    "LAB_CORPUS": "miniwoz, multiwoz22, or a folder in the MultiWOZ 2.2 layout",
}
NOT_ASKED = "nobody was asked for it"
DEPTH = 4  # folders between the one with attached files and a corpus or model in it


class Choice(NamedTuple):
    """What was chosen, why, and what is wrong with it."""

    name: str
    reason: str
    problems: Sequence[Problem]


class Place(NamedTuple):
    """Where something is to be had without the network ("" if nowhere), and why it is not where it should be."""

    where: str
    why_not: str = ""


def look_outside(timeout: float = 3.0) -> tuple[Hub, list[Answer]]:
    """The Hub, and what it says about the model and what MultiWOZ's host says: HTTP codes, or what went wrong.

    Nobody is asked for what is here already, so a silent host costs no time where it is not needed.

    Raises:
        LabError: HF_ENDPOINT is no address.
    """
    check_endpoint()
    if offline_by_user():
        return offline(), []
    questions = {"hub": hub_question()}
    if _has_to_come_from_the_hub(_model_name()) and not token_problem():
        questions["model"] = _model_question(_model_name())
    failed_early: dict[str, Answer] = {}
    if _corpus_name() == REAL_CORPUS and not _place_of_corpus(REAL_CORPUS).where:
        try:
            questions["corpus"] = _corpus_question()
        except LabError as error:
            failed_early["corpus"] = f"{error.what}: {error.found}"
    answers = probe(questions, timeout) | failed_early
    hub = decided(answers["hub"])
    unasked = NOT_ASKED if hub.reachable else answers["hub"]
    return hub, [answers.get("model", unasked), answers.get("corpus", NOT_ASKED)]


def _model_question(name: str) -> Question:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_token_to_send

    token = get_token_to_send(None)  # for the Hub only
    # not build_hf_headers: it asks the Hub which agents there are, and fails where a log-in page answers
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Question(f"{constants.ENDPOINT}/{name}/resolve/main/config.json", headers)


def _corpus_question() -> Question:
    """One of MultiWOZ's files: the first page of its host is a web page everywhere, so it tells nothing.

    Raises:
        LabError: LAB_MULTIWOZ_PINS does not name such files, or LAB_MULTIWOZ_URL is no address.
    """
    first = next(iter(pins().values()))
    return Question(address_of(first))


# --- the model --------------------------------------------------------------------------------------------------------


def choose_model(answer: Answer = "offline mode is on") -> Choice:
    """The model from LAB_MODEL, the cache and the Hub's answer; the stand-in only for the default."""
    name = _model_name()
    place = _place_of_model(name)
    if place.where or place.why_not:
        return _settled("LAB_MODEL", name, place)
    problem = token_problem()
    if answer == NOT_ASKED and problem:
        return _settled("LAB_MODEL", name, Place("", f"HF_TOKEN cannot be sent: {problem}"), TOKEN_ACTION)
    if answer == 401 and has_token():
        return _settled("LAB_MODEL", name, Place("", "HF_TOKEN is refused: 401 Unauthorized"), TOKEN_ACTION)
    if isinstance(answer, int) and answer < 400:
        return _settled("LAB_MODEL", name, Place("can be downloaded"))
    return _settled("LAB_MODEL", name, Place("", in_words(answer)))


def _model_name() -> str:
    asked = os.environ.get("LAB_MODEL")
    if asked:
        return asked
    short = REAL_MODEL.split("/")[1]
    attached = _attached(f"*{short}*/config.json", f"*{short}*/*/config.json")
    return str(attached.parent) if attached else REAL_MODEL


def _place_of_model(name: str) -> Place:
    """Where a model is to be had without the network; both empty where only the Hub may have it."""
    if name in STAND_INS:
        return Place("a stand-in that ships with the lab")
    if _is_path(name):
        path = _expanded(name)
        is_gguf = path.suffix == ".gguf"
        needed = path if is_gguf else path / "config.json"
        if exists(needed) and needed.is_file():
            return Place("local files")
        return Place("", "no such folder or file, or no model in it")
    if not _is_hub_id(name):
        return Place("", "no name that the Hub takes: owner/name, of at most 96 characters")
    if _is_cached(name):
        return Place("in the local cache")
    return Place("")


def _has_to_come_from_the_hub(name: str) -> bool:
    place = _place_of_model(name)
    return not place.where and not place.why_not


def _is_path(name: str) -> bool:
    """A file or folder that is there, or a name that no Hub id looks like."""
    looks_like_one = name.startswith(("/", ".", "~")) or "\\" in name or name[1:2] == ":"
    return looks_like_one or name.endswith(".gguf") or exists(_expanded(name))


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~nobody
        return Path(name)


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _is_cached(name: str) -> bool:
    """Configuration and all weights: a download that was cut off in between is no model."""
    if _cached_file(name, "config.json") is None:
        return False
    if _cached_file(name, "model.safetensors"):
        return True
    index = _cached_file(name, "model.safetensors.index.json")
    if index is None:
        return False
    try:
        shards = set(read_json(index)["weight_map"].values())
    except (LabError, KeyError, TypeError, AttributeError):  # not what an index is
        return False
    return all(_cached_file(name, shard) for shard in shards)


def _cached_file(name: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    return Path(found) if isinstance(found, str) else None


def token_problems(hub: Hub, model: str) -> Iterator[Problem]:
    """A token that keeps a model of the Hub from being loaded, though it is in the cache."""
    if not hub.reachable or _is_path(model) or model in STAND_INS:
        return
    found = token_problem()
    if found:
        yield Problem(f"HF_TOKEN cannot be sent: {found}", TOKEN_ACTION)


# --- the corpus -------------------------------------------------------------------------------------------------------


def choose_corpus(answer: Answer = "offline mode is on") -> Choice:
    """The corpus from LAB_CORPUS, the cache and the code host's answer; the stand-in only for the default."""
    name = _corpus_name()
    place = _place_of_corpus(name)
    if place.where or place.why_not:
        return _settled("LAB_CORPUS", name, place)
    is_there = isinstance(answer, int) and (answer < 400 or answer == 429)  # 429: later
    if is_there:
        return _settled("LAB_CORPUS", name, Place("can be downloaded"))
    return _settled("LAB_CORPUS", name, Place("", in_words(answer)))


def _corpus_name() -> str:
    asked = os.environ.get("LAB_CORPUS")
    if asked:
        return asked
    attached = _attached("test/dialogues_001.json")
    return str(attached.parents[1]) if attached else REAL_CORPUS


def _place_of_corpus(name: str) -> Place:
    """Where a corpus is to be had without the network; both empty where only the code host may have it."""
    if name == STAND_IN_CORPUS:
        return Place("a stand-in that is generated, not downloaded")
    if name != REAL_CORPUS:
        if has_dialogues(name):
            return Place("local files")
        return Place("", "no such folder, or no dialogues in it")
    if exists(cache_dir() / name / "COMPLETE"):
        return Place("in the local cache")
    return Place("")


# --- both -------------------------------------------------------------------------------------------------------------


def _attached(*patterns: str) -> Path | None:
    """The first such file among those attached to this session: Kaggle's inputs, or below the folder LAB_ATTACHED."""
    files = Path(os.environ.get("LAB_ATTACHED") or "/kaggle/input")
    if not exists(files):
        return None
    for depth in range(DEPTH):  # not "**": inputs can be huge
        for pattern in patterns:
            found = sorted(files.glob("*/" * depth + pattern))
            if found:
                return found[0]
    return None


def _settled(variable: str, name: str, place: Place, action: str = "") -> Choice:
    """The name that was asked for, where it is to be had; else a problem, or the stand-in where nobody asked."""
    is_asked = bool(os.environ.get(variable))
    if place.where:
        why = f"asked for by {variable}" if is_asked else "the default"
        return Choice(name, f"{why}; {place.where}", [])
    shown = hidden(shortened(name))
    why = f"not to be had ({place.why_not})"
    if not is_asked:
        return Choice(STAND_IN[variable], f"stand-in for {shown}, which is {why}", [])
    problem = Problem(f"{variable}={shown} is {why}", action or f"set {variable} to {OTHERS[variable]}; or unset it")
    return Choice(shown, problem.what, [problem])


def choose_scorer(corpus: str) -> tuple[str, str]:
    """(scorer, reason)."""
    if corpus == STAND_IN_CORPUS:
        return "labkit", "mwzeval knows MultiWOZ only"
    if importlib.util.find_spec("mwzeval"):
        return "mwzeval", "the benchmark's own scorer is installed"
    return "labkit", "mwzeval is not installed; labkit's figures agree with it"
