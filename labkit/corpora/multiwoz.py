"""A corpus in the raw MultiWOZ 2.2 layout, from a folder or from memory.

A folder holds train/dialogues_*.json, dev/…, test/…, or one train.json, dev.json, test.json; beside them, optional:
dialog_acts, goals, booked_domains, schema (.json) and db/{domain}_db.json. All may be gzipped (.json.gz).
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from labkit.corpora import scoring_data
from labkit.corpora.checks import brief, member, members, typed
from labkit.corpora.dialogues import SPEAKERS, Raw, parse_dialogue
from labkit.corpora.types import Booked, Corpus, Dialogue, Entity, dialogue_key
from labkit.errors import LabError
from labkit.storage import gc_paused, read_json

__all__ = [
    "SPEAKERS",
    "SPLITS",
    "LazySplits",
    "from_raw",
    "has_dialogues",
    "is_corpus_file",
    "parse_dialogue",
    "read_file",
    "read_folder",
]
SPLITS = ("train", "dev", "test")
PATTERNS = ("{}/dialogues_*.json", "{}/dialogues_*.json.gz", "{}.json", "{}.json.gz")


def read_folder(folder: Path | str, name: str = "", source: str = "") -> Corpus:
    """A corpus folder; each split is read when it is first used.

    Raises:
        LabError: the folder holds no split, or (then or on first use) a file does not parse or a field is wrong.
    """
    folder = Path(folder).resolve()
    files = split_files(folder)
    if not files:
        patterns = [pattern.format("{train,dev,test}") for pattern in PATTERNS]
        looked = ", ".join(patterns)
        action = "give the folder that holds these files"
        raise LabError(f"no dialogues in the folder {folder}", f"looked for {looked}", action)
    database = _read_database(folder)
    raw_goals, goals_file = _read_optional(folder, "goals", {})
    raw_booked, booked_file = _read_optional(folder, "booked_domains", {})
    raw_schema, schema_file = _read_optional(folder, "schema", [])
    goals = scoring_data.goals(raw_goals, goals_file)
    booked = scoring_data.booked_domains(raw_booked, booked_file)
    return Corpus(
        name=name or folder.name,
        splits=LazySplits(folder, files, booked),
        source=source or f"folder {folder.name}",
        goals=goals if database else {},  # goals are met by entities: without a database they cannot be scored
        booked=booked,
        database=database,
        schema=scoring_data.schema(raw_schema, schema_file),
        folder=folder,
    )


def from_raw(raw: Raw, name: str, source: str, stand_in: bool = False) -> Corpus:
    """A corpus in memory: {"splits": {split: [raw dialogue]}, "dialog_acts", "goals", "booked_domains", "database"}.

    Raises:
        LabError: a field is missing or of a wrong type, or two dialogues have one id.
    """
    acts = raw.get("dialog_acts", {})
    members(acts, f"{name} dialog_acts", "the content")
    raw_booked = raw.get("booked_domains", {})
    booked = scoring_data.booked_domains(raw_booked, f"{name} booked_domains")
    seen: dict[str, str] = {}
    splits: dict[str, list[Dialogue]] = {}
    for split, items in raw["splits"].items():
        file = f"{name} {split}"
        dialogues = _parse_all(items, acts, file, booked)
        _add_keys(dialogues, file, seen)
        splits[split] = dialogues
    database = {}
    for domain, rows in raw.get("database", {}).items():
        file = f"{name} {domain}_db"
        database[domain] = scoring_data.entities(rows, domain, file)
    raw_goals = raw.get("goals", {})
    goals = scoring_data.goals(raw_goals, f"{name} goals")
    schema = raw.get("schema", [])
    return Corpus(
        name=name,
        splits=splits,
        source=source,
        stand_in=stand_in,
        goals=goals if database else {},
        booked=booked,
        database=database,
        schema=scoring_data.schema(schema, f"{name} schema"),
    )


def is_corpus_file(path: Path | str) -> bool:
    """Whether there is such a .json file (`~` is the home folder); it is not read."""
    with suppress(OSError, RuntimeError, ValueError):  # a name that is too long, no home folder, a NUL character
        path = Path(path).expanduser()
        return path.suffix == ".json" and path.is_file()
    return False


def read_file(path: Path | str) -> Corpus:
    """A corpus in one file, as `from_raw` takes it: what `labkit converse --json` writes.

    Raises:
        LabError: it does not parse, or is no corpus.
    """
    path = Path(path).expanduser()
    raw = read_json(path)
    is_corpus = isinstance(raw, dict) and isinstance(raw.get("splits"), dict)
    if not is_corpus:
        action = "give a file that labkit converse --json wrote, or a folder in the raw MultiWOZ 2.2 layout"
        raise LabError(f"{path} is no corpus", "it has no 'splits'", action)
    name = raw.get("name")
    source = raw.get("source")
    with gc_paused():
        return from_raw(
            raw,
            name if isinstance(name, str) else path.stem,
            source if isinstance(source, str) else f"file {path.name}",
            stand_in=raw.get("stand_in") is True,
        )


def has_dialogues(folder: Path | str) -> bool:
    """Whether there is such a folder (`~` is the home folder) with files in MultiWOZ's layout; they are not read."""
    with suppress(OSError, RuntimeError, ValueError):  # a name that is too long, no home folder, a NUL character
        return bool(split_files(Path(folder).expanduser()))
    return False


