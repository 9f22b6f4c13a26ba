"""Damaged input for every parser: see ``python -m tests.fuzz --help``."""
