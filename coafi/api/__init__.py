"""Requests to ``/api/…``: which there are, what they ask for, and how they are answered."""
