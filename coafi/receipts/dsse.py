"""A signed statement: the Dead Simple Signing Envelope, https://github.com/secure-systems-lab/dsse (protocol.md).

What is signed is not the payload but its pre-authentication encoding, ``DSSEv1 <length> <type> <length> <payload>``. It
has a space before its first newline, and the text of a checkpoint has none, so one key may sign both.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Final, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from coafi.errors import IntegrityError, ValidationError
from coafi.ledger.keys import VerifierKey, decode_base64

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Signature(_Model):
    """One signature: ``keyid`` is a hint, the vkey's ``<name>+<id>``; ``sig`` is base64."""

    keyid: str = Field(max_length=512)
    sig: str = Field(max_length=128)


class Envelope(_Model):
    """An envelope with one signature. The names are those of the wire; ``payload`` is base64."""

    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815  # the format's name
    signatures: tuple[Signature] = Field(strict=False)


def pae(payload: bytes) -> bytes:
    """The pre-authentication encoding of a payload of :data:`PAYLOAD_TYPE`."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def key_id(key: VerifierKey) -> str:
    """What names a key in an envelope: the vkey without its public key."""
    return f"{key.name}+{key.key_id.hex()}"


def seal(payload: bytes, key: VerifierKey, sign: Callable[[bytes], bytes]) -> Envelope:
    """An envelope around ``payload``, signed by whoever holds the other half of ``key``."""
    signature = base64.b64encode(sign(pae(payload))).decode("ascii")
    return Envelope(
        payload=base64.b64encode(payload).decode("ascii"),
        payloadType=PAYLOAD_TYPE,
        signatures=(Signature(keyid=key_id(key), sig=signature),),
    )


def parse_envelope(data: bytes) -> Envelope:
    """An envelope from its JSON.

    Raises:
        ValidationError: it is none of ours.
    """
    try:
        return Envelope.model_validate_json(data)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise ValidationError(
            f"the envelope is not one: {where or 'document'}: {first['msg']}", remedy="get it again from its source"
        ) from None


def open_envelope(envelope: Envelope, keys: Sequence[VerifierKey]) -> tuple[bytes, VerifierKey]:
    """The payload of an envelope that one of ``keys`` signed, and that key.

    Raises:
        ValidationError: payload or signature are not base64, or it is signed by another key.
        IntegrityError: the signature is wrong.
    """
    (signature,) = envelope.signatures
    key = next((one for one in keys if key_id(one) == signature.keyid), None)
    if key is None:
        raise ValidationError(
            f"the envelope is signed by {signature.keyid[:300]!r}, which is none of the given keys",
            remedy="check which key you trust",
        )
    try:
        payload, signed = decode_base64(envelope.payload), decode_base64(signature.sig)
    except ValueError as error:
        raise ValidationError(
            f"the envelope's payload or signature is {error}", remedy="get it again from its source"
        ) from None
    if not key.verifies(signed, pae(payload)):
        raise IntegrityError(
            f"the signature of {signature.keyid} under the envelope is wrong",
            remedy="statement or signature was changed: get it again",
        )
    return payload, key
