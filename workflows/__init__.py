"""Temporal workflows: one per kind of event. ``run`` reads as the story of the event."""
