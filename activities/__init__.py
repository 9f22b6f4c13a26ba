"""Temporal activities: thin. They call the domain, heartbeat, and translate its errors once, in ``boundary``."""
