"""Settings become the adapters of one process. Nothing here needs Temporal."""

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from coafi.bitt.event import own_source
from coafi.bitt.subscriptions import SubscriptionFile
from coafi.database import Database
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.git.urls import UrlPolicy
from coafi.ledger.keyfile import HeldKey, KeyFile, KeySource
from coafi.ledger.keys import VerifierKey, generate_key, parse_private_key
from coafi.ledger.log import Ledger as LocalLedger
from coafi.ledger.log import is_begun
from coafi.ledger.port import Ledger
from coafi.ledger.published import PublishedCheckpoint
from coafi.ledger.remote import RemoteLedger
from coafi.objects import ObjectStore
from coafi.objects.local import LocalObjectStore
from coafi.registry.calls import RegistryClient
from coafi.registry.local import LocalRegistry
from coafi.registry.port import Registry
from coafi.registry.remote import RemoteRegistry
from coafi.registry.store import builtin_schemas
from coafi.registry.tables import registry_entry
from coafi.secret_files import read_secret
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
    """Open database, object store, ledger and registry of the home of ``settings``, and close them afterwards.

    The tables are made, or brought to the version of this software.

    Raises:
        IntegrityError: the ledger contradicts its last checkpoint.
        ValidationError: the tables are those of newer software; or the settings of a remote ledger or registry are not
            complete, or not those of this home.
        Unavailable: the database is out of reach.
    """
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(settings.database)
    database.create_tables()
    with contextlib.ExitStack() as stack:
        stack.callback(database.close)
        ledger = open_ledger(settings, database)
        stack.callback(ledger.close)
        registry = stack.enter_context(open_registry(settings, database, ledger))
        yield Resources(settings, database, open_objects(settings), ledger, registry)


def open_objects(settings: Settings) -> ObjectStore:
    """The object store that the settings name.

    Raises:
        ValidationError: the URL names no bucket.
    """
    if not settings.objects_url:
        return LocalObjectStore(settings.objects_directory)
    from coafi.objects.s3 import Bucket, S3ObjectStore

    bucket = Bucket.parse(
        settings.objects_url,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        key_id=settings.s3_access_key_id,
        secret=settings.s3_secret_access_key,
    )
    return S3ObjectStore(bucket)


def event_source(resources: Resources) -> str:
    """The source of the events that are entries of this instance's."""
    return own_source(resources.ledger.key.name, resources.settings.ledger_namespace)


def load_subscriptions(settings: Settings) -> SubscriptionFile:
    """The subscriptions to events of ledgers, which are right now.

    Raises:
        ValidationError: they are not.
    """
    subscriptions = SubscriptionFile(settings.bitt_subscriptions)
    subscriptions.load()
    return subscriptions


@contextmanager
def open_registry(settings: Settings, database: Database, ledger: Ledger) -> Iterator[Registry]:
    """The registry of this home, with the schemas of the package; or that of another instance if the settings name it.

    Raises:
        ValidationError: the settings of a remote registry are not complete, or this home has entries of its own.
        Unavailable: the database is out of reach.
    """
    if settings.registry_api_url:
        with database.read() as connection:
            own = connection.execute(select(registry_entry.c.entry_id).limit(1)).first()
        if own is not None:
            raise ValidationError(
                f"the home {settings.home} has entries of its own, and REGISTRY_API_URL names another registry",
                remedy="unset it, or take another COAFI_HOME: nobody would see those entries any more",
            )
        with remote_registry(settings) as remote:
            yield remote
        return
    registry = LocalRegistry(database, ledger)
    registry.publish(builtin_schemas())
    yield registry


@contextmanager
def remote_registry(settings: Settings) -> Iterator[RemoteRegistry]:
    """The registry of another instance, which needs no database here.

    Raises:
        ValidationError: its settings are not complete.
    """
    if not settings.registry_api_token.get_secret_value() and settings.registry_api_token_file is None:
        raise ValidationError(
            "REGISTRY_API_URL is set, and REGISTRY_API_TOKEN or REGISTRY_API_TOKEN_FILE must be too",
            remedy="see docs/registry.md",
        )
    client = RegistryClient(
        settings.registry_api_url,
        token=lambda: _registry_token(settings),
        caller=settings.ledger_namespace,
    )
    registry = RemoteRegistry(client, namespace=settings.ledger_namespace, stale_seconds=settings.registry_stale)
    try:
        yield registry
    finally:
        registry.close()


def _registry_token(settings: Settings) -> SecretStr:
    """The token as it is now: a file may be renewed while the process runs."""
    given = settings.registry_api_token
    if settings.registry_api_token_file is None or given.get_secret_value():
        return given
    return read_secret(settings.registry_api_token_file)


def open_ledger(settings: Settings, database: Database, key: KeySource | None = None) -> Ledger:
    """The ledger of this home, with its signing key or another one; that of another instance if the settings name it.

    Raises:
        ValidationError: the settings of a remote ledger are not complete, or this home has used another one.
        ResourceNotFoundError: the ledger was begun, and its key is gone.
        IntegrityError: the ledger contradicts its last checkpoint.
        Unavailable: the database is out of reach.
    """
    remote_state = settings.ledger_directory / "remote"
    if settings.bitt_api_url:
        return _remote_ledger(settings, database, remote_state)
    if PublishedCheckpoint(remote_state).read() is not None:
        raise ValidationError(
            f"the home {settings.home} has used the ledger of another instance, and BITT_API_URL is not set",
            remedy="set it, or take another COAFI_HOME: a home keeps to one ledger",
        )
    return LocalLedger(
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


def _remote_ledger(settings: Settings, database: Database, state: Path) -> RemoteLedger:
    if is_begun(database):
        raise ValidationError(
            f"the home {settings.home} has a ledger of its own, and BITT_API_URL names another",
            remedy="unset it, or take another COAFI_HOME: a home keeps to one ledger",
        )
    token = settings.bitt_api_token
    if settings.bitt_api_token_file is not None and not token.get_secret_value():
        token = read_secret(settings.bitt_api_token_file)
    missing = [
        name
        for name, given in (
            ("BITT_API_KEY", settings.bitt_api_key),
            ("BITT_API_TOKEN", token.get_secret_value()),
            ("COAFI_INSTANCE", settings.instance),
        )
        if not given
    ]
    if missing:
        raise ValidationError(
            f"BITT_API_URL is set, and {' and '.join(missing)} must be too", remedy="see docs/ledger.md"
        )
    if re.fullmatch(r"[!-~]+", token.get_secret_value()) is None:
        raise ValidationError("BITT_API_TOKEN holds what no HTTP header may hold", remedy="take a token of plain ASCII")
    return RemoteLedger(
        settings.bitt_api_url,
        token=token,
        key=VerifierKey.parse(settings.bitt_api_key),
        database=database,
        state_directory=state,
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
