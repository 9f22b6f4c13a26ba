"""The probes of ``health-check``: database, object store, ledger, Temporal, git hosts, subscribers."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from sqlalchemy import select

from coafi.addresses import resolve
from coafi.database import Database
from coafi.database.migrate import require_current
from coafi.errors import CoafiError, IntegrityError, Unavailable
from coafi.git.heads import RemoteHeads
from coafi.ledger.checkpoint import open_checkpoint
from coafi.ledger.port import Ledger
from coafi.notify.gone import GoneSubscribers
from coafi.notify.subscribers import Subscriber, Subscribers
from coafi.objects import ObjectStore
from coafi.tasks.health_check import Probe
from coafi.tasks.history import History
from coafi.tasks.pushes import KnownPushes

_SAMPLE = b"health-check"
_MAX_HOSTS = 50
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class ServiceProbes:
    """What the service depends on.

    Attributes:
        more: further probes, by name, such as those of peers.
        allow_private: whether subscribers may be on private addresses.
    """

    database: Database
    objects: ObjectStore
    ledger: Ledger
    history: History
    pushes: KnownPushes
    heads: RemoteHeads
    subscribers: Subscribers
    gone: GoneSubscribers
    allow_private: bool
    more: Callable[[], Mapping[str, Probe]] = field(default=dict)

    def __call__(self) -> dict[str, Probe]:
        """Every probe, by name."""
        probes: dict[str, Probe] = {
            "database": self._database,
            "object-store": self._objects,
            "ledger": self._ledger,
            "temporal": self._temporal,
        }
        try:
            self.pushes.catch_up()
            probes |= {f"git:{host}": partial(self._git, url) for host, url in self._hosts().items()}
        except CoafiError:
            pass  # the database or the ledger, which say so themselves
        probes |= {f"subscriber:{one.name}": partial(self._subscriber, one) for one in self.subscribers.all}
        return probes | dict(self.more())

    def _hosts(self) -> dict[str, str]:
        """A repository of every git host that is known."""
        hosts: dict[str, str] = {}
        for source in self.pushes.sources():
            parts = urlsplit(source)
            hosts.setdefault(parts.netloc or f"{parts.scheme}:", self.pushes.of(source)[-1].url)
        return dict(list(hosts.items())[:_MAX_HOSTS])

    def _database(self, _beat: Callable[[str], None]) -> str:
        require_current(self.database)
        with self.database.write() as connection:
            connection.execute(select(1))
        return f"{self.database.dialect} takes reads and writes"

    def _objects(self, _beat: Callable[[str], None]) -> str:
        digest = self.objects.put(_SAMPLE)
        if self.objects.get(digest) != _SAMPLE:
            raise IntegrityError("the object store gives back something else")
        return "takes reads and writes"

    def _ledger(self, _beat: Callable[[str], None]) -> str:
        signed = self.ledger.checkpoint(force=True)
        found = open_checkpoint(signed.note, self.ledger.keys).checkpoint
        head = self.ledger.head()
        if head.size < found.size:
            raise IntegrityError(f"the ledger has {head.size} entries, and signed {found.size}")
        if found.size:
            self.ledger.prove(found.size - 1)
        return f"a checkpoint of {found.size:,} entries is signed by its key"

    def _temporal(self, _beat: Callable[[str], None]) -> str:
        self.history.check()
        return f"answers; runs are remembered for {self.history.retention()}"

    def _git(self, url: str, beat: Callable[[str], None]) -> str:
        return f"{len(self.heads.of(url, beat).commits)} branches of {url}"

    def _subscriber(self, subscriber: Subscriber, _beat: Callable[[str], None]) -> str:
        since = self.gone.since(self.subscribers).get(subscriber.name)
        if since is not None:
            raise Unavailable(
                f"it has wanted no messages since {since}", remedy=f"coafi subscribers enable {subscriber.name}"
            )
        what = f"the subscriber {subscriber.name}"
        addresses = resolve(subscriber.host, subscriber.port, what=what, allow_private=self.allow_private)
        for address in addresses:
            try:
                socket.create_connection((address, subscriber.port), timeout=_CONNECT_SECONDS).close()
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return "takes connections"
        raise Unavailable(f"{what} takes no connections: {reason}", remedy="see whether it runs")
