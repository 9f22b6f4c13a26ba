"""The registry: schemas (and, later, entries of every registry), by id and version."""
