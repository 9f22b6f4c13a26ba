"""The table of peers, on both databases."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.database import Database
from coafi.errors import IdempotencyConflict, ResourceNotFoundError, ValidationError
from coafi.federation.peers import Peer, PeerStatus, PeerStore, check_peer_id, check_peer_url, new_peer
from coafi.ledger.log import Ledger
from coafi.names import EntryType
from tests.coafi.federation.making import NOW, other_key, peer_of, signer
from tests.coafi.ledger.making import SIGNER, opened
from tests.postgresql import where


@pytest.fixture
def ledger(place: Path) -> Iterator[Ledger]:
    with opened(place) as made:
        yield made


@pytest.fixture
def store(place: Path, ledger: Ledger) -> Iterator[PeerStore]:
    database = Database(where(place))
    yield PeerStore(database, ledger, "default")
    database.close()


def test_a_peer_is_kept_found_by_its_keys_and_recorded(store: PeerStore, ledger: Ledger) -> None:
    acme = peer_of(
        signer(),
        accepts=("RegistryEntryChanged", "Doc*"),
        subscription=("RegistryEntryChanged:AERO/*",),
        restricted=("RegistryEntryChanged:AERO/secret-*",),
        ledger_key=str(SIGNER.key),
    )
    kept = store.put(acme, by="ada", reason="contract 12")
    assert (kept.peer, kept.version) == (acme, 1)
    assert store.get("a.example") == acme == store.by_key(acme.keys[0].keyid)
    assert store.get("b.example") is None
    assert store.by_key("x") is None
    entry = ledger.entry(kept.ledger_entry).entry
    assert (entry.type, entry.data["by"], entry.data["reason"]) == (EntryType.PEER_CHANGED, "ada", "contract 12")
    assert Peer.model_validate(entry.data["peer"]) == acme


def test_what_changes_nothing_is_not_recorded(store: PeerStore, ledger: Ledger) -> None:
    acme = peer_of(signer())
    first = store.put(acme, by="ada")
    size = ledger.size()
    assert store.put(acme, by="ada") == first
    assert ledger.size() == size


def test_a_key_belongs_to_one_peer(store: PeerStore, ledger: Ledger) -> None:
    store.put(peer_of(signer()), by="ada")
    size = ledger.size()
    with pytest.raises(IdempotencyConflict, match=r"that of the peer a\.example"):
        store.put(peer_of(signer("b.example")), by="ada")
    assert (ledger.size(), store.get("b.example")) == (size, None)


def test_keys_follow_one_another(store: PeerStore) -> None:
    old, new = signer(seed=1).public, signer(seed=2).public
    store.put(peer_of(signer()), by="ada")
    store.trust("a.example", new, by="ada")
    assert {one.keyid for one in store.require("a.example").keys} == {old.keyid, new.keyid}
    until = old.model_copy(update={"not_after": NOW + timedelta(days=1)})
    store.trust("a.example", until, by="ada")
    assert store.require("a.example").key(old.keyid) == until
    store.distrust("a.example", old.keyid, by="ada", reason="lost")
    assert store.by_key(old.keyid) is None
    assert store.require("a.example").keys == (new,)
    with pytest.raises(ResourceNotFoundError, match="no key"):
        store.distrust("a.example", old.keyid, by="ada", reason="lost")
    for seed in range(10, 17):
        store.trust("a.example", other_key(seed), by="ada")
    with pytest.raises(ValidationError, match="no more fit"):
        store.trust("a.example", other_key(20), by="ada")


def test_a_peer_is_disabled_enabled_and_gone(store: PeerStore, ledger: Ledger) -> None:
    store.put(peer_of(signer()), by="ada")
    assert store.mark_gone("a.example", by="outbox", reason="410").peer.status is PeerStatus.GONE
    assert store.enable("a.example", by="ada").peer.status is PeerStatus.ACTIVE
    assert store.disable("a.example", by="ada", reason="contract ended").peer.status is PeerStatus.DISABLED
    assert store.mark_gone("a.example", by="outbox", reason="410").peer.status is PeerStatus.DISABLED
    assert [one.entry.data["version"] for one in ledger.entries(0, ledger.size())] == [1, 2, 3, 4]
    with pytest.raises(ResourceNotFoundError):
        store.disable("nobody", by="ada", reason="")
    with pytest.raises(ValidationError, match="nobody is named"):
        store.enable("a.example", by="")
    with pytest.raises(ValidationError, match="500 printable"):
        store.enable("a.example", by="a\x1b[2J")


def test_what_a_peer_may_send_and_gets() -> None:
    peer = peer_of(
        signer(),
        accepts=("Registry*",),
        subscription=("DocumentPublished", "RegistryEntryChanged:AERO/*"),
        restricted=("DocumentPublished:*secret*",),
    )
    assert peer.may_send("RegistryEntryChanged")
    assert not peer.may_send("DocumentPublished")
    assert peer.wants("DocumentPublished", "anything")
    assert peer.wants("RegistryEntryChanged", "AERO/wing")
    assert not peer.wants("RegistryEntryChanged", "SPACE/wing")
    assert peer.is_restricted("DocumentPublished", "top-secret-1")
    assert not peer.is_restricted("DocumentPublished", "manual")
    assert peer_of(signer(), restricted=("*",)).is_restricted("RegistryEntryChanged", "AERO/x")
    assert Peer(id="a", url="https://a").is_restricted("DocumentPublished")


@pytest.mark.parametrize("value", ["", "-a", "a-", "A", "a/b", "a b", "a" * 64, "a\n", "ä"])
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no peer id"):
        check_peer_id(value)


@pytest.mark.parametrize(
    "value",
    [
        "http://acme.example",
        "https://",
        "https://u:p@acme.example",
        "https://acme.example/?q",
        "https://acme.example/#f",
        "ftp://acme.example",
        "https://acme.example:0",
        "https://acme.example:99999",
        "https://ac me.example",
        "https://acme.example/\x7f",
        "//acme.example",
    ],
)
def test_what_is_no_address_of_a_gateway_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"URL|https|neither"):
        check_peer_url(value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for check in (check_peer_url, check_peer_id):
        with contextlib.suppress(ValueError):
            assert check(text) == text.rstrip("/")


def test_what_is_wrong_of_a_new_peer_is_named() -> None:
    with pytest.raises(ValidationError, match=r"id: is no peer id.*url: starts with https"):
        new_peer(id="A B", url="http://acme.example")
