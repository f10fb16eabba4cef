"""The parser: commands and flags from flags.toml, and a flag for every field of a configuration."""

import argparse
import difflib
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, NoReturn

import labkit
from labkit.cli.values import Rule, reader
from labkit.errors import LabError
from labkit.storage import shipped

TABLE: dict[str, dict[str, Any]] = shipped(__file__, "flags.toml")  # Any: what TOML holds
RULE = ("kind", "least", "most", "above", "below", "choices", "choices_from", "pattern", "form", "empty")
Command = Callable[..., int | None]  # a function of `labkit.cli.commands`: its flags by name


class Parser(argparse.ArgumentParser):
    """A parser that knows its flags, and whose problems are a LabError (argparse prints a page)."""

    def __init__(self, *args: Any, **options: Any):  # Any: argparse's own options
        self.flags: list[str] = []
        super().__init__(*args, **options)

    def add_argument(self, *args: Any, **options: Any) -> argparse.Action:  # Any: argparse's own options
        """argparse's, and the flag is remembered."""
        action = super().add_argument(*args, **options)
        self.flags += action.option_strings
        return action

    def error(self, message: str) -> NoReturn:
        """Called by argparse for what is missing or in the wrong place."""
        raise LabError(message, "", f"see {self.prog} --help")


@dataclass(frozen=True)
class Parsed:
    """What the command line asks for."""

    command: str
    arguments: dict[str, Any]  # Any: values of all types, by the parameter's name


def parse(argv: Sequence[str], about: Mapping[str, str]) -> Parsed:
    """Read a command line.

    Args:
        about: {command: what it does}, for the help.

    Raises:
        LabError: an unknown command or flag, one that is missing, or a value that cannot be.
        SystemExit: after --help.
    """
    argv = [dashed(token) for token in argv]
    _check_command(argv)
    parser = Parser("labkit", description="Neural Conversational AI Lab", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    by_name = {}
    for name in TABLE["commands"]:
        command = commands.add_parser(name, help=about[name], description=about[name], allow_abbrev=False)
        by_name[name] = command
        if name in argv:  # those of all commands take longer to make than most of them to be read
            _add_flags(command, name)
    config = None
    chosen = argv[0] if argv else ""
    if chosen in TABLE["configurations"]:  # doctor must not depend on modules that it does not need
        config = getattr(labkit, TABLE["configurations"][chosen])
        add_fields(by_name[chosen], config)
    if chosen in by_name:
        _check_flags(by_name[chosen], argv[1:])
    namespace = parser.parse_args(argv)
    return _parsed(vars(namespace), config)


def _parsed(given: dict[str, Any], config: type | None) -> Parsed:  # Any: values of all types
    """The command's own arguments and, where it has a configuration, the fields that were given, as `settings`."""
    command = given.pop("command")
    arguments = {}
    for flag in TABLE["commands"][command].split():
        name = _parameter(command, flag)
        arguments[name] = given[name]
    if config:
        settings = {}
        for option in fields(config):
            if option.name in given:
                settings[option.name] = given[option.name]
        arguments["settings"] = settings
    return Parsed(command, arguments)


def _entry(command: str, flag: str) -> dict[str, Any]:  # Any: what TOML holds
    """What flags.toml says of a flag: of this command's own, if there is such a line."""
    known = TABLE["flags"]
    own = f"{command} {flag}"
    return known[own] if own in known else known[flag]


def _parameter(command: str, flag: str) -> str:
    name = _entry(command, flag).get("dest", flag)
    return name.strip("-+").replace("-", "_")


def _add_flags(command: Parser, name: str) -> None:
    for flag in TABLE["commands"][name].split():
        entry = _entry(name, flag)
        options = {}
        for option, value in entry.items():
            if option not in RULE:
                options[option] = value
        if "kind" in entry:
            options["type"] = reader(flag.strip("+"), entry)
        command.add_argument(flag.strip("+"), **options)


def add_fields(parser: Parser, config: type) -> None:
    """A flag for every field of a dataclass that the parser has none for; help and default are the field's own."""
    hints = typing.get_type_hints(config)
    rules: Mapping[str, Rule] = TABLE["fields"].get(config.__name__, {})
    for option in fields(config):
        flag = f"--{option.name.replace('_', '-')}"
        if flag not in parser.flags:
            _add_field(parser, option, hints[option.name], rules.get(option.name))


def _add_field(parser: Parser, option: Field, hint: object, rule: Rule | None) -> None:
    flag = f"--{option.name.replace('_', '-')}"
    kinds = (hint, *typing.get_args(hint))  # of `float | None`: float
    about = option.metadata.get("help", "")
    options: dict[str, Any] = {  # Any: argparse's own options
        "dest": option.name,
        "default": argparse.SUPPRESS,
        "help": f"{about} ({option.default})".replace("%", "%%"),
    }
    if bool in kinds:
        options["action"] = argparse.BooleanOptionalAction
    elif rule:
        options["type"] = reader(flag, rule)
    else:
        options["type"] = _number_or_text(kinds)
    parser.add_argument(flag, **options)


def _number_or_text(kinds: Sequence[object]) -> type:
    for kind in (int, float):
        if kind in kinds:
            return kind
    return str


def dashed(token: str) -> str:
    """--max_new_tokens is --max-new-tokens; what stands behind an equals sign stays."""
    if not token.startswith("--"):
        return token
    flag, equals, value = token.partition("=")
    return flag.replace("_", "-") + equals + value


def _check_command(argv: Sequence[str]) -> None:
    names = list(TABLE["commands"])
    if not argv:
        raise LabError("which command?", ", ".join(names), "see labkit --help")
    if not argv[0].startswith("-") and argv[0] not in names:
        raise LabError(f"unknown command {argv[0]}", "", _nearest(argv[0], names, "labkit --help"))


def _check_flags(parser: Parser, words: Sequence[str]) -> None:
    """Name the flag nearest to an unknown one; argparse would complain about what is missing instead."""
    for word in words:
        if word == "--":
            return
        flag = word.split("=")[0]
        if re.match("--.", word) and flag not in parser.flags:
            raise LabError(f"unknown flag {flag}", "", _nearest(flag, parser.flags, f"{parser.prog} --help"))


def _nearest(word: str, known: Sequence[str], page: str) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"see {page}"
