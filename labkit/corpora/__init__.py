"""Dialogues as data: MultiWOZ 2.2, a folder in its layout, or the stand-in MiniWOZ, all as one `Corpus`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from labkit.corpora.types import SPLIT_ALIASES, Corpus, Dialogue, Span, Turn
from labkit.errors import LabError

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

    `splits`: read these and no others; without it a folder's splits are read when they are first used. `cache`: where
    downloads are kept, by default LAB_CACHE. `seed` and `sizes` ({split: number of dialogues}) are MiniWOZ's.

    Raises:
        LabError: an unknown name or split, a file that does not parse, a download that fails.
    """
    from labkit.corpora import download, multiwoz

    if name == "miniwoz":
        from labkit.corpora.miniwoz import generate

        with multiwoz.gc_paused():
            corpus = multiwoz.from_raw(generate(seed, sizes), name, f"generated, seed {seed}", stand_in=True)
    elif name == "multiwoz22":
        folder = download.cached_multiwoz22(cache) or download.fetch_multiwoz22(cache)
        corpus = multiwoz.read_folder(folder, name, download.pinned_source())
    elif Path(name).is_dir():
        corpus = multiwoz.read_folder(name)
    else:
        choices = "choose miniwoz, multiwoz22, or an existing folder in the raw MultiWOZ 2.2 layout"
        raise LabError(f"unknown corpus {str(name)!r}", "neither the name of a corpus nor a folder", choices)
    if splits is None:
        return corpus
    return replace(corpus, splits={SPLIT_ALIASES.get(split, split): corpus[split] for split in splits})
