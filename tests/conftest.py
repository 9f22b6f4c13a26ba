"""What holds for every test."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)  # machines vary; what hangs is ended by pytest-timeout
settings.load_profile("no-deadline")
