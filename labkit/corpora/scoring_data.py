"""What scoring needs beside the dialogues, checked where it is read: goals, booked domains, database and schema."""

from labkit.corpora.checks import brief, check_all_characters, member, members, refuse, text, texts, typed
from labkit.corpora.types import Booked, Dialogue, Entity, Goal, Service, dialogue_key

Raw = object  # whatever a JSON file holds, before it is checked
# MultiWOZ's schema has eight domains; in these four, constraints are looked up in the database's columns.
SEARCHED = ("restaurant", "hotel", "attraction", "train")
ALTERNATIVES = ("fail_info", "fail_book")  # of a goal: what is wished at first and cannot be had
STRUCTURED = ("location", "price")  # columns of venues that hold lists and objects, and that nothing is looked up in


def goals(raw: Raw, file: str) -> dict[str, Goal]:
    """{Dialogue.key: goal} of goals.json in mwzeval's format.

    Raises:
        LabError: a field is missing or of a wrong type, or two ids have one key; file, dialogue, domain and field are
            named.
    """
    result = by_key(raw, file)
    for key, goal in result.items():
        dialogue = brief(key)
        place = f"file {file}, dialogue {dialogue}"
        members(goal, place, "the goal")
        for domain, parts in goal.items():
            name = brief(domain)
            _check_goal(parts, f"{place}, domain {name}")
    return result


def _check_goal(parts: Raw, place: str) -> None:
    informable = member(parts, "informable", dict, place)
    _check_values(informable, place, "the field 'informable'")
    requestable = member(parts, "requestable", list, place)
    texts(requestable, place, "the field 'requestable'")
    booking = parts.get("booking", [])
    if isinstance(booking, dict):
        _check_values(booking, place, "the field 'booking'")
    else:
        texts(booking, place, "the field 'booking'")
    for name in ALTERNATIVES:
        _check_values(parts.get(name, {}), place, f"the field {name!r}")


def _check_values(values: Raw, place: str, what: str) -> None:
    """{slot: text}."""
    members(values, place, what)
    for slot, value in values.items():
        name = brief(slot)
        text(value, place, f"{name!r} in {what}")


def booked_domains(raw: Raw, file: str) -> Booked:
    """{Dialogue.key: domains booked after each bot turn} of booked_domains.json.

    Raises:
        LabError: another type, or two ids have one key; file, dialogue and bot turn are named.
    """
    result = by_key(raw, file)
    for key, turns in result.items():
        dialogue = brief(key)
        place = f"file {file}, dialogue {dialogue}"
        typed(turns, list, place, "what was booked")
        for number, domains in enumerate(turns):
            turn_place = f"{place}, bot turn {number}"
            texts(domains, turn_place, "what was booked")
    return result


def check_booked(dialogue: Dialogue, booked: Booked) -> None:
    """A dialogue that booked_domains.json has at all needs an entry there for each of its bot turns.

    Raises:
        LabError: it has fewer; the last replies would silently be left out of the scores.
    """
    if dialogue.key not in booked:
        return
    n_turns = len(dialogue.bot_turns)
    n_entries = len(booked[dialogue.key])
    if n_entries < n_turns:
        place = f"dialogue {brief(dialogue.dialogue_id)}"
        refuse(place, f"booked_domains has {n_entries} entries for its {n_turns} bot turns")


def entities(raw: Raw, domain: str, file: str) -> list[Entity]:
    """The rows of a database file. In a searched domain every column holds text, but for STRUCTURED ones.

    Raises:
        LabError: no list of objects, or a cell of a wrong type; file, row and column are named.
    """
    place = f"file {file}"
    if isinstance(raw, dict) and domain not in SEARCHED:
        raw = [raw]  # MultiWOZ's own taxi file
    typed(raw, list, place, "the content")
    for number, row in enumerate(raw):
        _check_row(row, domain, f"{place}, row {number}")
    return raw


def _check_row(row: Raw, domain: str, place: str) -> None:
    members(row, place, "the row")
    for column, cell in row.items():
        what = f"the column {brief(column)!r}"
        if _is_structured(domain, column):
            check_all_characters(cell, place, what)
        elif column == "id" and type(cell) is int:
            continue
        else:
            text(cell, place, what)


def _is_structured(domain: str, column: str) -> bool:
    """The column may hold more than text."""
    if domain == "train":
        return False
    return domain not in SEARCHED or column in STRUCTURED


def schema(raw: Raw, file: str) -> list[Service]:
    """The services of schema.json; their slots' names are checked, since belief states are read by them.

    Raises:
        LabError: no list of objects, or a slot without a name; file, service and slot are named.
    """
    typed(raw, list, f"file {file}", "the content")
    for number, service in enumerate(raw):
        place = f"file {file}, service {number}"
        member(service, "service_name", str, place)
        slots = service.get("slots", [])
        typed(slots, list, place, "the field 'slots'")
        for index, slot in enumerate(slots):
            slot_place = f"{place}, slot {index}"
            member(slot, "name", str, slot_place)
        check_all_characters(service, place, "a text")
    return raw


def by_key(raw: Raw, file: str) -> dict[str, Raw]:
    """{dialogue id: value} under Dialogue.key.

    Raises:
        LabError: it is no object, or two ids have one key.
    """
    place = f"file {file}"
    result: dict[str, Raw] = {}
    members(raw, place, "the content")
    for dialogue_id, value in raw.items():
        key = dialogue_key(dialogue_id)
        if key in result:
            found = f"{brief(dialogue_id)!r} is there twice: upper case and .json do not tell ids apart"
            refuse(place, found)
        result[key] = value
    return result
