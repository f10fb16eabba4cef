"""The path that scoring knows; the code is in `labkit.corpora.search`, since bots look things up, too."""

from labkit.corpora.search import DOMAINS, DONT_CARE, VenueDatabase, partial_ratio, searched_rows

__all__ = ["DOMAINS", "DONT_CARE", "VenueDatabase", "partial_ratio", "searched_rows"]
