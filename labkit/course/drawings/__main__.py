"""Write all diagrams into labkit/notebook/diagrams."""

from pathlib import Path

from labkit.course.drawings import dialogue, model
from labkit.course.drawings.canvas import Canvas
from labkit.storage import write_text

FOLDER = Path(__file__).parents[2] / "notebook" / "diagrams"


def drawings() -> list[Canvas]:
    """All of them."""
    return [
        dialogue.loop(),
        dialogue.scores(),
        dialogue.mask(),
        model.lora(),
        model.nf4(),
        model.cache(),
        dialogue.chain(),
        model.memory(),
    ]


if __name__ == "__main__":
    for canvas in drawings():
        print(write_text(FOLDER / f"{canvas.name}.svg", canvas.svg()))
