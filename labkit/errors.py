"""What a user sees when something is wrong: one line that names the cause, the finding and the next action."""


class LabError(Exception):
    """A problem that the user can act on.

    Args:
        what: what is wrong, naming the thing (file, dialogue, model).
        found: what was found instead of what was expected; may be empty.
        action: what to do next.
    """

    def __init__(self, what: str, found: str = "", action: str = ""):
        self.what, self.found, self.action = what, found, action
        super().__init__(
            " ".join(filter(None, [f"{what}:" if found else f"{what}.", found, f"→ {action}" if action else ""]))
        )

    def _render_traceback_(self) -> list[str]:
        """IPython calls this instead of printing a traceback, so a notebook shows the one line."""
        return [f"\x1b[31m✗\x1b[0m {self}"]


class OutOfMemory(LabError):
    """The device, or the machine, has no room for what was asked."""


class Interrupted(LabError):
    """A person stopped a long run; what was done so far is kept, and the same call goes on."""
