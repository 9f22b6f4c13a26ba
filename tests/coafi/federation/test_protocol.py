"""The worked example of docs/federation.md, checked without the code that made it."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coafi.federation.keys import FederationSigner
from coafi.federation.messages import MessageType, parse_message
from coafi.federation.signatures import LIFETIME, MAX_FIELD, SKEW, Reason, verify_request
from coafi.ledger.keys import Signer
from coafi.registry.builtin import BuiltinSchemas
from tests.coafi.federation.making import known, peer_of

PAGE = (Path(__file__).parents[3] / "docs" / "federation.md").read_text()
KEY = FederationSigner(Signer("acme.example", bytes(range(32))))


def example() -> tuple[list[tuple[str, str]], bytes, str]:
    """Headers, body and signature base, as they are printed."""
    (request,) = re.findall(r"```http\n(.*?)```", PAGE, re.DOTALL)
    head, _, body = request.partition("\n\n")
    headers = [tuple(line.split(": ", 1)) for line in head.splitlines()[1:]]
    base = re.findall(r"```text\n(\"@method.*?)\n```", PAGE, re.DOTALL)[0]
    return headers, body.rstrip("\n").encode(), base


def test_the_example_is_what_it_says() -> None:
    headers, body, base = example()
    fields = {name.lower(): value for name, value in headers}
    said = fields["signature-input"].removeprefix("coafi=")
    derived = {"@method": "POST", "@authority": fields["host"], "@path": "/federation/inbox", "@query": "?"}
    names = re.findall(r'"([^"]+)"', said.partition(")")[0])
    lines = [f'"{name}": {({**fields, **derived})[name]}' for name in names]
    assert base == "\n".join([*lines, f'"@signature-params": {said}'])
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert fields["content-digest"] == f"sha-256=:{digest}:"
    signature = base64.b64encode(Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(base.encode())).decode()
    assert fields["signature"] == f"coafi=:{signature}:"
    assert str(KEY.public) in PAGE
    assert KEY.public.keyid in said


def test_the_example_is_accepted_and_fits_its_schema() -> None:
    headers, body, _ = example()
    moment = datetime(2026, 11, 27, 12, 0, 30, tzinfo=UTC)
    peers = known(peer_of(KEY))
    verified = verify_request("POST", "https://b.example/federation/inbox", headers, body, peers, now=moment)
    assert verified.peer.id == "acme.example"
    message = parse_message(headers, body)
    schema = BuiltinSchemas().find(message.schema_id)
    assert schema is not None
    assert schema.violations(message.data) == ()


def test_numbers_types_and_reasons_are_those_of_the_code() -> None:
    assert f"at most {LIFETIME.total_seconds():.0f} s apart" in PAGE
    assert f"from {SKEW.total_seconds():.0f} s before `created` until {SKEW.total_seconds():.0f} s after" in PAGE
    assert all(f"`{one.event_type}`" in PAGE for one in MessageType)
    answers = PAGE.partition("### Answers")[2].partition("### Receipts")[0]
    rows = {int(row[0]): row[1] for row in re.findall(r"^\| (\d{3})[^|]*\| ([^|]*)\|", answers, re.MULTILINE)}
    for reason in Reason:
        assert f"`{reason}`" in rows[reason.status], reason
    assert len(dict(example()[0])["Signature-Input"]) * 4 < MAX_FIELD
