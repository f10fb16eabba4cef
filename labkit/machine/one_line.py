"""What an error or a setting says, in one line."""

LONGEST = 120  # characters of a name that a message repeats


def first_line(error: Exception) -> str:
    """What an error says, without the pages that some libraries add."""
    said = str(error).strip()
    lines = said.splitlines() or [type(error).__name__]
    return lines[0][:300]


def shortened(text: str, longest: int = LONGEST) -> str:
    """A name as a message can repeat it: printable, and not longer than `longest` characters."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    if len(printable) <= longest:
        return printable
    return f"{printable[:longest]}… ({len(printable)} characters)"
