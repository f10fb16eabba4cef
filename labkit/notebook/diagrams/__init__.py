"""Pictures of the course, to show in a notebook: `labkit.diagram("loop")`. Drawn by `labkit.course.drawings`."""

import re
from html import unescape
from pathlib import Path

from labkit.errors import LabError
from labkit.shown import Shown

FOLDER = Path(__file__).parent
_DESCRIPTION = re.compile(r"<title[^>]*>(.*?)</title>\s*<desc[^>]*>(.*?)</desc>", re.DOTALL)


def names() -> list[str]:
    """All diagrams there are."""
    return sorted(path.stem for path in FOLDER.glob("*.svg"))


def diagram(name: str) -> Shown:
    """A diagram of the course; without HTML, its description in words.

    Raises:
        LabError: there is none of this name.
    """
    if name not in names():
        raise LabError(f"no diagram {name!r}", "", f"choose one of {', '.join(names())}")
    svg = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    title, description = _DESCRIPTION.search(svg).groups()
    return Shown(svg, f"{unescape(title)}. {unescape(description)}")
