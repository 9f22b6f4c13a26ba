"""Witnessing over HTTP: real gateways, each with a ledger and a witness of its own."""

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from coafi.federation.cosigning import (
    SIZE_TYPE,
    Answered,
    Cosigners,
    Cosigning,
    Outcome,
    WitnessAddress,
    witness_client,
)
from coafi.federation.witness import MAX_REQUEST, AddCheckpoint, format_request
from coafi.federation.witnessed import Grade, WitnessRecord
from coafi.ledger.checkpoint import open_checkpoint, parse_note, sign_checkpoint
from coafi.ledger.cosignature import cosignatures, parse_cosignatures
from coafi.ledger.fork import verify_fork
from coafi.ledger.keyfile import KeyFile
from coafi.ledger.keys import CosignerKey, load_cosigner
from coafi.ledger.rotation import rotate
from starters import embedded
from tests.coafi.ledger.making import HANG, draft
from tests.coafi.ledger.serving import Served, remote, served

ORIGIN = "plant-a.example/bitt"


def free_port() -> int:
    """A port that nobody listens on, and none that the system gives to whoever asks for any."""
    return embedded._free_port(0)


@contextmanager
def log_home(home: Path, **changes: object) -> Iterator[Served]:
    with served(home, ledger_origin=ORIGIN, bitt_append_tokens={}, bitt_tokens=(), **changes) as one:
        yield one


@contextmanager
def witness_home(home: Path, *logs: Served) -> Iterator[Served]:
    """An instance that cosigns the checkpoints of others, which its policy file names."""
    home.mkdir()
    policy = home / "policy"
    lines = [f"log {one.ledger.key} {one.url}\n" for one in logs]
    policy.write_text("".join(lines) + "quorum none\n")
    with served(home, ledger_origin=f"{home.name}.example/bitt", witness_policy=policy) as one:
        yield one


def witness_of(one: Served) -> WitnessAddress:
    key = load_cosigner(one.resources.settings.witness_key_path).key
    return WitnessAddress(key.name.partition(".")[0], key, f"{one.url}/witness")


def grow(one: Served, name: str, count: int = 3) -> None:
    one.ledger.append([draft(f"{name}/{number}") for number in range(count)])


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Served]:
    with log_home(tmp_path / "a") as one:
        grow(one, "first")
        yield one


@pytest.fixture
def witness(tmp_path: Path, log: Served) -> Iterator[Served]:
    with witness_home(tmp_path / "b", log) as one:
        yield one


def post(one: Served, body: bytes) -> httpx.Response:
    return httpx.post(f"{one.url}/witness/add-checkpoint", content=body, timeout=HANG)


def record(one: Served) -> WitnessRecord:
    return WitnessRecord(one.resources.database)


# ------------------------------------------------------------------------------------ add-checkpoint


def test_a_checkpoint_is_cosigned_and_answers_are_those_of_the_specification(log: Served, witness: Served) -> None:
    signed = log.ledger.checkpoint(force=True)
    answer = post(witness, format_request(AddCheckpoint(0, (), signed.note)))
    assert answer.status_code == 200
    key = witness_of(witness).key
    assert len(parse_cosignatures(signed.checkpoint.text(), answer.content, [key])) == 1
    grow(log, "second")
    later = log.ledger.checkpoint(force=True)

    conflict = post(witness, format_request(AddCheckpoint(0, (), later.note)))
    assert (conflict.status_code, conflict.text) == (409, f"{signed.size}\n")
    assert conflict.headers["content-type"] == "text/x.tlog.size"
    for status, body in (
        (400, b"old 0\n"),
        (400, format_request(AddCheckpoint(later.size + 1, (), later.note))),
        (403, format_request(AddCheckpoint(0, (), later.note.replace(str(later.size), str(later.size + 1), 1)))),
        (404, format_request(AddCheckpoint(0, (), witness.ledger.checkpoint(force=True).note))),
        (413, b"x" * (MAX_REQUEST + 1)),
        (422, format_request(AddCheckpoint(signed.size, (), later.note))),
    ):
        refused = post(witness, body)
        assert refused.status_code == status, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
    assert httpx.get(f"{witness.url}/witness/add-checkpoint").status_code == 405

    proof = tuple(log.ledger.consistency_proof(signed.size, later.size))
    assert post(witness, format_request(AddCheckpoint(signed.size, proof, later.note))).status_code == 200
    shown = httpx.get(f"{witness.url}/witness/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint")
    assert open_checkpoint(shown.content, log.ledger.key).checkpoint == later.checkpoint
    assert len(cosignatures(shown.content, [key])) == 1
    assert httpx.get(f"{witness.url}/witness/{'0' * 64}/checkpoint").status_code == 404
    metrics = httpx.get(f"{witness.url}/metrics").text
    assert 'coafi_witness_requests_total{status="409"}' in metrics


