"""Links in Markdown pages and notebooks: files and anchors are checked always, addresses where there is a network."""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labkit.course.accessibility import prose

_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)|<a [^>]*href=\"([^\"]+)\"")


def links(markdown: str) -> list[str]:
    """The targets of a text's links and images, each once."""
    return list(dict.fromkeys(first or second for first, second in _LINK.findall(prose(markdown))))


def broken_links(page: Path, markdown: str) -> list[str]:
    """Links of a page that lead to no file, or to no heading of a Markdown file."""
    return [link for link in links(markdown) if not re.match(r"\w+:", link) and not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if not target.exists() or not anchor or target.suffix != ".md":
        return target.exists()
    return anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub and JupyterLab give to headings."""
    headings = re.findall(r"^#+ (.+)$", prose(markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def unanswered(urls: Iterable[str], timeout: float = 10.0) -> Iterator[str]:
    """Addresses that do not answer, or answer that there is nothing."""
    import httpx

    def ask(url: str) -> str:
        try:
            status = httpx.get(url, timeout=timeout, follow_redirects=True).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{url}: {type(error).__name__}"
        return f"{url}: HTTP {status}" if status in (404, 410) else ""

    with ThreadPoolExecutor(8) as pool:
        yield from filter(None, pool.map(ask, urls))
