"""What an error says, in one line."""


def first_line(error: Exception) -> str:
    """What an error says, without the pages that some libraries add."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]
