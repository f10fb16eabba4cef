"""MultiWOZ 2.2 as a download: pinned by commit, verified by git blob id, resumed where it was cut."""

import hashlib
import os
import time
from pathlib import Path

import httpx
from filelock import FileLock
from tqdm.auto import tqdm

from labkit.errors import LabError
from labkit.machine.paths import cache_dir
from labkit.storage import read_json, shipped, write_text

ATTEMPTS, BACKOFF, TIMEOUT = 4, 0.5, 15.0  # tries; seconds before the second, doubled each time; seconds of silence
PATIENCE = 60.0  # the longest wait, in seconds, that a busy server (Retry-After) is granted
ACTION = "try again (it resumes), or set LAB_CORPUS to miniwoz, the stand-in, or to a folder that holds MultiWOZ 2.2"


def pins() -> dict[str, dict[str, str]]:
    """{place in the corpus folder: {"repository", "commit", "path", "blob"}}; mwzeval's database, for scoring.

    LAB_MULTIWOZ_PINS names another such file, for a mirror (LAB_MULTIWOZ_URL) that holds another version.
    """
    named = os.environ.get("LAB_MULTIWOZ_PINS")
    return read_json(named) if named else shipped(__file__, "pins.json")


def pinned_source() -> str:
    """Repositories and commits, for the results board and the marker COMPLETE."""
    return " + ".join(sorted({f"{pin['repository']}@{pin['commit'][:7]}" for pin in pins().values()}))


def cached_multiwoz22(cache: Path | str | None = None) -> Path | None:
    """The folder of an earlier, complete download of these commits, else None; contents are not verified again."""
    marker = _folder(cache) / "COMPLETE"
    complete = marker.is_file() and marker.read_text(encoding="utf-8").strip() == pinned_source()
    return marker.parent if complete and all((marker.parent / place).is_file() for place in pins()) else None


def fetch_multiwoz22(cache: Path | str | None = None) -> Path:
    """Download what is missing into `cache`/multiwoz22, verify every file, and write the marker COMPLETE last.

    Raises:
        LabError: no network, a refusal, a file that is not what was pinned, or a full disk. Verified files stay and
            the next call goes on in the middle of a file that was cut.
    """
    folder = _folder(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"), httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            for place, pin in tqdm(pins().items(), desc="MultiWOZ 2.2", unit="file"):
                if not (folder / place).is_file() or git_blob_id(folder / place) != pin["blob"]:
                    _fetch(client, pin, folder / place)
            write_text(folder / "COMPLETE", pinned_source() + "\n")
    except OSError as error:
        action = "free space, or set LAB_CACHE to another folder"
        raise LabError(f"cannot write {folder}", str(error), action) from error
    return folder


def git_blob_id(path: Path) -> str:
    """What `git hash-object` prints for a file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _folder(cache: Path | str | None) -> Path:
    return Path(cache or cache_dir()) / "multiwoz22"


def _fetch(client: httpx.Client, pin: dict[str, str], target: Path) -> None:
    """One file, tried again after growing waits while the server is busy or the connection is cut."""
    url = "{}/{repository}/{commit}/{path}".format(multiwoz_url(), **pin)
    partial = target.with_name(f"{target.name}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    wait = 0.0
    for attempt in range(ATTEMPTS):
        time.sleep(wait)
        wait = BACKOFF * 2**attempt
        try:
            again = _stream(client, url, partial)
            if git_blob_id(partial) == pin["blob"]:
                partial.replace(target)
                return
            partial.unlink()  # a resumed file may have had a wrong beginning; a whole one would come again as it is
            problem = "it is not what was pinned (another git blob id), so it was thrown away"
        except httpx.TransportError as error:
            problem, again = f"no connection, or it was cut ({error})", True
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            problem, again = f"the server answers {status}", status in (416, 429) or status >= 500
            wait = max(wait, asked_wait(error.response))
        if not again:
            break
    raise LabError(f"cannot download {url}", problem, ACTION)


def asked_wait(response: httpx.Response) -> float:
    """The seconds of Retry-After, PATIENCE at most; 0 without one, or where it is a date."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), PATIENCE) if asked.isdigit() else 0.0


def _stream(client: httpx.Client, url: str, partial: Path) -> bool:
    """Append to `partial` what it lacks, or write it anew where the server knows no ranges; True if appended."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:  # `partial` is longer than the file
            partial.unlink()
        response.raise_for_status()
        with partial.open("ab" if response.status_code == 206 else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
    return response.status_code == 206


def multiwoz_url() -> str:
    """The code host that MultiWOZ 2.2 is downloaded from; LAB_MULTIWOZ_URL names a mirror."""
    return (os.environ.get("LAB_MULTIWOZ_URL") or "https://raw.githubusercontent.com").rstrip("/")
