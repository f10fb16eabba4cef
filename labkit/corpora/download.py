"""MultiWOZ 2.2 as a download: pinned by commit, verified by git blob id, tried again while the host is busy."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import httpx
from filelock import FileLock
from tqdm.auto import tqdm

from labkit.environment import cache_dir, multiwoz_url
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.storage import atomic_path, read_json, shipped, write_text

T = TypeVar("T")
ATTEMPTS = 4
BACKOFF = 0.5  # seconds before the second try, doubled before each further one
TIMEOUT = 15.0  # seconds of silence
PATIENCE = 60.0  # the longest wait, in seconds, that a busy server (Retry-After) is granted
LARGEST = 128 * 2**20  # bytes of a file whose pin names no size; MultiWOZ's files have some tens of MB at most
ACTION = (
    "try again (files that came stay), or set LAB_CORPUS to miniwoz, the stand-in, or to a folder with MultiWOZ 2.2"
)
PINS_ACTION = (
    'write {"test/dialogues_001.json": {"repository", "commit", "path", "blob"}, …}, or unset LAB_MULTIWOZ_PINS'
)
PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")


class Pin(TypedDict):
    """What a file has to be: `path` in a repository at a commit, its git blob id, and its size in bytes if known."""

    repository: str
    commit: str
    path: str
    blob: str
    size: NotRequired[int]


class FailedAttempt(Exception):
    """One try that failed: why, whether another may do better, and for how many seconds the server asked."""

    def __init__(self, problem: str, again: bool, wait: float = 0.0):
        super().__init__(problem)
        self.problem = problem
        self.again = again
        self.wait = wait


def pins() -> dict[str, Pin]:
    """{place in the corpus folder: what is to be there}; mwzeval's database, for scoring.

    LAB_MULTIWOZ_PINS names another such file, for a mirror (LAB_MULTIWOZ_URL) that holds another version.

    Raises:
        LabError: that file does not hold such pins, or a place is outside the corpus folder.
    """
    file = os.environ.get("LAB_MULTIWOZ_PINS")
    if not file:
        return shipped(__file__, "pins.json")
    raw = read_json(file)
    return checked_pins(raw, file)


def checked_pins(raw: Any, file: str) -> dict[str, Pin]:  # Any: whatever JSON holds
    """The pins of a file, each with its fields and with a place below the corpus folder.

    Raises:
        LabError: they are not.
    """
    source = f"LAB_MULTIWOZ_PINS, file {file}"
    if not isinstance(raw, dict) or not raw:
        found = f"it holds {raw!r:.80}, not places and their pins"
        raise LabError(source, found, PINS_ACTION)
    for place, pin in raw.items():
        if not _is_below(place):
            found = f"the place {place!r:.120} is not a path below the corpus folder"
            raise LabError(source, found, PINS_ACTION)
        _check_pin(pin, f"{source}, {place}")
    return raw


def _check_pin(pin: Any, where: str) -> None:  # Any: whatever JSON holds
    if not isinstance(pin, dict):
        kind = type(pin).__name__
        raise LabError(where, f"the pin is of type {kind}, not dict", PINS_ACTION)
    for name in ("repository", "commit", "path", "blob"):
        value = pin.get(name)
        is_text = isinstance(value, str) and value.isprintable()
        if not is_text or not value:
            found = f"the field {name!r} is {value!r:.80}, no text"
            raise LabError(where, found, PINS_ACTION)
    size = pin.get("size", 0)
    if not isinstance(size, int):
        found = f"the field 'size' is {size!r:.80}, no number of bytes"
        raise LabError(where, found, PINS_ACTION)


def _is_below(place: str) -> bool:
    """A relative path of plain names, on every system: no `..`, no drive, nothing absolute."""
    if not place.isprintable():
        return False
    for part in place.split("/"):
        if part in ("", ".", ".."):
            return False
        if "\\" in part or ":" in part:  # Windows' separator and drives
            return False
    return True


def pinned_source() -> str:
    """Repositories and commits, for the results board and the marker COMPLETE."""
    sources = set()
    for pin in pins().values():
        repository = pin["repository"]
        commit = pin["commit"][:7]
        sources.add(f"{repository}@{commit}")
    return " + ".join(sorted(sources))


def cached_multiwoz22(cache: Path | str | None = None) -> Path | None:
    """The folder of an earlier, complete download of these commits, else None; contents are not verified again."""
    folder = _folder(cache)
    marker = folder / "COMPLETE"
    if not marker.is_file():
        return None
    source = marker.read_text(encoding="utf-8", errors="replace")
    if source.strip() != pinned_source():
        return None
    is_whole = all((folder / place).is_file() for place in pins())
    return folder if is_whole else None


def fetch_multiwoz22(cache: Path | str | None = None) -> Path:
    """Download what is missing into `cache`/multiwoz22, verify every file, and write the marker COMPLETE last.

    Raises:
        LabError: no network, a refusal, a file that is not what was pinned, or a full disk. Verified files stay.
    """
    folder = _folder(cache)
    wanted = pins()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), _client() as client:
            progress = tqdm(wanted.items(), desc="MultiWOZ 2.2", unit="file")
            for place, pin in progress:
                target = folder / place
                if not _is_right(target, pin["blob"]):
                    content = _fetch(client, pin)
                    _write(target, content)
            write_text(folder / "COMPLETE", pinned_source() + "\n")
    except OSError as error:
        action = "free space, or set LAB_CACHE to another folder"
        raise LabError(f"cannot write {folder}", str(error), action) from error
    return folder


def git_blob_id(path: Path) -> str:
    """What `git hash-object` prints for a file."""
    return _blob_id(path.read_bytes())


def _is_right(path: Path, blob: str) -> bool:
    return path.is_file() and git_blob_id(path) == blob.lower()


def _blob_id(content: bytes) -> str:
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content).hexdigest()


def _folder(cache: Path | str | None) -> Path:
    return Path(cache or cache_dir()) / "multiwoz22"


def _write(target: Path, content: bytes) -> None:
    """The file, whole or not at all. Nothing that is there is followed: a link is replaced, its target stays."""
    try:
        with atomic_path(target) as partial:
            partial.write_bytes(content)
    except LabError as error:  # it names LAB_HOME; this is the cache
        raise OSError(error.found) from error


def _client() -> httpx.Client:
    """An HTTP client that goes through the proxies of this machine's settings.

    Raises:
        LabError: such a proxy cannot be used.
    """
    try:
        return httpx.Client(timeout=TIMEOUT, follow_redirects=True)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        why = hidden(str(error))
        if isinstance(error, ImportError):
            why = "for a SOCKS proxy the package socksio is needed"
        action = "pip install socksio, or set these variables to an http:// proxy, or unset them"
        found = f"{_proxies()}: {why}"
        raise LabError("the proxy of this machine cannot be used", found, action) from error


def _proxies() -> str:
    """The variables that name a proxy, without passwords."""
    named = []
    for name in PROXIES:
        for spelled in (name, name.lower()):
            if os.environ.get(spelled):
                address = hidden(os.environ[spelled])
                named.append(f"{spelled}={address}")
    return ", ".join(named) or "the system settings"


def _fetch(client: httpx.Client, pin: Pin) -> bytes:
    """The content of one file, verified.

    Raises:
        LabError: it does not come, or it is not what was pinned.
    """
    address = _address(pin)
    try:
        return retrying(lambda: _attempt(client, address, pin))
    except FailedAttempt as failure:
        what = hidden(f"cannot download {address}")
        found = hidden(failure.problem)
        raise LabError(what, found, ACTION) from failure


def _address(pin: Pin) -> str:
    """The file's address at the code host, or at the mirror that LAB_MULTIWOZ_URL names.

    Raises:
        LabError: LAB_MULTIWOZ_URL is no address.
    """
    host = multiwoz_url()
    try:
        parsed = httpx.URL(host)
        is_web = parsed.scheme in ("http", "https")
        is_port = parsed.port is None or 0 < parsed.port < 2**16
        usable = is_web and is_port and bool(parsed.host)
        why = "it has to be http(s)://host, with a port of at most 65535 if any"
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: half an emoji
        usable = False
        why = hidden(str(error))
    if not usable:
        action = "set LAB_MULTIWOZ_URL to the address of a mirror, or unset it"
        shown = hidden(host)
        raise LabError(f"LAB_MULTIWOZ_URL={shown!r} is no address", why, action)
    parts = [host, pin["repository"], pin["commit"], pin["path"]]
    return "/".join(parts)


def retrying(attempt: Callable[[], T]) -> T:
    """What `attempt` returns; where it fails and another try may help, it is tried again after a growing wait.

    Raises:
        FailedAttempt: the last try's, of ATTEMPTS at most.
    """
    for number in range(ATTEMPTS):
        try:
            return attempt()
        except FailedAttempt as failure:
            if not failure.again or number == ATTEMPTS - 1:
                raise
            own_wait = BACKOFF * 2**number
            time.sleep(max(own_wait, failure.wait))
    raise AssertionError("ATTEMPTS is at least 1")


def _attempt(client: httpx.Client, address: str, pin: Pin) -> bytes:
    """One try to get a file.

    Raises:
        FailedAttempt: no connection, a refusal, or not the pinned content.
    """
    largest = pin.get("size", LARGEST)
    try:
        content, kind = _download(client, address, largest)
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        is_busy = status == 429 or status >= 500
        wait = asked_wait(error.response)
        raise FailedAttempt(f"the server answers {status}", is_busy, wait) from error
    except httpx.TooManyRedirects as error:
        problem = "it is redirected without end, as by a network that wants you to log in first"
        raise FailedAttempt(problem, again=False) from error
    except httpx.TimeoutException as error:
        problem = f"no connection, or it was cut (timed out: nothing came for {TIMEOUT:g} s)"
        raise FailedAttempt(problem, again=True) from error
    except httpx.UnsupportedProtocol as error:
        raise FailedAttempt(f"it is redirected to what is no web address ({error})", again=False) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FailedAttempt(f"no connection, or it was cut ({error})", again=True) from error
    if _blob_id(content) == pin["blob"].lower():
        return content
    begins_as_page = content.lstrip().startswith(b"<")
    if begins_as_page or "html" in kind:
        problem = (
            "a web page came instead: not what was pinned, but what a network sends that wants you to log in first"
        )
        raise FailedAttempt(problem, again=False)
    problem = "it is not what was pinned (another git blob id), so it was thrown away"
    raise FailedAttempt(problem, again=False)


def _download(client: httpx.Client, address: str, largest: int) -> tuple[bytes, str]:
    """The content of an address, and its Content-Type.

    Raises:
        FailedAttempt: it is larger than `largest` bytes; the rest is not fetched.
        httpx.HTTPError: no connection, or an answer that is no success.
    """
    content = bytearray()
    with client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as response:
        response.raise_for_status()
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal():
            _check_size(int(announced), largest)
        for chunk in response.iter_bytes():
            content += chunk
            _check_size(len(content), largest)
    kind = response.headers.get("Content-Type", "")
    return bytes(content), kind


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        problem = f"it is larger than the {largest:,} bytes that are expected at most, so it was not taken"
        raise FailedAttempt(problem, again=False)


def asked_wait(response: httpx.Response) -> float:
    """The seconds of Retry-After, PATIENCE at most; 0 without one, or where it is a date."""
    asked = response.headers.get("Retry-After", "")
    if not asked.isdecimal():
        return 0.0
    return min(float(asked), PATIENCE)
