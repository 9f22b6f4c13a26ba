"""Artifacts: the pages and canonical data that derive from valid documents, byte for byte reproducible."""
