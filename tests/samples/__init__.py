"""Sample data that more than one test needs."""
