"""What is checked before a session without running anything: leaks, links, versions, barriers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from labkit.course.accessibility import markdown_findings, markdown_of
from labkit.course.links import broken_links, links, unanswered
from labkit.course.release import leaked
from labkit.lab import Lab

LEAKS = "no solution in a student's notebook"
LINKS = "links lead to files and headings"
VERSIONS = "versions are the pinned ones"
BARRIERS = "no barriers in pages"
MUST = (LEAKS, LINKS)  # the others are shown, and fail nothing


def all_checks(root: Path, notebooks: Sequence[Path], lab: Lab) -> dict[str, list[str]]:
    """{check: findings} of the clone at `root` and of these notebooks; no findings is good."""
    paths = [*root.glob("*.md"), *root.glob("labkit/**/*.md"), *notebooks]
    pages = {path: _text(path) for path in paths}
    urls = _addresses(pages)
    outside = f"external links ({len(urls)})"
    if not lab.hub.reachable:
        outside += ": not checked, there is no network"
    return {
        LEAKS: list(_leaks(root)),
        LINKS: list(_broken(pages)),
        VERSIONS: list(_moved_versions(lab)),
        BARRIERS: list(_barriers(pages)),
        outside: list(unanswered(urls)) if lab.hub.reachable else [],
    }


def must_be_mended(checks: dict[str, list[str]]) -> list[str]:
    """The findings that a session cannot begin with."""
    return [finding for name in MUST for finding in checks[name]]


def _text(page: Path) -> str:
    """The Markdown of a page or a notebook."""
    if page.suffix == ".md":
        return page.read_text(encoding="utf-8")
    return markdown_of(nbformat.read(page, as_version=4))


def _addresses(pages: dict[Path, str]) -> list[str]:
    found = {link for text in pages.values() for link in links(text)}
    return sorted(link for link in found if link.startswith("http"))


def _leaks(root: Path) -> Iterator[str]:
    for source in sorted(root.glob("solutions/*.ipynb")):
        student = root / "notebooks" / source.name
        if student.exists():
            for line in leaked(source, student):
                yield f"{student.name}: {line}"


def _broken(pages: dict[Path, str]) -> Iterator[str]:
    for page, text in pages.items():
        for link in broken_links(page, text):
            yield f"{page.name}: {link}"


def _moved_versions(lab: Lab) -> Iterator[str]:
    for version in lab.versions:
        without_build = version.installed.split("+")[0]  # 2.13.0+cpu
        if version.pinned and version.pinned != without_build:
            yield f"{version.package} {version.installed}, pinned {version.pinned}"


def _barriers(pages: dict[Path, str]) -> Iterator[str]:
    """In pages; a notebook's are found when it has run. The model cards in weights/ have the Hub's own header."""
    for page, text in pages.items():
        if page.suffix == ".md" and "weights" not in page.parts:
            for finding in markdown_findings(text):
                yield f"{page.name}: {finding}"
