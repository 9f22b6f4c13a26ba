"""Subscribers that want no more: remembered by name and URL, never by a URL that can be read."""

from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from coafi.database import Database
from coafi.notify.gone import GoneSubscribers
from coafi.notify.subscribers import Subscribers, load_subscribers
from tests.coafi.notify.test_subscribers import GOOD, written


def test_who_is_gone_stays_gone_until_its_url_changes_or_somebody_says_so(tmp_path: Path) -> None:
    portal = load_subscribers(written(tmp_path, [GOOD])).named("portal")
    moved = replace(portal, url=SecretStr("https://portal.example.org/moved"))
    database = Database(tmp_path / "coafi.db")
    database.create_tables()
    gone = GoneSubscribers(database)
    assert gone.since(Subscribers((portal,))) == {}
    gone.add(portal)
    (since,) = gone.since(Subscribers((portal,))).values()
    gone.add(portal)
    assert gone.since(Subscribers((portal,))) == {"portal": since}
    assert gone.since(Subscribers((moved,))) == {}
    assert not gone.remove(moved)
    assert gone.remove(portal)
    assert gone.since(Subscribers((portal,))) == {}
    assert b"hidden-token" not in (tmp_path / "coafi.db").read_bytes()
