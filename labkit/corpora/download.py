"""MultiWOZ 2.2 as a download: pinned by commit, verified by git blob id, tried again while the host is busy."""

import hashlib
import os
from pathlib import Path

import httpx
from filelock import FileLock

from labkit.bars import progress_bar
from labkit.corpora.pins import Pin, pinned_source, pins
from labkit.errors import LabError
from labkit.failures import hidden
from labkit.machine.network import proxies
from labkit.machine.one_line import shortened
from labkit.machine.paths import cache_dir
from labkit.machine.retry import asked_wait, is_busy, retrying
from labkit.storage import atomic_path

TIMEOUT = 15.0  # seconds of silence
LARGEST = 128 * 2**20  # bytes of a file whose pin names no size; MultiWOZ's files have some tens of MB at most
LONGEST_ADDRESS = 300  # characters that a message repeats
ACTION = (
    "try again (files that came stay), or set LAB_CORPUS to miniwoz, the stand-in, or to a folder with MultiWOZ 2.2"
)


class FailedAttempt(Exception):
    """One try that failed: why, whether another may do better, and for how many seconds the server asked."""

    def __init__(self, problem: str, again: bool, wait: float = 0.0):
        super().__init__(problem)
        self.problem = problem
        self.again = again
        self.wait = wait


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
            progress = progress_bar(wanted.items(), desc="MultiWOZ 2.2", unit="file")
            for place, pin in progress:
                target = folder / place
                if not _is_right(target, pin["blob"]):
                    content = _fetch(client, pin)
                    _write(target, content)
            marker = f"{pinned_source()}\n"
            _write(folder / "COMPLETE", marker.encode())
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
        if target.is_symlink():
            target.unlink()
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
        found = f"{proxies()}: {why}"
        raise LabError("the proxy of this machine cannot be used", found, action) from error


def _fetch(client: httpx.Client, pin: Pin) -> bytes:
    """The content of one file, verified.

    Raises:
        LabError: it does not come, or it is not what was pinned.
    """
    address = address_of(pin)
    try:
        return retrying(lambda: _attempt(client, address, pin), _wait_after)
    except FailedAttempt as failure:
        what = f"cannot download {shortened(hidden(address), LONGEST_ADDRESS)}"
        found = hidden(failure.problem)
        raise LabError(what, found, ACTION) from failure


def address_of(pin: Pin) -> str:
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


def _wait_after(error: Exception) -> float | None:
    if isinstance(error, FailedAttempt) and error.again:
        return error.wait
    return None


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
        wait = asked_wait(error.response.headers.get("Retry-After"))
        raise FailedAttempt(f"the server answers {status}", is_busy(status), wait) from error
    except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
        raise FailedAttempt(_astray(error), again=False) from error
    except httpx.TimeoutException as error:
        problem = f"no connection, or it was cut (timed out: nothing came for {TIMEOUT:g} s)"
        raise FailedAttempt(problem, again=True) from error
    except UnicodeError as error:  # a part of the host's name that is empty or longer than 63 letters
        raise FailedAttempt(f"no host can have this name ({error})", again=False) from error
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


def _astray(error: httpx.HTTPError) -> str:
    """Why a redirection leads nowhere."""
    if isinstance(error, httpx.TooManyRedirects):
        return "it is redirected without end, as by a network that wants you to log in first"
    return f"it is redirected to what is no web address ({error})"


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


def multiwoz_url() -> str:
    """The code host that MultiWOZ 2.2 is downloaded from; LAB_MULTIWOZ_URL names a mirror."""
    return (os.environ.get("LAB_MULTIWOZ_URL") or "https://raw.githubusercontent.com").rstrip("/")
