"""The course as static pages, and the decoding lab with a model in it."""
