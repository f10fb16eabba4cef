"""Where a model's name leads: a stand-in that ships with the lab, a folder, a GGUF file or the Hub."""

import difflib
import hashlib
import time
from pathlib import Path

from labkit.compat import forget_gguf
from labkit.errors import LabError
from labkit.machine.network import hub_status, hub_token
from labkit.machine.one_line import first_line
from labkit.machine.paths import cache_dir
from labkit.machine.quiet import quiet
from labkit.machine.retry import asked_wait, is_busy, retrying
from labkit.models.gguf_header import Malformed, check_header
from labkit.models.names import STAND_IN_MODEL, STAND_IN_SIZES, STAND_INS
from labkit.models.unreadable import NAMES, clear_errors
from labkit.storage import atomic_folder

WEIGHTS = Path(__file__).parent / "weights"
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # no Python, no pickles
NEEDED = {  # what a model folder must hold: patterns of which one is enough
    "config.json": ("config.json",),
    "model.safetensors": ("*.safetensors", "*.safetensors.index.json"),
    "tokenizer.json": ("tokenizer.json", "tokenizer.model", "vocab.json"),
}
LONGEST_NAME = 255  # bytes; no file system and no Hub id has more in one part
SHA256_DIGITS = 64


def find_model(name: str) -> tuple[Path, bool]:
    """(folder with the weights, whether it is a stand-in); downloads or converts where that is needed.

    Raises:
        LabError: the name is neither a stand-in, a model folder, a GGUF file nor on a Hub that can be reached.
    """
    if name in STAND_INS:
        shipped = STAND_IN_SIZES[-1] if name == STAND_IN_MODEL else name
        return _complete(WEIGHTS / shipped), True
    path = _local(name)
    if path is not None and path.is_dir():
        return _complete(path), False
    if path is not None:
        return _converted(path), False
    return _downloaded(name), False


def check_name(name: str, kind: str, action: str) -> None:
    """Raises:
    LabError: no folder and no repository can have this name.
    """
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in name.split("/"))
    if not name or "\0" in name or longest > LONGEST_NAME:
        raise LabError(f"no {kind} {name[:40]!r}", f"a name of {len(name)} characters", action)


def _local(name: str) -> Path | None:
    """The folder or GGUF file that a name means, or None where it means a repository of the Hub."""
    check_name(name, "model", NAMES)
    path = Path(name).expanduser()
    if path.is_dir():
        files = list(path.glob("*.gguf"))
        if len(files) == 1 and not (path / "config.json").exists():
            return files[0]
        return path
    if path.suffix == ".gguf":
        return path
    if _looks_like_a_path(name):
        raise LabError(f"no model {name!r}", "there is no such folder", NAMES)
    return None


def _looks_like_a_path(name: str) -> bool:
    """Hub ids are `name` or `owner/name`; on Windows a path has backslashes or begins with a drive, `C:`."""
    return name.count("/") > 1 or name.startswith((".", "~", "/")) or "\\" in name or name[1:2] == ":"


def _complete(folder: Path) -> Path:
    """The folder, if a model is in it."""
    has_config = (folder / "config.json").is_file()
    if (folder / "adapter_config.json").is_file() and not has_config:
        action = f"load_model(its base model, adapter={str(folder)!r})"
        raise LabError(f"{folder} is an adapter, not a model", "", action)
    missing = []
    for name, patterns in NEEDED.items():
        if not any(list(folder.glob(pattern)) for pattern in patterns):
            missing.append(name)
    if missing:
        raise LabError(f"{folder} is no model folder", f"missing {', '.join(missing)}", NAMES)
    return folder


# --- the Hub ----------------------------------------------------------------------------------------------------------


def _downloaded(name: str) -> Path:
    """The local snapshot of a Hub repository: top-level safetensors, configuration and tokenizer."""
    started = time.time()
    folder = _from_hub(name, MODEL_FILES)
    _verify(folder, started)
    return _complete(folder)


def download_adapter(name: str, files: tuple[str, ...]) -> Path:
    """The local snapshot of an adapter's repository on the Hub.

    Raises:
        LabError: there is none of that name, or no Hub.
    """
    if _looks_like_a_path(name):
        raise LabError(f"no adapter {name[:80]!r}", "there is no such folder", "give the output of finetune")
    started = time.time()
    folder = _from_hub(name, files)
    _verify(folder, started)
    return folder


