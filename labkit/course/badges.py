"""Buttons that open a student notebook elsewhere, in Colab, Kaggle or Binder, once the sources name a repository."""

import re
from pathlib import Path
from urllib.parse import quote

import nbformat

from labkit.tables import markdown_table

_ON_GITHUB = re.compile(
    r'^REPOSITORY = "git\+https://github\.com/(?P<repository>[\w.-]+/[\w.-]+)@(?P<ref>[\w./-]+)"', re.MULTILINE
)
_README_BADGES = re.compile(r"(?<=<!-- badges -->\n).*?(?=<!-- /badges -->)", re.DOTALL)
BADGES = {  # name: (image, address)
    "Colab": (
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{repository}/blob/{ref}/{notebook}",
    ),
    "Kaggle": (
        "https://kaggle.com/static/images/open-in-kaggle.svg",
        "https://kaggle.com/kernels/welcome?src=https://github.com/{repository}/blob/{ref}/{notebook}",
    ),
    "Binder": (  # it makes its image from environment.yml in the root of the repository
        "https://mybinder.org/badge_logo.svg",
        "https://mybinder.org/v2/gh/{repository}/{quoted_ref}?urlpath=lab/tree/{notebook}",
    ),
}


def badges(source: Path) -> str:
    """Links, as images with alt text, that open the student notebook of a source; "" without a repository."""
    links = []
    for name, link in places(source).items():
        image, _ = BADGES[name]
        links.append(f"[![Open {source.stem} in {name}]({image})]({link})")
    return " ".join(links)


def places(source: Path) -> dict[str, str]:
    """{"Colab": address, …} where the student notebook of a source opens; {} without a repository."""
    found = repository_of(source)
    if found is None:
        return {}
    repository, ref = found
    links = {}
    for name, (_, address) in BADGES.items():
        links[name] = address.format(
            repository=repository,
            ref=ref,
            quoted_ref=quote(ref, safe=""),
            notebook=f"notebooks/{source.name}",
        )
    return links


def repository_of(source: Path) -> tuple[str, str] | None:
    """("owner/name", branch, tag or commit) that a source installs labkit from; None if that is not on GitHub."""
    for cell in nbformat.read(source, as_version=4).cells:
        found = _ON_GITHUB.search(cell.source) if cell.cell_type == "code" else None
        if found:
            return found["repository"], found["ref"]
    return None


def readme_with_badges(readme: str, sources: list[Path]) -> str:
    """A README with a table of badges between its marks, `<!-- badges -->` and `<!-- /badges -->`, if it has them."""
    lines = {source.stem: badges(source) for source in sources}
    rows = [[stem, line] for stem, line in lines.items() if line]
    table = ""
    if rows:
        table = markdown_table(["notebook", "open it in"], rows) + "\n"
    return _README_BADGES.sub(lambda _: table, readme)
