"""Where results and downloads go."""

import os
from pathlib import Path


def clone_root() -> Path | None:
    """The clone of the repository around the working directory, or around labkit's own file."""
    folders = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    return next((f for f in folders if (f / "pyproject.toml").is_file() and (f / "labkit").is_dir()), None)


def lab_home() -> Path:
    """Where results go: LAB_HOME, else a mounted Google Drive, Kaggle's working folder, or outputs/ of the clone."""
    if named := os.environ.get("LAB_HOME"):
        return Path(named).expanduser().absolute()
    drive, kaggle = Path("/content/drive/MyDrive"), Path("/kaggle/working")
    if drive.is_dir():
        return drive / "neural-dialogue-lab"
    return kaggle if kaggle.is_dir() else (clone_root() or Path.cwd()) / "outputs"


def cache_dir() -> Path:
    """Where downloads go: LAB_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("LAB_CACHE") or f"{base}/neural-dialogue-lab").expanduser().absolute()
