"""The course's diagrams as SVG: `python -m labkit.course.drawings` writes labkit/notebook/diagrams/*.svg anew."""
