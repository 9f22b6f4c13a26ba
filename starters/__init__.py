"""starters."""
