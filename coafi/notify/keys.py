"""Symmetric keys of Standard Webhooks."""

import base64
import binascii

from pydantic import SecretStr

PREFIX = "whsec_"
"""What a symmetric key of Standard Webhooks starts with."""


def check_key(key: SecretStr) -> None:
    """Refuse what is no key.

    Raises:
        ValueError: it is not ``whsec_`` and 24 to 64 bytes in Base64.
    """
    text = key.get_secret_value()
    try:
        size = len(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not text.startswith(PREFIX) or not 24 <= size <= 64:
        raise ValueError(f"is not {PREFIX} and 24 to 64 bytes in Base64 (Standard Webhooks)")
