"""Keys of peers."""

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from coafi.errors import AuthorizationError, ResourceNotFoundError, ValidationError
from coafi.federation.keys import FederationKey, KeyAlgorithm, PeerKey
from tests.coafi.federation.making import NOW, signer


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    key = PeerKey.of(Ed25519PublicKey.from_public_bytes(public))
    assert key.keyid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # appendix A.3
    assert PeerKey.parse(str(key)) == key


def test_a_key_on_p256_is_read_back_and_has_a_name() -> None:
    key = PeerKey.of(ec.generate_private_key(ec.SECP256R1()).public_key())
    assert key.algorithm is KeyAlgorithm.ECDSA_P256
    assert PeerKey.parse(str(key)) == key
    assert len(key.keyid) == 43


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519",
        "ed25519:",
        "ed25519:AAAA",
        "hmac-sha256:" + "A" * 43 + "=",
        "rsa-v1_5-sha256:" + "A" * 43 + "=",
        "ed25519:" + "A" * 43 + "=",  # the point of order 4
        "ed25519:" + "B" * 43,
        "ecdsa-p256-sha256:" + "A" * 44,
    ],
)
def test_what_is_no_key_or_one_that_anybody_can_sign_for_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="no public key of a peer"):
        PeerKey.parse(text)


@given(st.text(max_size=200))
def test_any_text_is_a_key_or_refused(text: str) -> None:
    with contextlib.suppress(ValidationError):
        assert str(PeerKey.parse(text)) == text.strip()


def test_a_key_counts_in_its_time() -> None:
    key = signer().public.model_copy(update={"not_before": NOW, "not_after": NOW + timedelta(days=1)})
    moments = [-1, 0, 86_400, 86_401]
    assert [key.counts_at(NOW + timedelta(seconds=one)) for one in moments] == [False, True, True, False]


def test_our_own_key_is_made_once_and_can_be_followed_by_another(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "federation-key"
    key = FederationKey(path, "a.example")
    first = key.current().public
    assert FederationKey(path, "a.example").current().public == first
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ResourceNotFoundError, match="no key to follow"):
        key.promote()
    second = key.prepare().public
    assert (key.current().public, key.prepare().public) == (first, second)
    assert key.promote().public == second
    assert key.successor() is None
    with pytest.raises(ValidationError, match=r"that of the peer a\.example"):
        FederationKey(path, "b.example").current()
    path.chmod(0o644)
    with pytest.raises(AuthorizationError, match="open to others"):
        FederationKey(path, "a.example").current()
