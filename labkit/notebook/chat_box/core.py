"""The chat in core widgets only, for a front end where custom widgets are off."""

from typing import TYPE_CHECKING

from labkit.errors import LabError
from labkit.notebook.chat_box.exchange import Talk

if TYPE_CHECKING:
    import ipywidgets


def box(talk: Talk) -> "ipywidgets.VBox":
    """The widgets: Enter sends, and so does leaving the field, for instance to click on Send.

    The field tells its value when it changes for good, and not with every key: an Enter would then overtake the last
    letters, which a slow kernel gets late. All is written by the handler itself: Colab does not redraw a widget that a
    thread changes. So the user's line is shown first, and the answer when it is whole.
    """
    import ipywidgets as w

    log = w.HTML(talk.show().html)
    line = w.Text(
        description="you",
        placeholder="i am looking for …",
        layout={"flex": "1 1 20em", "max_width": "34em"},
        continuous_update=False,
    )
    whole = {"flex": "0 0 auto", "width": "auto"}  # else a narrow window cuts both to "S…"
    send = w.Button(description="Send", layout=whole)
    again = w.Button(description="Start over", layout=whole)

    def say(_: object) -> None:
        text = line.value
        if not text:  # it changes once more when it is emptied
            return
        line.value = ""
        log.value = talk.waiting(text).html
        log.value = talk.respond(text).html

    def restart(_: object) -> None:
        talk.restart()
        log.value = talk.show().html

    def let_partner_speak(_: object) -> None:
        try:
            log.value = talk.let_partner_speak().html
        except LabError as error:
            log.value = talk.show(f"⚠ {error}").html

    line.observe(say, names="value")
    send.on_click(say)
    again.on_click(restart)
    # turned round, a box keeps its lower end in sight when it grows, and the field below it stays where it is
    newest = w.Box([log], layout={"flex_flow": "column-reverse", "max_height": "34em", "overflow": "auto"})
    buttons = [send, again]
    if talk.partner is not None:
        partner = w.Button(description="Let the simulated user speak", layout=whole)
        partner.on_click(let_partner_speak)
        buttons.append(partner)
    return w.VBox([newest, w.HBox([line, *buttons], layout={"flex_flow": "row wrap"})])