def test_a_log_that_changed_its_key_goes_on_being_cosigned(log: Served, witness: Served) -> None:
    old = KeyFile(log.resources.settings.ledger_key_path).current()
    with witness_client() as client:
        asks = Cosigners(log.ledger, client)
        assert asks.ask(witness_of(witness), log.ledger.checkpoint(force=True)) == Answered(Outcome.COSIGNED)
        done = rotate(log.ledger, KeyFile(log.resources.settings.ledger_key_path).prepare())
        grow(log, "after the change")
        assert log.ledger.key == done.new
        assert asks.ask(witness_of(witness), log.ledger.checkpoint(force=True)) == Answered(Outcome.COSIGNED)
        kept = record(witness).last(ORIGIN)
        assert kept is not None
        assert open_checkpoint(kept.signed.note, done.new).size == log.ledger.size()
        assert len(list((witness.resources.settings.ledger_directory / "witnessed").glob("*/hand-overs"))) == 1
        # A copy of the old key signs nothing any more that would be cosigned.
        grow(log, "more")
        stolen = sign_checkpoint(log.ledger.head(), old).note
        proof = tuple(log.ledger.consistency_proof(kept.checkpoint.size))
        refused = post(witness, format_request(AddCheckpoint(kept.checkpoint.size, proof, stolen)))
        assert refused.status_code == 403
        assert "which signed from 0 to" in refused.json()["detail"]


# --------------------------------------------------------------------------------- having it cosigned


def test_our_checkpoints_are_cosigned_by_themselves_and_published(tmp_path: Path) -> None:
    """Everything by settings alone, as an operator sets it up."""
    port = free_port()
    with log_home(tmp_path / "a") as first:  # makes the keys
        log_key = first.ledger.key
        grow(first, "first")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "policy").write_text(f"log {log_key} http://127.0.0.1:{port}\nquorum none\n")
    with served(tmp_path / "b", ledger_origin="plant-b.example/bitt", witness_policy=tmp_path / "b" / "policy") as b:
        witness = witness_of(b)
        policy = tmp_path / "a" / "policy"
        policy.write_text(f"witness b {witness.key} {witness.url}\nquorum b\n")
        with log_home(tmp_path / "a", witness_policy=policy, gateway_port=port, cosign_seconds=0.05) as a:
            for turn in range(3):
                grow(a, f"turn {turn}")
                signed = a.ledger.checkpoint(force=True)
                deadline = time.monotonic() + HANG
                while True:
                    note = httpx.get(f"{a.url}/bitt/checkpoint").text
                    if cosignatures(note, [witness.key]) and open_checkpoint(note, log_key).size >= signed.size:
                        break
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            assert [(one.size, two.key) for one, two in a.ledger.last_cosignatures()] == [
                (a.ledger.size(), witness.key)
            ]
            proof = a.ledger.prove(0)
            assert cosignatures(proof.checkpoint, [witness.key])
            kept = record(b).last(ORIGIN)
            assert kept is not None
            assert kept.checkpoint == a.ledger.head()
        assert b.ledger.size() == 0  # to cosign leaves nothing in the witness's own ledger: no loop between two


