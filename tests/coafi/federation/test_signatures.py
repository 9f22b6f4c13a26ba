"""Signed requests: what passes, and every way to tamper with them."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from http_message_signatures.algorithms import ED25519
from hypothesis import given
from hypothesis import strategies as st

from coafi.database import Database
from coafi.federation.keys import PeerKey
from coafi.federation.peers import PeerStatus
from coafi.federation.signatures import (
    ALWAYS,
    KEPT,
    LIFETIME,
    SKEW,
    TAG,
    Nonces,
    Reason,
    SignatureRefused,
    Verified,
    verify_request,
)
from tests.coafi.federation.making import NOW, URL, known, peer_of, signed, signer
from tests.postgresql import where

ACME = signer()
BODY = b'{"a":1}'
COVERED = (*ALWAYS, "content-type", "content-digest", "ce-id", "ce-specversion")


def verify(headers: Any, body: bytes = BODY, **changes: Any) -> Verified:
    lines = list(headers.items()) if isinstance(headers, dict) else headers
    values: dict[str, Any] = {"method": "POST", "url": URL, "peer_of": known(peer_of(ACME)), "now": NOW, **changes}
    return verify_request(values["method"], values["url"], lines, body, values["peer_of"], now=values["now"])


def refused(headers: Any, body: bytes = BODY, **changes: Any) -> Reason:
    with pytest.raises(SignatureRefused) as error:
        verify(headers, body, **changes)
    return error.value.reason


def custom(covered: tuple[str, ...] = COVERED, **changes: Any) -> dict[str, str]:
    """A signature that another implementation might make: this one is written after the RFC, without the library."""
    headers = dict(changes.pop("headers", None) or event_headers())
    sign = changes.pop("sign", ACME.private.sign)
    label = changes.pop("label", "theirs")
    said = {
        "created": int(NOW.timestamp()),
        "expires": int((NOW + LIFETIME).timestamp()),
        "nonce": "n" * 22,
        "keyid": ACME.public.keyid,
        "tag": TAG,
        **changes,
    }
    parts = urlsplit(URL)
    derived = {"@method": "POST", "@authority": parts.netloc, "@path": parts.path, "@query": f"?{parts.query}"}
    fields = {name.lower(): value for name, value in headers.items()}
    names = [one if one.startswith('"') else f'"{one}"' for one in covered]
    values = [{**derived, **fields}.get(re.findall(r'"(.*?)"', one)[0], "") for one in names]
    parameters = "".join(
        f";{key}={value}" if type(value) is int else f';{key}="{value}"' for key, value in said.items()
    )
    inputs = f"({' '.join(names)}){parameters}"
    base = "".join(f"{name}: {value}\n" for name, value in zip(names, values, strict=True))
    signature = sign(f'{base}"@signature-params": {inputs}'.encode())
    for field, value in (("Signature-Input", f"{label}={inputs}"), ("Signature", f"{label}=:{_b64(signature)}:")):
        headers[field] = f"{headers[field]}, {value}" if field in headers else value
    return headers


def event_headers(digest: str | None = None) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "ce-id": "m-1",
        "ce-specversion": "1.0",
        "Content-Digest": digest if digest is not None else f"sha-256=:{_b64(hashlib.sha256(BODY).digest())}:",
    }


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def change(headers: dict[str, str], name: str, old: str, new: str) -> dict[str, str]:
    changed = {key: value.replace(old, new) if key.lower() == name.lower() else value for key, value in headers.items()}
    assert changed != headers
    return changed


def test_what_we_sign_we_accept_and_know_whose_it_is() -> None:
    verified = verify(signed(ACME, BODY))
    assert verified.peer.id == "a.example"
    assert verified.key == ACME.public
    assert (verified.created, verified.expires) == (NOW, NOW + LIFETIME)


def test_what_others_sign_we_accept_whatever_the_order_and_the_label() -> None:
    assert verify(custom()).peer.id == "a.example"
    assert verify(custom(tuple(reversed(COVERED)))).peer.id == "a.example"
    assert verify(custom(alg="ed25519")).peer.id == "a.example"


def test_a_request_without_a_body_covers_none() -> None:
    headers = signed(ACME, None, url=URL + "?a=b")
    assert verify(headers, b"", method="GET", url=URL + "?a=b").peer.id == "a.example"
    assert "content-digest" not in headers["Signature-Input"]


def test_a_key_on_p256_signs_too() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    key = PeerKey.of(private.public_key())
    headers = custom(keyid=key.keyid, sign=lambda base: _raw(private.sign(base, ec.ECDSA(hashes.SHA256()))))
    assert verify(headers, peer_of=known(peer_of(ACME, keys=(key,)))).key == key


def _raw(der: bytes) -> bytes:
    """The two numbers of a signature side by side, as RFC 9421, section 3.3.4 wants them."""
    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))


TAMPERED: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "ce-id": lambda h: change(h, "ce-id", "m-1", "m-2"),
    "content-type": lambda h: change(h, "content-type", "json", "xml"),
    "nonce": lambda h: change(h, "signature-input", "n" * 22, "m" * 22),
    "created": lambda h: change(
        h, "signature-input", f"created={int(NOW.timestamp())}", f"created={int(NOW.timestamp()) + 1}"
    ),
    "signature": lambda h: {**h, "Signature": f"coafi=:{_b64(bytes(64))}:"},
    "short": lambda h: {**h, "Signature": f"coafi=:{_b64(bytes(8))}:"},
}


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_is_changed_the_signature_is_wrong(what: str) -> None:
    assert refused(TAMPERED[what](signed(ACME, BODY))) is Reason.SIGNATURE


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", URL),
        ("POST", "https://c.example/federation/inbox"),
        ("POST", "https://b.example:8443/federation/inbox"),
        ("POST", "https://b.example/federation/outbox"),
        ("POST", URL + "?x=1"),
    ],
)
def test_it_counts_for_one_method_authority_path_and_query(method: str, url: str) -> None:
    assert refused(signed(ACME, BODY), method=method, url=url) is Reason.SIGNATURE


def test_an_empty_query_is_as_good_as_none() -> None:
    assert verify(signed(ACME, BODY), url=URL + "?").peer.id == "a.example"  # RFC 9421, section 2.2.7: both are "?"


def test_the_default_port_is_no_part_of_the_authority_and_case_does_not_matter() -> None:
    assert verify(signed(ACME, BODY), url="https://B.Example:443/federation/inbox").peer.id == "a.example"


def test_another_body_has_another_digest() -> None:
    assert refused(signed(ACME, BODY), b'{"a":2}') is Reason.DIGEST
    assert refused(signed(ACME, BODY), b"") is Reason.DIGEST


def test_who_is_not_known_is_told_no_more_than_who_signs_wrongly() -> None:
    mallory = signer("m.example", seed=7)
    with pytest.raises(SignatureRefused) as unknown:
        verify(signed(mallory, BODY))
    with pytest.raises(SignatureRefused) as wrong:
        verify(TAMPERED["ce-id"](signed(ACME, BODY)))
    assert (unknown.value.reason, str(unknown.value)) == (wrong.value.reason, str(wrong.value))
    assert refused(custom(sign=mallory.private.sign)) is Reason.SIGNATURE


def test_an_unknown_key_takes_as_long_as_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    real = ED25519.verify

    def verify_and_count(self: ED25519, **said: bytes) -> None:
        checked.append("once")
        real(self, **said)

    monkeypatch.setattr(ED25519, "verify", verify_and_count)
    refused(signed(signer("m.example", seed=7), BODY))
    assert checked == ["once"]


def test_the_algorithm_is_that_of_the_key_whatever_the_message_says() -> None:
    public = ACME.private.public_key().public_bytes_raw()  # the public key as the secret of an HMAC: the classic
    for secret in (public, b"s" * 32):
        for forged in (
            custom(sign=lambda base, key=secret: hmac.digest(key, base, "sha256")),
            custom(sign=lambda base, key=secret: hmac.digest(key, base, "sha256"), alg="hmac-sha256"),
        ):
            assert refused(forged) is Reason.SIGNATURE
    for alg in ("rsa-v1_5-sha256", "ecdsa-p256-sha256", "none", ""):
        assert refused(custom(alg=alg)) is Reason.SIGNATURE


@pytest.mark.parametrize("left_out", COVERED)
def test_every_component_must_be_covered(left_out: str) -> None:
    assert refused(custom(tuple(one for one in COVERED if one != left_out))) is Reason.COVERAGE


def test_a_header_of_the_event_that_is_not_covered_is_refused() -> None:
    assert refused({**signed(ACME, BODY), "ce-subject": "added on the way"}) is Reason.COVERAGE


@pytest.mark.parametrize(
    "extra",
    ["@target-uri", "@scheme", '"content-digest";sf', '"content-digest";key="sha-256"', '"ce-id";bs', "content-length"],
)
def test_nothing_else_may_be_covered_and_nothing_with_parameters(extra: str) -> None:
    headers = {**event_headers(), "Content-Length": str(len(BODY))}
    assert refused(custom((*COVERED, extra), headers=headers)) is Reason.COVERAGE


@pytest.mark.parametrize("name", ['"content-digest";sf', '"ce-id";bs'])
def test_a_component_with_parameters_is_not_the_component(name: str) -> None:
    plain = re.findall(r'"(.*)"', name)[0]
    assert refused(custom(tuple(name if one == plain else one for one in COVERED))) is Reason.COVERAGE


@pytest.mark.parametrize("missing", ["created", "expires", "nonce", "tag"])
def test_every_parameter_must_be_there(missing: str) -> None:
    headers = custom()
    text = headers["Signature-Input"]
    cut = re.sub(rf';{missing}=("[^"]*"|[0-9]+)', "", text)
    assert cut != text
    assert refused({**headers, "Signature-Input": cut}) in (Reason.MALFORMED, Reason.UNSIGNED)


@pytest.mark.parametrize("nonce", ["", "short", "n" * 65, "n" * 20 + " ", "n" * 20 + "/"])
def test_a_nonce_has_a_form(nonce: str) -> None:
    assert refused(custom(nonce=nonce)) is Reason.MALFORMED


def test_parameters_that_nobody_knows_are_refused() -> None:
    headers = custom()
    assert refused({**headers, "Signature-Input": headers["Signature-Input"] + ";scope=all"}) is Reason.MALFORMED


def test_the_window_has_edges() -> None:
    headers = signed(ACME, BODY)
    second = timedelta(seconds=1)
    assert verify(headers, now=NOW - SKEW).created == NOW
    assert verify(headers, now=NOW + LIFETIME + SKEW).created == NOW
    assert refused(headers, now=NOW - SKEW - second) is Reason.FUTURE
    assert refused(headers, now=NOW + LIFETIME + SKEW + second) is Reason.EXPIRED
    assert refused(custom(expires=int((NOW + LIFETIME + second).timestamp()))) is Reason.MALFORMED
    assert refused(custom(expires=int((NOW - second).timestamp()))) is Reason.MALFORMED
    far = change(headers, "signature-input", f"created={int(NOW.timestamp())}", f"created={10**15}")
    assert (
        refused(change(far, "signature-input", f"expires={int((NOW + LIFETIME).timestamp())}", f"expires={10**15}"))
        is Reason.MALFORMED
    )


def test_a_key_counts_only_in_its_time() -> None:
    late = ACME.public.model_copy(update={"not_before": NOW + timedelta(seconds=1)})
    over = ACME.public.model_copy(update={"not_after": NOW - timedelta(seconds=1)})
    for key in (late, over):
        assert refused(signed(ACME, BODY), peer_of=known(peer_of(ACME, keys=(key,)))) is Reason.EXPIRED


def test_both_keys_count_while_they_change() -> None:
    new = signer(seed=2)
    both = known(peer_of(ACME, keys=(ACME.public, new.public)))
    for one in (ACME, new):
        assert verify(signed(one, BODY), peer_of=both).key == one.public


def test_a_disabled_peer_is_told_so_and_a_gone_one_may_still_send() -> None:
    disabled = known(peer_of(ACME, status=PeerStatus.DISABLED))
    assert refused(signed(ACME, BODY), peer_of=disabled) is Reason.DISABLED
    assert refused(TAMPERED["ce-id"](signed(ACME, BODY)), peer_of=disabled) is Reason.SIGNATURE
    assert verify(signed(ACME, BODY), peer_of=known(peer_of(ACME, status=PeerStatus.GONE))).peer.id == "a.example"


def test_a_header_may_come_once() -> None:
    for name in ("Content-Type", "Content-Digest", "ce-id", "Signature", "Signature-Input"):
        headers = signed(ACME, BODY)
        assert refused([*headers.items(), (name.upper(), headers[name])]) is Reason.MALFORMED
        # Two lines are one value to the library: the first of them, alone, is what others would read.
    first = signed(ACME, BODY, headers={"ce-id": "m-1, m-2"})
    split = [(name, value) for name, value in first.items() if name != "ce-id"] + [("ce-id", "m-1"), ("ce-id", "m-2")]
    assert refused(split) is Reason.MALFORMED


@pytest.mark.parametrize("value", ["m-1\r\n m-2", "m-1\n", "m-1\x00", "m-\x1b1", "m-ä"])
def test_folded_lines_and_control_characters_are_refused(value: str) -> None:
    assert refused({**signed(ACME, BODY), "ce-id": value}) is Reason.MALFORMED


def test_signatures_of_others_are_left_alone_and_two_of_ours_refused() -> None:
    headers = signed(ACME, BODY)
    proxy = custom(("@method",), tag="proxy", label="proxy", headers=headers)
    assert verify(proxy).peer.id == "a.example"
    twice = custom(headers=headers)
    assert refused(twice) is Reason.MALFORMED
    assert refused(custom(tag="other")) is Reason.UNSIGNED
    again = {**headers, "Signature-Input": f"{headers['Signature-Input']}, {headers['Signature-Input']}"}
    assert refused(again) is Reason.MALFORMED


def test_no_signature_half_a_signature_and_too_much_of_it() -> None:
    headers = signed(ACME, BODY)
    for left_out in ("Signature", "Signature-Input"):
        assert refused({name: value for name, value in headers.items() if name != left_out}) is Reason.UNSIGNED
    assert refused({**headers, "Signature-Input": headers["Signature-Input"] + ", " + "a" * 9_000}) is Reason.MALFORMED
    assert refused({**headers, "Signature": 'coafi="text"'}) is Reason.MALFORMED
    assert refused({**headers, "Signature": "other=:AAAA:"}) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("field", "right"),
    [
        ("sha-512=:{sha512}:", False),
        ("sha-256=:{sha256}:, sha-512=:{sha512}:", True),
        ("sha-256=:{sha256}:, sha-512=:{wrong512}:", False),
        ("sha-256=:{wrong256}:, sha-512=:{sha512}:", False),
        ("sha-256=:{wrong256}:, sha-256=:{sha256}:", False),
        ("sha-256=:{sha256}:, md5=:AAAA:", False),
        ("sha-256={sha256}", False),
        ("sha-256=:AAAA:", False),
        ('sha-256="{sha256}"', False),
        ("", False),
    ],
)
def test_every_digest_must_be_right_and_one_be_sha_256(field: str, right: bool) -> None:
    digest = field.format(
        sha256=_b64(hashlib.sha256(BODY).digest()),
        sha512=_b64(hashlib.sha512(BODY).digest()),
        wrong256=_b64(hashlib.sha256(b"x").digest()),
        wrong512=_b64(hashlib.sha512(b"x").digest()),
    )
    request = custom(headers=event_headers(digest))
    if right:
        assert verify(request).peer.id == "a.example"
    else:
        assert refused(request) is Reason.DIGEST


@given(st.text(max_size=300), st.text(max_size=120))
def test_any_signature_is_refused_in_a_proper_way(said: str, signature: str) -> None:
    headers = {**signed(ACME, BODY), "Signature-Input": said, "Signature": signature}
    with pytest.raises(SignatureRefused):
        verify(headers)


@given(st.data())
def test_no_byte_of_a_signed_request_can_be_changed(data: st.DataObject) -> None:
    headers = signed(ACME, BODY)
    name = data.draw(st.sampled_from([*sorted(headers), "body"]))
    text = BODY.decode() if name == "body" else headers[name]
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=0x20, max_codepoint=0x7E).filter(lambda one: one != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    try:
        verified = verify(headers, changed.encode()) if name == "body" else verify({**headers, name: changed})
    except SignatureRefused:
        return
    # What may differ is what is not signed: the label, consistently, or the spelling of a structured field.
    assert name in ("Signature", "Signature-Input")
    assert verified.nonce == "n" * 22
    assert verified.created == NOW


@pytest.fixture
def nonces(place: Path) -> Iterator[Nonces]:
    database = Database(where(place))
    database.create_tables()
    yield Nonces(database)
    database.close()


def test_a_nonce_is_taken_once_by_each_key(nonces: Nonces) -> None:
    new = signer(seed=2)
    both = known(peer_of(ACME, keys=(ACME.public, new.public)))
    mine, other = (verify(signed(one, BODY), peer_of=both) for one in (ACME, new))
    nonces.take(mine, now=NOW)
    nonces.take(other, now=NOW)
    with pytest.raises(SignatureRefused, match="came before") as error:
        nonces.take(mine, now=NOW)
    assert error.value.reason is Reason.REPLAYED
    nonces.give_back(mine)
    nonces.take(mine, now=NOW)


def test_a_nonce_is_remembered_beyond_the_last_moment_at_which_it_counts(nonces: Nonces) -> None:
    headers = signed(ACME, BODY)
    nonces.take(verify(headers), now=NOW)
    last = NOW + LIFETIME + SKEW
    later = verify(signed(ACME, BODY, nonce="m" * 22, now=last), now=last)
    nonces.take(later, now=last)  # it tidies up
    with pytest.raises(SignatureRefused, match="came before"):
        nonces.take(verify(headers, now=last), now=last)


def test_a_clock_that_jumps_and_comes_back_opens_no_door(nonces: Nonces) -> None:
    headers = signed(ACME, BODY)
    nonces.take(verify(headers), now=NOW)
    ahead = NOW + KEPT - timedelta(minutes=5)
    nonces.take(verify(signed(ACME, BODY, nonce="m" * 22, now=ahead), now=ahead), now=ahead)
    with pytest.raises(SignatureRefused, match="came before"):
        nonces.take(verify(headers), now=NOW)


def test_nonces_are_forgotten_in_time(nonces: Nonces) -> None:
    first = verify(signed(ACME, BODY))
    nonces.take(first, now=NOW)
    later = NOW + KEPT + LIFETIME + 2 * SKEW
    nonces.take(verify(signed(ACME, BODY, nonce="m" * 22, now=later), now=later), now=later)
    nonces.take(first, now=later)  # the row is gone: the request itself is long refused as expired
