"""The one tree of errors that the domain raises.

::

    CoafiError
    ├── Refused                     the input is wrong; trying again cannot help
    │   ├── ValidationError         it breaks a schema, a limit or a format
    │   ├── AuthorizationError      nobody we trust sent it, or they may not ask for this
    │   ├── ResourceNotFoundError   it names something that does not exist
    │   ├── PolicyDenied            a rule of this installation forbids it
    │   ├── IdempotencyConflict     the same key came before with other content
    │   └── PreconditionFailed      what it wants to change is no longer what it expects
    ├── Unavailable                 something we need is out of reach; trying again helps
    │   └── LedgerUnavailable       … and without the ledger nothing may proceed
    └── IntegrityError              stored data contradicts its digest, key or proof

Anything else that escapes is *unexpected*: a defect of ours or of a library. ``activities.boundary`` translates
this tree into Temporal's terms, once; nobody branches on the text of a message.
"""

from coafi.findings import Finding


class CoafiError(Exception):
    """Base of all errors of the domain.

    Args:
        message: what is wrong and where, for a person.
        remedy: what that person can do about it.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    @property
    def kind(self) -> str:
        """The name in the tree above that this error goes by outside: its own, or that of its nearest base there."""
        return next(cls.__name__ for cls in type(self).__mro__ if cls.__module__ == __name__)


class Refused(CoafiError):
    """The input is wrong. Never retried; the event ends as rejected, with ``findings``."""

    def __init__(self, message: str, *, remedy: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings


class ValidationError(Refused):
    """The input breaks a schema, a limit or a format."""


class AuthorizationError(Refused):
    """The sender is not who it must be, or may not ask for this."""


class ResourceNotFoundError(Refused):
    """The input names something that does not exist."""


class PolicyDenied(Refused):
    """A rule of this installation forbids what the input asks for."""


class IdempotencyConflict(Refused):
    """A key that was used before comes again with other content."""


class PreconditionFailed(Refused):
    """The version that the input wants to change is no longer the newest one: somebody else was first."""


class Unavailable(CoafiError):
    """Something outside is out of reach: network, lock, full disk, a 5xx. Retried with back-off for hours.

    Args:
        retry_after: seconds the other side asked us to wait, if it did.
    """

    def __init__(self, message: str, *, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class LedgerUnavailable(Unavailable):
    """The ledger cannot be written. Runs wait for it: nothing proceeds unrecorded."""


class IntegrityError(CoafiError):
    """Stored data contradicts its digest, key or proof: damaged, or tampered with. Never retried silently."""
