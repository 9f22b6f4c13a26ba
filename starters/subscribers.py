"""Commands about who is notified: ``subscribers``. They need the database, not Temporal."""

from coafi.notify.gone import GoneSubscribers
from coafi.notify.subscribers import Subscribers, load_subscribers
from coafi.settings import Settings
from starters.output import command_settings, out, print_json, safe, table
from starters.records import open_database


def list_subscribers(*, as_json: bool) -> None:
    """``coafi subscribers list``.

    Raises:
        ValidationError: the file of subscribers is not right.
    """
    settings = command_settings()
    subscribers = _loaded(settings)
    with open_database(settings) as database:
        gone = GoneSubscribers(database).since(subscribers)
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "host": one.host,
                    "repositories": list(one.repositories),
                    "branches": list(one.branches),
                    "registries": list(one.registries),
                    "topics": [topic.value for topic in one.topics],
                    "goneSince": gone.get(one.name),
                }
                for one in subscribers.all
            ]
        )
        return
    rows = table("Name", "Host", "Repositories", "Branches", "Registries", "Topics", "Gone since")
    for one in subscribers.all:
        rows.add_row(
            one.name,
            safe(one.host),
            safe(" ".join(one.repositories)),
            safe(" ".join(one.branches)) if one.repositories else "",
            safe(" ".join(one.registries)),
            " ".join(one.topics),
            gone.get(one.name, "–"),
        )
    out.print(rows if subscribers.all else "Nobody is notified: COAFI_SUBSCRIBERS names no file, or an empty one.")


def enable_subscriber(name: str, *, as_json: bool) -> None:
    """``coafi subscribers enable``.

    Raises:
        ResourceNotFoundError: there is no such subscriber.
    """
    settings = command_settings()
    subscriber = _loaded(settings).named(name)
    with open_database(settings) as database:
        was_gone = GoneSubscribers(database).remove(subscriber)
    if as_json:
        print_json({"name": name, "wasGone": was_gone})
    else:
        out.print(f"{safe(name)} gets messages again." if was_gone else f"{safe(name)} was not gone.")


def _loaded(settings: Settings) -> Subscribers:
    return load_subscribers(settings.subscribers, allow_private=settings.notify_allow_private)
