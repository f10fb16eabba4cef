"""What a notebook shows: dialogue view, plots, widgets, results board, exercises."""
