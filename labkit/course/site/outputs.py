"""Large outputs of executed notebooks, compressed: a map of thousands of utterances takes a quarter of its text.

A script or a frame's page that is long stands in the page as zlib's bytes in base64. `unpack.js`, which every page
loads first, makes the text of them again, and puts the script or the frame where it stood. Not a letter is lost.
"""

import base64
import re
import zlib
from html import unescape
from pathlib import Path

LONGEST = 20_000  # characters that stay as they are
UNPACK = Path(__file__).with_name("unpack.js")
_SCRIPT = re.compile(r"<script(?: type=\"text/javascript\")?>((?:(?!</script>).)*)</script>", re.DOTALL)
_FRAME = re.compile(r"<iframe ([^>]*?)\s*srcdoc=\"([^\"]*)\"></iframe>")


def smaller(html: str) -> str:
    """An output whose long scripts and frames are compressed."""
    html = _SCRIPT.sub(_script, html)  # before there are scripts that fill frames
    return _FRAME.sub(_frame, html)


def _script(found: re.Match[str]) -> str:
    text = found[1]
    if len(text) <= LONGEST:
        return found[0]
    return f'<script>unpackedScript(document.currentScript, "{_packed(text)}")</script>'


def _frame(found: re.Match[str]) -> str:
    attributes, text = found.groups()
    if len(text) <= LONGEST:
        return found[0]
    page = _packed(unescape(text))
    return f'<iframe {attributes}></iframe><script>unpackedFrame(document.currentScript, "{page}")</script>'


def _packed(text: str) -> str:
    compressed = zlib.compress(text.encode("utf-8"), 9)
    return base64.b64encode(compressed).decode("ascii")
