"""Dialogues as data: MultiWOZ 2.2, a folder in its layout, or the stand-in MiniWOZ, all as one `Corpus`."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from labkit.corpora.types import SPLIT_ALIASES, Corpus, Dialogue, Span, Turn
from labkit.errors import LabError
from labkit.storage import gc_paused

__all__ = ["Corpus", "Dialogue", "Span", "Turn", "load_corpus"]


def load_corpus(
    name: str | Path = "miniwoz",
    *,
    splits: Iterable[str] | None = None,
    cache: Path | str | None = None,
    seed: int = 2022,
    sizes: dict[str, int] | None = None,
) -> Corpus:
    """The corpus `miniwoz` (generated), `multiwoz22` (downloaded once), or a folder in the raw MultiWOZ 2.2 layout.

    A .json file that `labkit converse` wrote is a corpus, too: its conversations are the test split.

    `splits`: read these and no others; without it a folder's splits are read when they are first used. `cache`: where
    downloads are kept, by default LAB_CACHE. `seed` and `sizes` ({split: number of dialogues}) are MiniWOZ's.

    Raises:
        LabError: an unknown name or split, a file that does not parse, a download that fails.
    """
    corpus = _load(name, cache, seed, sizes)
    if splits is None:
        return corpus
    names = [splits] if isinstance(splits, str) else splits
    chosen = {}
    for name in names:
        split = SPLIT_ALIASES.get(name, name)
        chosen[split] = corpus[split]
    return replace(corpus, splits=chosen)


def _load(
    name: str | Path,
    cache: Path | str | None,
    seed: int,
    sizes: dict[str, int] | None,
) -> Corpus:
    from labkit.corpora import download, multiwoz

    if name == "miniwoz":
        from labkit.corpora.miniwoz import generate

        source = f"generated, seed {seed}"
        with gc_paused():
            raw = generate(seed, sizes)
            return multiwoz.from_raw(raw, "miniwoz", source, stand_in=True)
    if name == "multiwoz22":
        folder = download.cached_multiwoz22(cache) or download.fetch_multiwoz22(cache)
        return multiwoz.read_folder(folder, "multiwoz22", download.pinned_source())
    if multiwoz.is_corpus_file(name):
        return multiwoz.read_file(name)
    found = _folder(name)
    if found is None:
        what = f"unknown corpus {str(name)!r:.80}"
        choices = "choose miniwoz, multiwoz22, or an existing folder in the raw MultiWOZ 2.2 layout"
        raise LabError(what, "neither the name of a corpus nor a folder", choices)
    return multiwoz.read_folder(found)


def _folder(name: str | Path) -> Path | None:
    """The folder of that name (`~` is the home folder), None where there is none."""
    with suppress(OSError, RuntimeError, ValueError):  # a name that is too long, no home folder, a NUL character
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    return None