def split_files(folder: Path) -> dict[str, list[Path]]:
    """{split: its files}, without the splits that the folder does not have."""
    files = {}
    for split in SPLITS:
        found = _files(folder, split)
        if found:
            files[split] = found
    return files


class LazySplits(Mapping[str, list[Dialogue]]):
    """{split: dialogues} of a folder, each split read when it is first used: train takes eight times as long as test.

    No two dialogues have one id, since goals and predictions are kept by it. Of two splits, the larger one is refused
    (train before dev before test), whichever is read first.
    """

    def __init__(self, folder: Path, files: dict[str, list[Path]], booked: Booked):
        self._folder = folder
        self._files = files
        self._booked = booked
        self._read: dict[str, list[Dialogue]] = {}
        self._keys: dict[str, dict[str, str]] = {}  # {split that was read: {Dialogue.key: file}}

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, split: object) -> bool:
        return split in self._files  # Mapping's own would read the split

    def __getitem__(self, split: str) -> list[Dialogue]:
        if split not in self._read:
            self._read[split] = self._read_split(split)  # only when all of it is right: a mended file is read again
        return self._read[split]

    @cached_property
    def _acts(self) -> Raw:
        acts, file = _read_optional(self._folder, "dialog_acts", {})
        return members(acts, f"file {file}", "the content")

    def _read_split(self, split: str) -> list[Dialogue]:
        seen: dict[str, str] = {}
        number = SPLITS.index(split)
        for other in SPLITS[number + 1 :]:  # the smaller ones
            seen.update(self._keys_in(other))
        others = len(seen)
        dialogues: list[Dialogue] = []
        with gc_paused():
            for path in self._files[split]:
                found = self._read_file(path)
                _add_keys(found, str(path), seen)
                dialogues += found
        own = list(seen.items())[others:]
        self._keys[split] = dict(own)
        return dialogues

    def _read_file(self, path: Path) -> list[Dialogue]:
        """The file's dialogues. Its JSON is gone when this returns: garbage collection would look at all of it."""
        items = read_json(path)
        return _parse_all(items, self._acts, str(path), self._booked)

    def _keys_in(self, split: str) -> dict[str, str]:
        """{Dialogue.key: file} of a split, without parsing it if it has not been read."""
        if split in self._keys:
            return self._keys[split]
        keys: dict[str, str] = {}
        for path in self._files.get(split, []):
            keys.update(_keys_of(path))
        return keys


def _keys_of(path: Path) -> dict[str, str]:
    """{Dialogue.key: file} of a file; what is wrong in it is said when its own split is read."""
    keys: dict[str, str] = {}
    with gc_paused():
        for dialogue_id in _ids_of(path):
            keys[dialogue_key(dialogue_id)] = str(path)
    return keys


def _ids_of(path: Path) -> list[str]:
    ids: list[str] = []
    with suppress(LabError):
        for raw in typed(read_json(path), list, "", ""):
            ids.append(member(raw, "dialogue_id", str, ""))
    return ids


def _parse_all(items: object, acts: Raw, file: str, booked: Booked) -> list[Dialogue]:
    dialogues = []
    typed(items, list, f"file {file}", "the content")
    for index, raw in enumerate(items):
        place = f"file {file}, dialogue number {index}"
        dialogue_id = member(raw, "dialogue_id", str, place)
        entry = None
        if dialogue_id in acts:
            name = brief(dialogue_id)
            place = f"file {file}, dialogue {name}"
            entry = typed(acts[dialogue_id], dict, place, "its dialog_acts entry")
        dialogue = parse_dialogue(raw, entry, file)
        scoring_data.check_booked(dialogue, booked)
        dialogues.append(dialogue)
    return dialogues


def _add_keys(dialogues: list[Dialogue], file: str, seen: dict[str, str]) -> None:
    """Put the dialogues' keys into `seen`, {Dialogue.key: file}.

    Raises:
        LabError: one is there already.
    """
    for dialogue in dialogues:
        if dialogue.key in seen:
            name = brief(dialogue.dialogue_id)
            other = seen[dialogue.key]
            found = f"the same id is also in {other}"
            raise LabError(f"file {file}, dialogue {name}", found, "keep one of the two")
        seen[dialogue.key] = file


def _files(folder: Path, stem: str) -> list[Path]:
    """The files of the first pattern that has any."""
    for pattern in PATTERNS:
        name = pattern.format(stem)
        found = sorted(folder.glob(name))
        if found:
            return found
    return []


def _read_optional(folder: Path, stem: str, default: Raw | list[Raw]) -> tuple[Raw, str]:
    """The content of a file that need not be there, and its path."""
    paths = _files(folder, stem)
    if not paths:
        return default, ""
    file = str(paths[0])
    content = read_json(file)
    typed(content, type(default), f"file {file}", "the content")
    return content, file


def _read_database(folder: Path) -> dict[str, list[Entity]]:
    """{domain: entities}."""
    database = {}
    for path in sorted(folder.glob("db/*_db.json*")):
        if path.name.endswith((".json", ".json.gz")):
            domain, _, _ = path.name.partition("_db.")
            rows = read_json(path)
            database[domain] = scoring_data.entities(rows, domain, str(path))
    return database