def test_a_witness_that_was_shown_more_names_the_size_and_gets_the_proof_from_there(
    log: Served, witness: Served
) -> None:
    address = witness_of(witness)
    with witness_client() as client:
        asks = Cosigners(log.ledger, client)
        early = log.ledger.checkpoint(force=True)
        # Somebody else has shown it to the witness: nothing of it is known here.
        assert post(witness, format_request(AddCheckpoint(0, (), early.note))).status_code == 200
        assert log.ledger.cosigned_size(address.key) == 0
        grow(log, "second", 9)
        later = log.ledger.checkpoint(force=True)
        assert asks.ask(address, later) == Answered(Outcome.COSIGNED)
        assert log.ledger.cosigned_size(address.key) == later.size
        assert asks.ask(address, early).outcome is Outcome.AHEAD
        gathered = asks.gather([address], HANG)
        assert gathered.signed.checkpoint == later.checkpoint
        assert len(cosignatures(gathered.signed.note, [address.key])) == 1
        assert gathered.answers == {address.name: Answered(Outcome.COSIGNED)}


def test_witnesses_that_are_away_hold_up_nobody(log: Served, witness: Served) -> None:
    good = witness_of(witness)
    other = CosignerKey("away.example", bytes([3]) + bytes(31))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)  # takes connections, and answers nothing
        slow = WitnessAddress("slow", other, f"http://127.0.0.1:{silent.getsockname()[1]}/witness")
        away = WitnessAddress("away", other, f"http://127.0.0.1:{free_port()}/witness")
        unknown = WitnessAddress("unknown", other, f"{log.url}/witness")  # which does not witness itself
        with witness_client() as client:
            asks = Cosigners(log.ledger, client)
            before = time.monotonic()
            gathered = asks.gather([slow, away, unknown, good], 3.0)
            assert time.monotonic() - before < 20
        assert {name: one.outcome for name, one in gathered.answers.items()} == {
            "slow": Outcome.UNAVAILABLE,
            "away": Outcome.UNAVAILABLE,
            "unknown": Outcome.UNAVAILABLE,
            good.name: Outcome.COSIGNED,
        }
        assert "does not know this log" in gathered.answers["unknown"].problem
        assert "out of reach" in gathered.answers["away"].problem
        assert [one.key for one in cosignatures(gathered.signed.note, [good.key, other])] == [good.key]


def answering(status: int, text: str = "", **headers: str) -> httpx.Client:
    return httpx.Client(
        transport=httpx.MockTransport(lambda _request: httpx.Response(status, text=text, headers=headers))
    )


@pytest.mark.parametrize(
    ("status", "text", "headers", "outcome"),
    [
        (200, "", {}, Outcome.UNAVAILABLE),
        (200, "ok\n", {}, Outcome.UNAVAILABLE),
        (200, "\N{EM DASH} other.example AAAAAAAAAAAA\n", {}, Outcome.UNAVAILABLE),
        (200, "x" * 70_000, {}, Outcome.UNAVAILABLE),
        (302, "", {"Location": "http://127.0.0.1/"}, Outcome.UNAVAILABLE),
        (409, "7\n", {}, Outcome.UNAVAILABLE),
        (409, "0\n", {"Content-Type": SIZE_TYPE}, Outcome.UNAVAILABLE),
        (409, "-1\n", {"Content-Type": SIZE_TYPE}, Outcome.UNAVAILABLE),
        (409, "99999999999999999999\n", {"Content-Type": SIZE_TYPE}, Outcome.UNAVAILABLE),
        (409, "9999\n", {"Content-Type": f"{SIZE_TYPE}; charset=utf-8"}, Outcome.AHEAD),
        (422, "no", {}, Outcome.REFUSED),
        (429, "", {"Retry-After": "7"}, Outcome.UNAVAILABLE),
        (503, "", {}, Outcome.UNAVAILABLE),
    ],
)
def test_whatever_a_witness_answers_is_no_cosignature(
    log: Served, status: int, text: str, headers: dict[str, str], outcome: Outcome
) -> None:
    signed = log.ledger.checkpoint(force=True)
    witness = WitnessAddress("w", CosignerKey("w.example", bytes([3]) + bytes(31)), "https://w.example/witness")
    with answering(status, text, **headers) as client:
        found = Cosigners(log.ledger, client).ask(witness, signed)
    assert found.outcome is outcome
    assert found.problem
    assert found.retry_after == (7.0 if status == 429 else None)
    assert log.ledger.checkpoint().note == signed.note