def _from_hub(name: str, files: tuple[str, ...]) -> Path:
    """The snapshot of a repository, from the cache where there is no Hub."""
    from huggingface_hub import errors

    hub = hub_status()  # before anything waits a minute for a Hub that is not there
    try:
        return _snapshot(name, files, local_files_only=not hub.reachable)
    except errors.GatedRepoError as error:
        raise LabError(f"{name} is gated", "", "accept its terms on its Hub page, then set HF_TOKEN") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        if _is_bad_token(error):
            raise _token_refused(name) from error
        raise LabError(f"no model {name!r}", f"the Hub has none of that name{_nearest(name)}", NAMES) from error
    except Exception as error:  # httpx's or httpx2's, by the client's version; its threads close each other's session
        if not hub.reachable:
            found = f"not a stand-in, not cached, and no Hub: {hub.reason}{_nearest(name)}"
            raise LabError(f"cannot load model {name!r}", found, f"connect to the network, or {NAMES}") from error
        if _is_bad_token(error.__cause__ or error):
            raise _token_refused(name) from error
        action = "try again: files that came whole are kept"  # the client forgets a part of one between two runs
        raise LabError(f"download of {name} failed", first_line(error.__cause__ or error), action) from error


def _token_refused(name: str) -> LabError:
    action = "mend or unset HF_TOKEN (or log in again)"
    return LabError(f"cannot load model {name!r}", "the Hub refuses your token (401)", action)


def _is_bad_token(error: Exception) -> bool:
    """The Hub answers 401 to a token that it does not know, and to a missing one where the name is unknown."""
    response = getattr(error, "response", None)
    return response is not None and response.status_code == 401 and hub_token() is not None


def _snapshot(name: str, files: tuple[str, ...], local_files_only: bool) -> Path:
    """snapshot_download, tried again while the Hub is busy: the client itself does so for some requests only."""
    from huggingface_hub import snapshot_download

    def attempt() -> Path:
        folder = snapshot_download(
            name,
            allow_patterns=list(files),
            ignore_patterns=["*/*", "consolidated*"],
            local_files_only=local_files_only,
        )
        return Path(folder)

    return retrying(attempt, _wait_after)


def _wait_after(error: Exception) -> float | None:
    response = getattr(error.__cause__ or error, "response", None)
    if not isinstance(error, OSError) or response is None or not is_busy(response.status_code):
        return None
    return asked_wait(response.headers.get("Retry-After"))


def _verify(folder: Path, since: float) -> None:
    """Throw away weights that came after `since` (seconds) and are not what was sent; the client compares sizes only.

    The cache names a large file by the SHA-256 that the Hub announced.

    Raises:
        LabError: a file was broken on its way; the next download fetches it, and no other, again.
    """
    for path in folder.iterdir():
        blob = path.resolve()
        if len(blob.name) != SHA256_DIGITS or blob.stat().st_mtime < since:
            continue
        with blob.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != blob.name:
            blob.unlink()
            path.unlink()
            raise LabError(f"{path.name} was damaged on its way", "its SHA-256 is another; thrown away", "try again")


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.split("/")[-1], STAND_INS, n=2, cutoff=0.5)
    if not near:
        return ""
    return f"; did you mean {' or '.join(near)}?"


# --- GGUF -------------------------------------------------------------------------------------------------------------


def _converted(path: Path) -> Path:
    """A GGUF file as a safetensors folder in the cache; reading GGUF takes half a minute, so it is done once."""
    if not path.is_file():
        raise LabError(f"no file {path}", "", NAMES)
    stat = path.stat()
    identity = f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}"
    mark = hashlib.sha256(identity.encode()).hexdigest()[:12]
    folder = cache_dir() / "gguf" / f"{path.stem}-{mark}"
    if folder.is_dir():
        return folder
    try:
        check_header(path)
    except Malformed as error:
        raise LabError(f"cannot load model {str(path)!r}", f"no whole GGUF file: {error}", NAMES) from error
    with quiet(), clear_errors(str(path), path), atomic_folder(folder) as partial:
        _convert(path, partial)
    return folder


def _convert(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"gguf_file": path.name, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
    turn_end = "<|im_end|>"
    if tokenizer.eos_token == tokenizer.bos_token and turn_end in (tokenizer.chat_template or ""):
        tokenizer.eos_token = turn_end  # the reader takes the id that begins a turn for the one that ends it
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **where)
    forget_gguf(model)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
