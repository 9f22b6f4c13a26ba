"""Subscribers that want no more: remembered by name and URL, never by a URL that can be read."""

from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from coafi.database import Database
from coafi.notify.gone import GoneSubscribers, gone_subscriber
from coafi.notify.subscribers import Subscribers, load_subscribers
from tests.coafi.notify.test_subscribers import GOOD, written
from tests.postgresql import where


def test_who_is_gone_stays_gone_until_its_url_changes_or_somebody_says_so(place: Path) -> None:
    portal = load_subscribers(written(place, [GOOD])).named("portal")
    moved = replace(portal, url=SecretStr("https://portal.example.org/moved"))
    database = Database(where(place))
    database.create_tables()
    gone = GoneSubscribers(database)
    assert gone.since(Subscribers((portal,))) == {}
    gone.add(portal)
    (since,) = gone.since(Subscribers((portal,))).values()
    gone.add(portal)
    assert gone.since(Subscribers((portal,))) == {"portal": since}
    assert gone.since(Subscribers((moved,))) == {}
    assert not gone.remove(moved)
    gone.add(moved)
    assert gone.remove(portal)
    assert gone.since(Subscribers((portal,))) == {}
    with database.read() as connection:
        assert "hidden-token" not in str(connection.execute(select(gone_subscriber)).all())
    database.close()
