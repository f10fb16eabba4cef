"""Diagrams of models: LoRA, an NF4 block, the cache, and the memory of a training step."""

from labkit.course.drawings.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SMALL, Canvas
from labkit.notebook.exercises.notebook2 import NF4


def lora() -> Canvas:
    """W + (α/r)BA."""
    canvas = Canvas("lora", 450)
    canvas.labelled(150, 10, 200, 40, ["output [out]"], colour=BLUE)
    canvas.circle(250, 90, 15, colour=PURPLE)
    canvas.text(250, 96, "+", look="bold", size=18)
    canvas.line([(250, 75), (250, 52)])
    canvas.labelled(20, 160, 190, 170, ["W", "[out, in]", "frozen", "16 or 4 bits"], colour=GREY)
    canvas.line([(115, 160), (115, 90), (233, 90)])
    canvas.labelled(290, 140, 80, 120, ["B", "[out, r]"], colour=ORANGE)
    canvas.text(380, 185, "trained", size=SMALL, at="start")
    canvas.text(380, 203, "begins at 0", size=SMALL, at="start")
    canvas.labelled(240, 290, 180, 44, ["A  [r, in]"], colour=ORANGE)
    canvas.text(428, 307, "trained", size=SMALL, at="start")
    canvas.text(428, 325, "random", size=SMALL, at="start")
    canvas.line([(330, 290), (330, 262)])
    canvas.line([(330, 140), (330, 90), (267, 90)])
    canvas.text(340, 112, "times α / r", at="start")
    canvas.labelled(150, 396, 200, 40, ["input x [in]"], colour=BLUE)
    canvas.line([(200, 396), (200, 366), (115, 366), (115, 332)])
    canvas.line([(300, 396), (300, 366), (330, 366), (330, 336)])
    return canvas


def nf4() -> Canvas:
    """One block of weights in 4 bits."""
    weights = [0.12, -0.31, 0.05, 0.40, -0.08, 0.22]
    scale = max(map(abs, weights))
    scaled = [weight / scale for weight in weights]
    codes = []
    for value in scaled:
        distances = [abs(float(level) - value) for level in NF4]
        codes.append(distances.index(min(distances)))
    canvas = Canvas("nf4", 470)
    rows = [
        ("the weights (6 of a block of 64)", [f"{weight:.2f}" for weight in weights], BLUE),
        (f"divided by the largest, {scale:.2f}", [f"{value:.2f}" for value in scaled], BLUE),
        ("the place of the nearest of 16 numbers: 4 bits", [str(code) for code in codes], ORANGE),
    ]
    tops = (34, 124, 310)
    for top, (title, cells, colour) in zip(tops, rows, strict=True):
        canvas.text(20, top - 10, title, at="start")
        for number, cell in enumerate(cells):
            canvas.labelled(20 + 78 * number, top, 70, 38, [f"`{cell}"], colour=colour)
    canvas.text(20, 202, "the 16 numbers, and where these weights fall", at="start")
    left, width = 30, 440
    canvas.line([(left, 240), (left + width, 240)], head=False)
    half = width / 2
    middle = left + half
    for level in NF4:
        x = middle + half * float(level)
        canvas.line([(x, 226), (x, 254)], head=False, width=2)
    for value in scaled:
        canvas.circle(middle + half * value, 240, 5, colour=RED)
    for value in (-1, 0, 1):
        canvas.text(middle + half * value, 274, str(value), size=SMALL)
    canvas.labelled(
        20,
        376,
        460,
        82,
        ["What is stored", "64 × 4 bits, and one scale of 8 bits a block;", "256 scales share 32 bits"],
        colour=GREEN,
    )
    return canvas


def cache() -> Canvas:
    """The KV cache, and one prefill for all replies of a dialogue."""
    canvas = Canvas("cache", 500)
    canvas.text(20, 26, "Prefill: one pass", look="bold", at="start")
    canvas.text(332, 26, "One pass a token", look="bold", at="start")
    for number in range(8):
        left = 20 + 50 * number
        name = f"t{number + 1}"
        colour = BLUE
        is_new = number >= 6
        if is_new:
            left += 12
            name = f"w{number - 5}"
            colour = ORANGE
        middle = left + 21
        canvas.box(left, 40, 42, 34, colour=colour)
        canvas.text(middle, 62, name, size=SMALL, look="mono")
        canvas.box(left, 122, 42, 34, colour=GREEN)
        canvas.text(middle, 144, "k v", size=SMALL, look="mono")
        canvas.line([(middle, 74), (middle, 120)])
    canvas.text(20, 182, "keys and values that are kept; every new token reads them", at="start")
    canvas.line([(20, 206), (480, 206)], head=False, width=1, dashed=True)
    canvas.text(20, 240, "One dialogue, three replies to write", look="bold", at="start")
    for number in range(3):
        left = 20 + 126 * number
        x = left + 108
        top = 340 + 50 * number
        canvas.labelled(left, 256, 118, 40, [f"turn {number + 1}"], colour=BLUE)
        canvas.line([(x, 296), (x, top + 18), (x + 18, top + 18)])
        canvas.labelled(x + 20, top, 90, 36, [f"reply {number + 1}"], colour=ORANGE)
    canvas.text(20, 324, "read once", size=SMALL, at="start")
    return canvas


def memory() -> Canvas:
    """Where the memory of a training step goes, in bytes for each parameter of the base model."""
    canvas = Canvas("memory", 400)
    per_byte = 28.75  # units: 16 bytes are as wide as the sheet
    bars = [
        (
            "Full fine-tuning, 32 bits: 16 bytes",
            [("weights 4", 4, BLUE), ("gradients 4", 4, ORANGE), ("AdamW 8", 8, PURPLE)],
        ),
        ("LoRA, 16-bit base: 2.1 bytes", [("", 2, BLUE), ("", 0.1, RED)]),
        ("QLoRA, 4-bit base: 0.6 bytes", [("", 0.52, BLUE), ("", 0.1, RED)]),
    ]
    notes = ["", "weights 2, and 0.1 for all of the adapter", "weights 0.5, and 0.1 for all of the adapter"]
    for number, (title, parts) in enumerate(bars):
        top = 36 + 96 * number
        canvas.text(20, top - 10, title, look="bold", at="start")
        left = 20.0
        for name, size, colour in parts:
            width = per_byte * size
            if name:
                canvas.labelled(left, top, width, 44, [name], colour=colour)
            else:
                canvas.box(left, top, width, 44, colour=colour)
            left += width
        if notes[number]:
            canvas.text(left + 12, top + 27, notes[number], size=SMALL, at="start")
    canvas.labelled(
        20,
        304,
        460,
        86,
        [
            "and on top, for all three: activations",
            "what each layer keeps for the way back;",
            "they grow with batch × length, not with the bits",
        ],
        colour=GREEN,
    )
    return canvas
