"""Settings become the adapters of one process. Nothing here needs Temporal."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coafi.database import Database
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.git.urls import UrlPolicy
from coafi.ledger.keys import Signer, generate_key, load_key
from coafi.ledger.log import Ledger, is_begun
from coafi.objects import ObjectStore
from coafi.registry.store import Registry, builtin_schemas
from coafi.settings import Settings


@dataclass(frozen=True)
class Resources:
    """The adapters of one process."""

    settings: Settings
    database: Database
    objects: ObjectStore
    ledger: Ledger
    registry: Registry


@contextmanager
def open_resources(settings: Settings) -> Iterator[Resources]:
    """Open database, object store and ledger in the home of ``settings``, and close them afterwards.

    The tables are made, or brought to the version of this software.

    Raises:
        IntegrityError: the ledger contradicts its last checkpoint.
        ValidationError: the tables are those of newer software.
        Unavailable: the database is out of reach.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database)
    database.create_tables()
    registry = Registry(database)
    registry.publish(builtin_schemas())
    ledger = open_ledger(settings, database)
    try:
        yield Resources(settings, database, ObjectStore(settings.objects_directory), ledger, registry)
    finally:
        ledger.close()
        database.close()


def open_ledger(settings: Settings, database: Database) -> Ledger:
    """The ledger of this home, with its signing key.

    Raises:
        ResourceNotFoundError: the ledger was begun, and its key is gone.
        IntegrityError: the ledger contradicts its last checkpoint.
        Unavailable: the database is out of reach.
    """
    return Ledger(
        database,
        origin=settings.ledger_origin,
        signer=_ledger_key(settings, database),
        state_directory=settings.ledger_directory,
    )


def url_policy(settings: Settings) -> UrlPolicy:
    """What the settings say of repositories' URLs."""
    return UrlPolicy(
        hosts=frozenset(settings.git_hosts),
        ssh_hosts=frozenset(settings.git_ssh_hosts),
        file_roots=settings.git_file_roots,
        allow_http=settings.git_allow_http,
        allow_private_addresses=settings.git_allow_private,
    )


def _ledger_key(settings: Settings, database: Database) -> Signer:
    path = settings.secrets_directory / "ledger-key"
    begun = is_begun(database)  # first: whoever begins the ledger makes the key before
    try:
        return load_key(path)
    except ResourceNotFoundError:
        if begun:
            raise ResourceNotFoundError(
                f"there is no key file {path}, and this home has a ledger",
                remedy="put the ledger's own key back; see docs/operations.md",
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return generate_key(path, settings.ledger_origin)
        except ValidationError:  # another process was quicker
            return load_key(path)
