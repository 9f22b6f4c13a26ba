"""Tasks that schedules start: what they do, one file each, and how the file of schedules reads.

Nothing here knows Temporal: a task is called with what it was asked for and gives a typed result. ``run`` records it.
"""
