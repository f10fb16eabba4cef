"""The front end's module and stylesheet. Its tools are the decoding lab's, so that both ask in the same way."""

import re
from pathlib import Path

from labkit.notebook.decoding_lab import files as lab

MODULE = Path(__file__).with_name("chat.mjs")
STYLE = Path(__file__).with_name("chat.css")
IMPORT = re.compile(r'^import \{.*?\} from "\.\./decoding_lab/lab\.mjs";$', re.MULTILINE | re.DOTALL)
EXPORT = "export default { render };"


def module() -> str:
    """The module as one file, with the tools that it imports in front: a widget's module has no neighbours."""
    tools = lab.MODULE.read_text(encoding="utf-8")
    own = MODULE.read_text(encoding="utf-8")
    return tools.replace(EXPORT, "") + IMPORT.sub("", own)


def style() -> str:
    """The stylesheet as one text, the decoding lab's first."""
    return lab.STYLE.read_text(encoding="utf-8") + STYLE.read_text(encoding="utf-8")
