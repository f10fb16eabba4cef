"""Languages that are read letter by letter: what a grammar allows in a line."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

Place = TypeVar("Place")  # where a line is; hashable


class LetterLanguage(ABC, Generic[Place]):
    """The lines that may be written, read from `begin()` on with `read`."""

    @abstractmethod
    def begin(self) -> Place:
        """The place before the first letter."""

    @abstractmethod
    def read(self, place: Place, letter: str) -> Place | None:
        """The place after one more letter; None where no line goes on like that."""

    def place_after(self, text: str) -> Place | None:
        """The place after a text; None where no line begins like that."""
        place: Place | None = self.begin()
        for letter in text:
            if place is None:
                break
            place = self.read(place, letter)
        return place
