"""For instructors: student notebooks from their sources, and a run of everything before a session."""
