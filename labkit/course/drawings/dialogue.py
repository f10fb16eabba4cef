"""Diagrams of dialogues: the system's loop, how it is scored, the loss mask, the chain of clusters."""

from labkit.course.drawings.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SMALL, Canvas


def loop() -> Canvas:
    """Context → state → database → reply, and round again."""
    canvas = Canvas("loop", 560)
    steps = [
        ("Context", "`user> a cheap place in the centre?", BLUE, "the model writes"),
        ("Belief state", "`restaurant: price=cheap, area=centre", ORANGE, "is looked up"),
        ("Database", "`3 restaurants match", GREEN, "the model writes"),
        ("Reply with placeholders", "`[restaurant_name] is a good one", ORANGE, "filled from the database"),
        ("Text for the user", "`curry garden is a good one", BLUE, ""),
    ]
    for number, (title, example, colour, then) in enumerate(steps):
        top = 12 + 112 * number
        canvas.labelled(120, top, 360, 62, [title, example], colour=colour)
        if then:
            canvas.line([(300, top + 62), (300, top + 110)])
            canvas.text(312, top + 91, then, size=SMALL, at="start")
    canvas.line([(120, 491), (50, 491), (50, 43), (118, 43)])
    canvas.text(38, 267, "the user answers", size=SMALL, turn=-90)
    return canvas


def scores() -> Canvas:
    """Inform and Success as a flow."""
    canvas = Canvas("scores", 620)
    canvas.text(165, 24, "For each domain of the user’s goal", look="bold")
    questions = [
        (
            ["Does the goal need an offer?", "(a taxi does not, nor does", "a venue that the user names)"],
            "Inform passes",
            GREEN,
        ),
        (["Does a reply hold the", "placeholder of a name?", "`[hotel_name]"], "Inform fails", RED),
        (["The state is looked up.", "Does all that is found", "meet the goal?"], "Inform fails", RED),
    ]
    for number, (lines, otherwise, colour) in enumerate(questions):
        top = 40 + 122 * number
        canvas.box(20, top, 290, 82, colour=BLUE)
        for at, line in enumerate(lines):
            look = "mono" if line.startswith("`") else ""
            canvas.text(165, top + 26 + 19 * at, line.lstrip("`"), look=look)
        canvas.line([(310, top + 41), (350, top + 41)])
        canvas.text(328, top + 33, "no", size=SMALL)
        canvas.labelled(352, top + 20, 120, 42, [otherwise], colour=colour)
        canvas.line([(165, top + 82), (165, top + 120)])
        canvas.text(177, top + 106, "yes", size=SMALL, at="start")
    canvas.labelled(95, 408, 140, 42, ["Inform passes"], colour=GREEN)
    canvas.line([(165, 450), (165, 486)])
    canvas.box(20, 488, 290, 62, colour=BLUE)
    canvas.text(165, 514, "Did every requested slot stand")
    canvas.text(165, 533, "as a placeholder in some reply?")
    canvas.line([(310, 519), (350, 519)])
    canvas.text(328, 511, "no", size=SMALL)
    canvas.labelled(352, 498, 120, 42, ["Success fails"], colour=RED)
    canvas.line([(165, 550), (165, 576)])
    canvas.text(177, 568, "yes", size=SMALL, at="start")
    canvas.labelled(88, 578, 154, 36, ["Success passes"], colour=GREEN)
    canvas.line([(472, 81), (488, 81), (488, 468), (171, 468)], dashed=True)
    return canvas


def mask() -> Canvas:
    """One dialogue as one sequence, with the loss on the bot's tokens."""
    canvas = Canvas("mask", 430)
    turns = [
        ["user>", "i", "need", "a", "hotel", "⏎"],
        ["bot>", "which", "area", "?", "⏎"],
        ["user>", "the", "north", "⏎"],
        ["bot>", "[hotel_name]", "is", "nice", "⏎"],
    ]
    canvas.text(20, 24, "token, and below it its label", at="start", size=SMALL)
    for number, tokens in enumerate(turns):
        top = 36 + 84 * number
        left = 20.0
        for at, token in enumerate(tokens):
            width = 116 if len(token) > 8 else 68
            label = "-100"
            colour = GREY
            is_learnt = tokens[0] == "bot>" and at > 0
            if is_learnt:
                label = token
                colour = ORANGE
            middle = left + width / 2
            canvas.box(left, top, width, 56, colour=colour, dashed=not is_learnt)
            canvas.text(middle, top + 23, token, size=SMALL, look="mono")
            canvas.text(middle, top + 46, label, size=SMALL, look="mono")
            left += width + 8
    canvas.box(20, 386, 26, 26, colour=ORANGE)
    canvas.text(56, 404, "has a loss", size=SMALL, at="start")
    canvas.box(180, 386, 26, 26, colour=GREY, dashed=True)
    canvas.text(216, 404, "is read, and has none", size=SMALL, at="start")
    return canvas


def chain() -> Canvas:
    """BEGIN, clusters, END."""
    canvas = Canvas("chain", 590)
    canvas.text(115, 24, "the user’s clusters", size=SMALL)
    canvas.text(385, 24, "the bot’s clusters", size=SMALL)
    states = [
        (200, 38, "BEGIN", PURPLE),
        (20, 118, "asks for a place", BLUE),
        (290, 198, "asks back", ORANGE),
        (20, 278, "says the area", BLUE),
        (290, 358, "makes an offer", ORANGE),
        (20, 438, "thanks", BLUE),
        (290, 478, "says goodbye", ORANGE),
        (200, 544, "END", PURPLE),
    ]
    for left, top, name, colour in states:
        width = 100 if name in ("BEGIN", "END") else 190
        canvas.labelled(left, top, width, 40, [name], colour=colour)
    arrows = [
        ("M200 58 L115 58 L115 116", 4.0, (145, 48), "1.0"),
        ("M115 158 L115 218 L288 218", 2.4, (205, 210), "0.6"),
        ("M210 138 L490 138 L490 378 L482 378", 1.6, (430, 130), "0.4"),
        ("M385 238 L385 289 L212 289", 4.0, (300, 281), "1.0"),
        ("M115 318 L115 378 L288 378", 4.0, (160, 370), "1.0"),
        ("M340 358 L340 309 L212 309", 1.2, (364, 340), "0.3"),
        ("M340 398 L340 446 L212 446", 2.8, (300, 438), "0.7"),
        ("M115 478 L115 500 L288 500", 4.0, (205, 492), "1.0"),
        ("M385 518 L385 564 L302 564", 4.0, (345, 556), "1.0"),
    ]
    for path, width, (x, y), share in arrows:
        canvas.path(path, width=width)
        canvas.text(x, y, share, size=SMALL)
    return canvas
