"""A chat template is a stranger's program: tried in a process of its own, with a limit of time and memory, before it is
run here. `{{ 'a' * 10**10 }}` takes ten gigabytes, and two nested loops take hours.

    python -m labkit.prompts.template     reads {"template", "messages", "names", "tools"} and writes
                                          "ready", then "done"
"""

import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.errors import LabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 10  # for one prompt, which a usual template writes in a few milliseconds
MEMORY = 4 * 2**30  # bytes of address space, most of it for Python and transformers themselves
START = 60  # seconds that a slow machine may need to start Python
_TRIED: dict[tuple[str, bool], bool] = {}  # templates of this session, without or with tools, and whether they end


def check_template(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], tools: Sequence[dict[str, object]] = ()
) -> None:
    """Try a tokenizer's chat template once on some messages; what it does with others is not known from that.

    `tools`, where given, are functions that it is told of; with and without them are two trials.

    Costs a second or two for each new template. One that fails is no matter here: the caller sees why.

    Raises:
        LabError: it does not end, or wants too much memory.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str):  # none, or several under names
        return
    names = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    tried = (template, bool(tools))
    if tried not in _TRIED:
        _TRIED[tried] = _ends(template, messages, names, tools)
    if not _TRIED[tried]:
        found = f"it does not end within {SECONDS} seconds and {MEMORY // 2**30} GiB"
        raise LabError("this model's chat template is not usable", found, "choose another model, or use chat=False")


def _ends(
    template: str,
    messages: list[dict[str, str]],
    names: dict[str, str],
    tools: Sequence[dict[str, object]],
) -> bool:
    """Whether a template ends in time, in another process; True where none can be started."""
    told = {"template": template, "messages": messages, "names": names, "tools": list(tools)}
    text = json.dumps(told)
    here = str(Path(__file__).parents[2])  # where labkit is imported from
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    try:
        run = subprocess.run(
            [sys.executable, "-m", "labkit.prompts.template"],
            input=text,
            capture_output=True,
            text=True,
            timeout=START + SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    except OSError:
        return True
    began = run.stdout.startswith("ready")
    return not began or run.stdout.endswith("done")


def _try() -> None:
    """The other process: it is ended from outside Python, so that no long computation in C holds it up."""
    from transformers.utils.chat_template_utils import render_jinja_template

    request = json.load(sys.stdin)
    _limit_memory()
    print("ready", flush=True)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        render_jinja_template(
            conversations=[request["messages"]],
            tools=request["tools"] or None,
            chat_template=request["template"],
            add_generation_prompt=True,
            **request["names"],
        )
    except MemoryError:
        return
    except Exception:  # it ends, if badly: the caller hears of it when it is run in earnest
        pass
    print("done", end="", flush=True)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    _try()
