"""What a person decides, as the options ``--by`` and ``--reason`` say it."""

from pydantic import ValidationError as ModelError

from coafi.errors import ValidationError
from coafi.recording import Decision


def decision_of(by: str, reason: str) -> Decision:
    """The decision.

    Raises:
        ValidationError: who or why is empty, too long, or has control characters.
    """
    try:
        return Decision(by=by, reason=reason)
    except ModelError as error:
        problem = error.errors()[0]
        raise ValidationError(
            f"--{problem['loc'][0]}: {problem['msg']}", remedy="say it in 1 to 500 characters"
        ) from None
