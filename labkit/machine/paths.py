"""Where results and downloads go."""

import os
from pathlib import Path

APP = "neural-dialogue-lab"


def clone_root() -> Path | None:
    """The clone of the repository around the working directory, or around labkit's own file."""
    folders = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    for folder in folders:
        if (folder / "pyproject.toml").is_file() and (folder / "labkit").is_dir():
            return folder
    return None


def lab_home() -> Path:
    """Where results go: LAB_HOME, else a mounted Google Drive, Kaggle's working folder, or outputs/ of the clone."""
    named = os.environ.get("LAB_HOME")
    if named:
        return _absolute(named)
    drive = Path("/content/drive/MyDrive")
    if drive.is_dir():
        return drive / APP
    kaggle = Path("/kaggle/working")
    if kaggle.is_dir():
        return kaggle
    around = clone_root() or Path.cwd()
    return around / "outputs"


def cache_dir() -> Path:
    """Where downloads go: LAB_CACHE, a folder that an earlier session made, else the system's place for caches.

    That place is ~/.cache on Linux (or XDG_CACHE_HOME), ~/Library/Caches on macOS and %LOCALAPPDATA% on Windows.
    Earlier versions used ~/.cache everywhere: what they downloaded is found there.
    """
    import platformdirs

    named = os.environ.get("LAB_CACHE")
    if named:
        return _absolute(named)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    earlier = _absolute(f"{base}/{APP}")
    if exists(earlier):
        return earlier
    return platformdirs.user_cache_path(APP, appauthor=False)


def _absolute(name: str) -> Path:
    """The folder that a setting names; `~` is the home folder, if there is one."""
    try:
        return Path(name).expanduser().absolute()
    except RuntimeError:  # ~nobody
        return Path(name).absolute()


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False for a name that no file system takes (too long, a NUL)."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
