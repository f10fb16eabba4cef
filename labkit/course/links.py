"""Links in Markdown pages and notebooks: files and anchors are checked always, addresses where there is a network."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from labkit.course.accessibility import prose

_LINK = re.compile(r"\]\(<?(?P<markdown>[^)\s>]+)>?\)|<a [^>]*href=\"(?P<html>[^\"]+)\"")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
GONE = (404, 410)  # HTTP: not found, gone for good


def links(markdown: str) -> list[str]:
    """The targets of a text's links and images, each once."""
    targets = [found["markdown"] or found["html"] for found in _LINK.finditer(prose(markdown))]
    return list(dict.fromkeys(targets))


def broken_links(page: Path, markdown: str) -> list[str]:
    """Links of a page that lead to no file, or to no heading of a Markdown file."""
    return [link for link in links(markdown) if not _is_address(link) and not _leads_somewhere(page, link)]


def _is_address(link: str) -> bool:
    return re.match(r"\w+:", link) is not None


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists():
        return False
    if not anchor or target.suffix != ".md":
        return True
    return anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub and JupyterLab give to headings."""
    found = set()
    for heading in _HEADING.findall(prose(markdown)):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def unanswered(urls: Iterable[str], timeout: float = 10.0) -> Iterator[str]:
    """Addresses that do not answer within `timeout` seconds, or answer that there is nothing."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        for finding in pool.map(partial(_finding, timeout=timeout), urls):
            if finding:
                yield finding


def _finding(url: str, timeout: float) -> str:
    """What is wrong with an address; "" if nothing is."""
    import httpx

    try:
        status = httpx.get(url, timeout=timeout, follow_redirects=True).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{url}: {type(error).__name__}"
    return f"{url}: HTTP {status}" if status in GONE else ""
