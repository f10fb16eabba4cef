"""The path that scoring knows; the code is in `labkit.corpora.given`, since the database is checked, too."""

from labkit.corpora.given import printable, quoted, typed

__all__ = ["printable", "quoted", "typed"]