def test_a_witness_that_is_away_is_left_alone_for_longer_and_longer(log: Served) -> None:
    asked: list[float] = []

    def answer(_request: httpx.Request) -> httpx.Response:
        asked.append(time.monotonic())
        return httpx.Response(503)

    witness = WitnessAddress("w", CosignerKey("w.example", bytes([3]) + bytes(31)), "https://w.example/witness")
    with (
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        closing(Cosigning(Cosigners(log.ledger, client), lambda: [witness], seconds=0.02)) as cosigning,
    ):
        cosigning.start()
        time.sleep(2.5)
    assert 2 <= len(asked) <= 5  # after about 0, 0.5 to 1, 1 to 2 s more; without a pause it would be a hundred


# --------------------------------------------------------------------------------------- split views


def test_an_instance_that_shows_two_histories_is_found_out(tmp_path: Path) -> None:
    """Two gateways with one key and one name, of which each tells another story."""
    port = free_port()
    with log_home(tmp_path / "a", gateway_port=port) as a:
        grow(a, "common", 5)
        key, secrets = a.ledger.key, a.resources.settings.ledger_key_path
        with witness_home(tmp_path / "b", a) as b:
            address = witness_of(b)
            with witness_client() as client:
                grow(a, "told to one", 4)
                assert (
                    Cosigners(a.ledger, client).ask(address, a.ledger.checkpoint(force=True)).outcome
                    is Outcome.COSIGNED
                )
                other = tmp_path / "other" / "home" / "secrets"
                other.mkdir(parents=True, mode=0o700)
                (other / "ledger-key").write_bytes(secrets.read_bytes())
                (other / "ledger-key").chmod(0o600)
                with log_home(tmp_path / "other") as forked:
                    grow(forked, "common", 5)
                    grow(forked, "told to another", 20)
                    refused = Cosigners(forked.ledger, client).ask(address, forked.ledger.checkpoint(force=True))
                    assert refused.outcome is Outcome.REFUSED
                    assert "another history" in refused.problem
            (view,) = record(b).split_views()
            assert view.grade is Grade.PROVED
            assert view.fork is not None
            assert [one.size for one in verify_fork(view.fork, key)] == [9, 25]
            (entry,) = [one.entry for one in b.ledger.entries(0, b.ledger.size())]
            assert entry.type == "PEER_SPLIT_VIEW"


def test_a_remote_ledger_reads_cosigned_checkpoints(tmp_path: Path) -> None:
    with served(tmp_path / "a") as a, witness_home(tmp_path / "b", a) as b, witness_client() as client:
        grow(a, "first")
        asks = Cosigners(a.ledger, client)
        assert asks.ask(witness_of(b), a.ledger.checkpoint(force=True)).outcome is Outcome.COSIGNED
        with remote(a, tmp_path / "here") as ledger:
            assert cosignatures(ledger.checkpoint(force=True).note, [witness_of(b).key])
            assert parse_note(ledger.prove(0).checkpoint).signatures[0].name == a.ledger.key.name
