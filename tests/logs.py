"""Where the logs of what runs in the process of a test go."""

import sys

import structlog


def log_aside() -> None:
    """Not to standard output: a command that runs in the process of a test answers there."""
    structlog.reset_defaults()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
