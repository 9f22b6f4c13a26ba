"""Settings become the adapters of one process. Nothing here needs Temporal."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coafi.database import Database
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.git.urls import UrlPolicy
from coafi.ledger.keyfile import HeldKey, KeyFile, KeySource
from coafi.ledger.keys import generate_key, parse_private_key
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

    Raises:
        IntegrityError: the ledger contradicts its last checkpoint.
        Unavailable: the database is out of reach.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database_file)
    database.create_tables()
    registry = Registry(database)
    registry.publish(builtin_schemas())
    ledger = open_ledger(settings, database)
    try:
        yield Resources(settings, database, ObjectStore(settings.objects_directory), ledger, registry)
    finally:
        ledger.close()
        database.close()


def open_ledger(settings: Settings, database: Database, key: KeySource | None = None) -> Ledger:
    """The ledger of this home, with its signing key, or with another one.

    Raises:
        ResourceNotFoundError: the ledger was begun, and its key is gone.
        IntegrityError: the ledger contradicts its last checkpoint.
        Unavailable: the database is out of reach.
    """
    return Ledger(
        database,
        origin=settings.ledger_origin,
        signer=key or ledger_key(settings, database),
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


def ledger_key(settings: Settings, database: Database) -> KeySource:
    """The signing key that the settings name. The file in this home is made if there is neither key nor ledger.

    Raises:
        ResourceNotFoundError: there is no key, and a ledger was begun or the file was named by a setting.
        AuthorizationError: others may read the file.
        ValidationError: two keys are given, or what is given is none.
    """
    if settings.ledger_key is not None:
        if settings.ledger_key_file is not None:
            raise ValidationError(
                "COAFI_LEDGER_KEY and COAFI_LEDGER_KEY_FILE are both set",
                remedy="set one of them: a ledger has one key",
            )
        return HeldKey(parse_private_key(settings.ledger_key.get_secret_value().encode()))
    key = KeyFile(settings.ledger_key_path)
    begun = is_begun(database)  # first: whoever begins the ledger makes the key before
    try:
        key.current()
    except ResourceNotFoundError:
        if begun or settings.ledger_key_file is not None:
            raise ResourceNotFoundError(
                f"there is no key file {key.path}" + (", and this home has a ledger" if begun else ""),
                remedy="put the ledger's own key back; see docs/operations.md"
                if begun
                else "make one with: coafi ledger keys generate",
            ) from None
        key.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(ValidationError):  # another process was quicker
            generate_key(key.path, settings.ledger_origin)
    return key
