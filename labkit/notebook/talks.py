"""Whole conversations to look at, static: what was said, and what the simulated user thought of each reply."""

from collections.abc import Sequence
from html import escape

from labkit.interaction.scores import Account, ConversationScores
from labkit.notebook.view import LabelledText, bubble, bubbles_in_order, marked
from labkit.shown import Shown


def show_account(account: Account) -> Shown:
    """`scores.explain(key)` as a dialogue: which wishes were fulfilled, and each fault below its reply."""
    bubbles = []
    for user, reply, thought in account.turns:
        said: list[LabelledText] = [("bot", reply)]
        if thought:
            said.append(("user's thought", thought))
        bubbles.append(bubble([("user", user)], bot=False))
        bubbles.append(bubble(said, bot=True))
    marks = marked("Success", account.success) + " " + marked("strict", account.strict_success)
    head = f"<p><b>{escape(account.dialogue_id)}</b> {marks} {escape(account.ending)}</p>"
    wishes = "".join(f"<li>{escape(wish)}</li>" for wish in account.wishes)
    listed = f'<ul style="list-style:none;padding-left:0">{wishes}</ul>'
    return Shown(head + listed + bubbles_in_order(bubbles), str(account))


def show_scores(runs: dict[str, ConversationScores]) -> Shown:
    """Scores of several bots side by side, a row for each: {name: scores}."""
    heading = ("bot", "states", "goals", "Success", "strict Success", "mwzeval's Success", "left by the user")
    rows: list[Sequence[str]] = []
    for name, scores in runs.items():
        theirs = scores.by_mwzeval.get("success")
        shares = [scores.success, scores.strict_success, theirs, scores.abandoned]
        rows.append((name, scores.states, str(scores.n), *[_short(share) for share in shares]))
    cells = [f"<th>{escape(name)}</th>" for name in heading]
    lines = ["".join(cells)]
    for row in rows:
        lines.append("".join(f"<td>{escape(text)}</td>" for text in row))
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    text = "\n".join("  ".join(row) for row in [heading, *rows])
    return Shown(f"<table>{table}</table>", text)


def _short(share: object) -> str:
    """ "64 [50, 76]"; "–" where there is none."""
    interval = getattr(share, "interval", None)
    if interval is None:
        return "–"
    low, high = interval
    return f"{share.percent:.0f} [{low:.0f}, {high:.0f}]"
