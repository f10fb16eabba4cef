"""Values of flags: read from text, and refused before any work begins, with what is allowed."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from labkit.errors import LabError
from labkit.shown import readable
from labkit.storage import is_unicode

MOST = 1_000_000_000  # of whole numbers that have no other bound: more dialogues, tokens or steps than there can be
LONGEST_PATH = 4096  # bytes, Linux's limit
LONGEST_NAME = 255  # bytes, of one file or folder on every common file system
QUOTED = 60  # letters of a wrong value that the error repeats

Rule = Mapping[str, object]  # a line of flags.toml: kind, least, most, …
Read = Callable[[str], object]


def reader(flag: str, rule: Rule) -> Read:
    """A function that reads the text of a flag. It raises LabError where the text breaks the rule."""
    kind = rule["kind"]
    by_kind: dict[object, Callable[[str, str, Rule], object]] = {
        "whole": _whole,
        "number": _number,
        "word": _word,
        "text": _text,
        "name": _name,
        "path": _path,
    }
    read_kind = by_kind[kind]

    def read(text: str) -> object:
        return read_kind(flag, text, rule)

    return read


def refusal(flag: str, text: str, allowed: str) -> LabError:
    """What is said about a value that cannot be."""
    shown = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
    return LabError(f"{flag} cannot be {readable(repr(shown))}", "", f"choose {allowed}")


# --- numbers ----------------------------------------------------------------------------------------------------------


def _whole(flag: str, text: str, rule: Rule) -> int:
    choices = rule.get("choices")
    allowed = " or ".join(map(str, choices)) if choices else f"a whole number {_range(rule, most=MOST)}"
    if not re.fullmatch(r"[+-]?[0-9_]{1,30}", text.strip()):
        raise refusal(flag, text, allowed)
    try:
        value = int(text)
    except ValueError as error:  # 1__0
        raise refusal(flag, text, allowed) from error
    is_allowed = value in choices if choices else _is_within(value, rule, most=MOST)
    if not is_allowed:
        raise refusal(flag, text, allowed)
    return value


def _number(flag: str, text: str, rule: Rule) -> float:
    allowed = f"a number {_range(rule)}"
    try:
        value = float(text)
    except ValueError as error:
        raise refusal(flag, text, allowed) from error
    if not _is_within(value, rule):
        raise refusal(flag, text, allowed)
    return value


def _is_within(value: float, rule: Rule, most: float | None = None) -> bool:
    """Whether a number is in the range; NaN is in none."""
    if "least" in rule and not value >= rule["least"]:
        return False
    if "above" in rule and not value > rule["above"]:
        return False
    if "below" in rule and not value < rule["below"]:
        return False
    highest = rule.get("most", most)
    return highest is None or value <= highest


def _range(rule: Rule, most: float | None = None) -> str:
    """The range in words: "from 1 to 10", "above 0, up to 1"."""
    low = f"from {rule['least']}" if "least" in rule else f"above {rule['above']}"
    if "below" in rule:
        return f"{low} to below {rule['below']}"
    highest = rule.get("most", most)
    return f"{low} to {highest:,}" if isinstance(highest, int) else low


# --- words ------------------------------------------------------------------------------------------------------------


def choices_of(rule: Rule) -> Sequence[str]:
    """The words that a rule allows: its own, or those of a list in labkit, which has its one home there."""
    if "choices" in rule:
        return rule["choices"]
    module, _, name = str(rule["choices_from"]).rpartition(".")
    return getattr(import_module(f"labkit.{module}"), name)


def _word(flag: str, text: str, rule: Rule) -> str:
    choices = choices_of(rule)
    if text not in choices:
        raise refusal(flag, text, f"one of {', '.join(choices)}")
    return text


def _text(flag: str, text: str, rule: Rule) -> str:
    if not text and rule.get("empty"):
        return text
    form = str(rule.get("form", "some text"))
    if not text.strip():
        raise refusal(flag, text, form)
    if not is_unicode(text) or "\0" in text:
        raise refusal(flag, text, "text without half characters")
    if "pattern" in rule and not re.fullmatch(str(rule["pattern"]), text):
        raise refusal(flag, text, form)
    return text


# --- names and paths --------------------------------------------------------------------------------------------------


def _name(flag: str, text: str, rule: Rule) -> str:
    _check_path(flag, text, "a name or a folder")
    return text


def _path(flag: str, text: str, rule: Rule) -> Path:
    _check_path(flag, text, "the path of a file or a folder")
    return Path(text)


def _check_path(flag: str, text: str, allowed: str) -> None:
    """A path that no file system can hold is refused; one that is not there is found out where it is read."""
    if not text.strip():
        raise refusal(flag, text, allowed)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text) or not is_unicode(text):
        raise refusal(flag, text, f"{allowed} without control characters")
    parts = text.replace("\\", "/").split("/")
    too_long = len(text.encode("utf-8")) > LONGEST_PATH
    if too_long or any(len(part.encode("utf-8")) > LONGEST_NAME for part in parts):
        raise refusal(flag, text, f"a shorter name (a part of a path has at most {LONGEST_NAME} bytes)")
