"""Markdown pages of the site: those of the repository, the front page, the live page's code and the public names."""

import inspect
import os
import re
from pathlib import Path

import labkit
from labkit.course.site.live import MODULES, PAGE

COURSE = "labkit/course"
PAGES = (  # of the repository, under the same path in the site: their links to one another stay as they are
    f"{COURSE}/commands.md",
    f"{COURSE}/troubleshooting.md",
    f"{COURSE}/instructors.md",
    f"{COURSE}/glossary.md",
    f"{COURSE}/results.md",
    f"{COURSE}/front-ends.md",
    "labkit/metrics/README.md",
    "labkit/corpora/miniwoz/README.md",
    "labkit/interaction/README.md",
    "tests/benchmarks/phenomena.md",
    "CONTRIBUTING.md",
)
ELSEWHERE = {"README.md": "index.md"}  # what stands in another place in the site
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
FRONT = """# Neural Conversational AI Lab

A hands-on course: build a task-oriented dialogue system from a language model, measure it, fine-tune it, look inside,
and discover the structure of dialogues.

[![{alt}](decoding-lab.png)](live.md)

<a class="site-open" href="{page}">Open the decoding lab</a>

A language model runs in the page. Type your own line, turn the dials, and see what each of them does to the next token.

{notebooks}

```{{toctree}}
:hidden:
:caption: The course

live
{notebook_files}
```

```{{toctree}}
:hidden:
:caption: To look up

{reference_files}
api
```
"""
PICTURE_TEXT = "The decoding lab: a reply as tokens, the next token's probabilities as bars, and three dials"
LIVE = """# The decoding lab, live

<a class="site-open" href="{page}">Open the decoding lab</a>

A stand-in model runs in the page: a GPT-NeoX of two million parameters, or of eight, trained by this course. Nothing is
sent anywhere, and nothing is loaded from anywhere else. Without SIMD in the browser, plain JavaScript computes the
same.

This is all of its code. Tests compare its logits with PyTorch's, and its tokens, prompts and random numbers with
labkit's.

{sections}
"""
ABOUT = {  # module of the live page: what it is
    "gpt_neox": "The model",
    "tokenizer": "The tokenizer",
    "kernel": "Matrix times vector, in WebAssembly or JavaScript",
    "packed": "The weights, out of the text of a script",
    "prompts": "The prompt",
    "draws": "Python's random numbers",
    "page": "Answers to the decoding lab's questions",
}


def front_page(titles: dict[str, str], reference: list[str]) -> str:
    """The front page.

    Args:
        titles: {file of a notebook in the site, without its suffix: title}.
        reference: the other pages, without their suffix.
    """
    listed = [f"- [{title}]({name}.ipynb)" for name, title in titles.items()]
    return FRONT.format(
        alt=PICTURE_TEXT,
        page=PAGE,
        notebooks="\n".join(listed),
        notebook_files="\n".join(titles),
        reference_files="\n".join(reference),
    )


def live_code_page() -> str:
    """The page that leads to the decoding lab and shows its code, which stands in the folder `live`."""
    sections = []
    for name in sorted(MODULES, key=list(ABOUT).index):
        block = f"```{{literalinclude}} live/{name}.mjs\n:language: javascript\n```"
        sections.append(f"## {ABOUT[name]}\n\n{block}")
    return LIVE.format(page=PAGE, sections="\n\n".join(sections))


def api_page() -> str:
    """The public names of labkit, by their docstrings."""
    parts = ["# The public names of labkit", "`import labkit` is all that a notebook needs for these."]
    for name in labkit.__all__:
        is_class = inspect.isclass(getattr(labkit, name))
        directive = "autoclass" if is_class else "autofunction"
        members = "\n   :members:" if is_class else ""
        parts.append(f"```{{eval-rst}}\n.. {directive}:: labkit::{name}{members}\n```")
    return "\n\n".join(parts) + "\n"


# --- links ------------------------------------------------------------------------------------------------------------


def with_links(markdown: str, page: str, staged: set[str], repository: str) -> str:
    """A text whose links lead to pages of the site, to the repository's files where it is known, or are no links.

    Args:
        page: where the text stands in the repository.
        staged: files that the site has.
        repository: address of a file in the repository, up to its path; "" if it is not known.
    """

    def replaced(found: re.Match[str]) -> str:
        target = found["target"]
        if re.match(r"\w+:|#", target) or found["image"]:
            return found[0]
        path, _, anchor = target.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(page), path)).replace(os.sep, "/")
        file = re.sub(r"^notebooks/", "solutions/", ELSEWHERE.get(file, file))
        if file in staged:
            link = os.path.relpath(file, os.path.dirname(page) or ".").replace(os.sep, "/")
            return f"[{found['text']}]({link}{'#' + anchor if anchor else ''})"
        if repository:
            return f"[{found['text']}]({repository}{file})"
        return found["text"]

    parts = _FENCE.split(markdown)
    for index in range(0, len(parts), 2):  # between fenced code
        parts[index] = _LINK.sub(replaced, parts[index])
    return "".join(parts)


def title_of(notebook_text: str) -> str:
    """The first heading of a text."""
    found = re.search(r"^# (.+)$", notebook_text, re.MULTILINE)
    return found[1] if found else "untitled"


def known_pages(root: Path) -> list[str]:
    """Those of PAGES that this clone has."""
    return [page for page in PAGES if (root / page).is_file()]
