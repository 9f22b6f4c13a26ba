"""Every setting of the service, from the environment (``COAFI_…``). Nothing is read when a module is imported."""

import difflib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeGuard

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from coafi.errors import ValidationError

if TYPE_CHECKING:
    from coafi.database import PostgresqlAddress


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _lower(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.lower() for part in value)


def _decode(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("is not JSON") from None


def _as_lists(value: object) -> object:
    value = _decode(value)
    return {key: [one] if isinstance(one, str) else one for key, one in value.items()} if _is_object(value) else value


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _lower_keys(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    return {key.lower(): secret for key, secret in value.items()}


def _database_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        from coafi.database import PostgresqlAddress  # SQLAlchemy is loaded only where it is used

        try:
            PostgresqlAddress.parse(value.get_secret_value())
        except ValidationError as error:
            raise ValueError(str(error)) from None
    return value


def _roles(value: dict[str, tuple[str, ...]] | None) -> dict[str, tuple[str, ...]] | None:
    if value:
        from coafi.auth.roles import check_role

        for role, given in value.items():
            check_role(role, given)
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value().encode()) < 32:
        raise ValueError("is shorter than 32 bytes")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    from coafi.notify.keys import check_key

    check_key(value)
    return value


AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
HostList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_lower)]
PathList = Annotated[tuple[AbsolutePath, ...], NoDecode, BeforeValidator(_split)]
HostSecrets = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_decode), AfterValidator(_lower_keys)]
SecretList = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
SourceSecrets = Annotated[
    dict[str, Annotated[tuple[WebhookSecret, ...], Field(min_length=1)]], NoDecode, BeforeValidator(_as_lists)
]
InstanceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
Tokens = Annotated[tuple[Annotated[SecretStr, Field(min_length=1)], ...], Field(min_length=1)]
InstanceTokens = Annotated[dict[InstanceName, Tokens], NoDecode, BeforeValidator(_as_lists)]
RoleTable = Annotated[dict[str, tuple[str, ...]] | None, NoDecode, BeforeValidator(_decode), AfterValidator(_roles)]
PositiveSeconds = Annotated[float, Field(gt=0, le=30 * 86_400)]


_PREFIXES = ("COAFI_", "BITT_API_", "REGISTRY_API_")


_OTHER_INSTANCE = r"^((https://[^\s?#@/]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?)(/[^\s?#@]*)?)?$"


class Settings(BaseSettings):
    """The service's settings. A description here is the text of the settings table in ``docs/settings.md``."""

    model_config = SettingsConfigDict(env_prefix="COAFI_", frozen=True, extra="ignore", validate_by_name=True)

    home: AbsolutePath = Field(
        Path(".coafi"),
        validate_default=True,
        description="Directory of all local state: database, objects, mirrors, keys.",
    )
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        SecretStr(""),
        description="`postgresql://user:password@host/database`, see [operations](operations.md#on-postgresql); "
        "empty: the SQLite file in the home.",
    )
    secrets_dir: AbsolutePath | None = Field(
        None,
        description="Directory of mounted secrets: a file in it that is named like a variable here is that setting, "
        "unless the environment says otherwise.",
    )
    objects_url: str = Field(
        "",
        pattern=r"^(s3://[^\s?#@]+)?$",
        description="`s3://bucket/prefix`: where the object store is; empty: `objects` in the home. See "
        "[operations](operations.md#objects-on-s3).",
    )
    s3_endpoint: str = Field(
        "", pattern=r"^(https?://[^\s?#@/]+/?)?$", description="Base URL of an S3 server that is not that of AWS."
    )
    s3_region: str = Field("", description="Region of the bucket; empty: `AWS_REGION`, or that of the machine.")
    s3_access_key_id: str = Field(
        "", description="Who asks; empty: `AWS_ACCESS_KEY_ID`, or the role of machine, task or pod."
    )
    s3_secret_access_key: SecretStr = Field(
        SecretStr(""), description="The secret of that key; empty: `AWS_SECRET_ACCESS_KEY`."
    )
    log_format: str = Field(
        "auto", pattern="^(auto|json|console)$", description="`json`, `console`, or `auto`: console on a terminal."
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="Least severe level that is logged."
    )

    temporal_address: str = Field(
        "", description="`host:port` of Temporal; empty: the embedded server of the `coafi up` that uses this home."
    )
    temporal_profile: str = Field(
        "",
        description="Profile of `temporal.toml` that says how Temporal is reached (address, TLS, API key), as far as "
        "`TEMPORAL_…` does not. See [operations](operations.md#a-temporal-of-your-own).",
    )
    temporal_namespace: str = Field("default", min_length=1, description="Temporal namespace.")
    temporal_ui: str = Field("", description="Base URL of Temporal's Web UI, for links; empty: the embedded one.")
    temporal_port: int = Field(7233, ge=0, le=65_535, description="Port of the embedded server; if taken, a free one.")
    temporal_ui_port: int = Field(8233, ge=0, le=65_535, description="Port of its Web UI; if taken, a free one.")
    temporal_start_timeout: PositiveSeconds = Field(
        5.0, description="Seconds the gateway tries to start a run before it answers 503."
    )

    gateway_host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    gateway_port: int = Field(8080, ge=0, le=65_535, description="Port of the gateway; embedded: if taken, a free one.")
    github_webhook_secret: SecretList = Field(
        (), description="Secrets of GitHub webhooks, comma-separated (rotation); empty: `secrets/github-webhook`."
    )
    events_secrets: SourceSecrets = Field(
        default_factory=dict,
        description="Secrets of those who send events of ledgers, as JSON: patterns of sources, each with a secret "
        '`whsec_…` or a list of them (rotation): `{"https://ledger.example.org/*": "…"}`, see [events of '
        "ledgers](ledger-events.md); empty: `secrets/events-webhook`, for every source.",
    )
    events_max_body_bytes: int = Field(
        256 * 1024, ge=1, le=1024 * 1024, description="Largest event of a ledger that is accepted, in bytes."
    )
    events_rate: Annotated[float, Field(gt=0)] = Field(
        50.0, description="Events of ledgers per second that each sender may send, in the long run, per gateway."
    )
    events_burst: int = Field(200, ge=1, description="Events of ledgers that a sender may send at once.")
    bitt_subscriptions: AbsolutePath | None = Field(
        None,
        description="File that says what is done about which events of ledgers, see [events of "
        "ledgers](ledger-events.md); if unset, the built-in subscriptions to compliance failures count.",
    )
    causation_depth: int = Field(
        8, ge=1, le=8, description="Runs that may lie between an event and the one from outside that caused it."
    )
    max_body_bytes: int = Field(25 * 2**20, ge=1, description="Largest webhook body that is accepted, in bytes.")

    api_wait: Annotated[float, Field(ge=0, le=60)] = Field(
        10.0, description="Seconds that a caller of the API waits for an answer who says nothing about it (`Prefer`)."
    )
    api_max_body_bytes: int = Field(
        512 * 1024, ge=1, le=1024 * 1024, description="Largest body of a request to the API, in bytes."
    )
    api_rate: Annotated[float, Field(gt=0)] = Field(
        50.0, description="Requests per second that each caller of the API may send, in the long run, per gateway."
    )
    api_burst: int = Field(200, ge=1, description="Requests that a caller of the API may send at once.")

    public_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#@]+)?$",
        description="Base URL at which people reach the gateway, for links; empty: its own address.",
    )
    docs_tokens: SecretList = Field(
        (),
        description="Tokens that open the documentation, comma-separated: as password of any user, or as bearer; "
        "empty: it is open on a loopback address, and closed on any other.",
    )
    api_keys_file: AbsolutePath | None = Field(
        None, description="File of the API keys, see [authentication](auth.md); empty: `secrets/api-keys.json`."
    )
    auth_jwks_url: str = Field(
        "",
        pattern=r"^((https://[^\s?#@/]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?)(/[^\s#@]*)?)?$",
        description="URL at which the identity provider publishes the keys of its tokens (JWKS): https, or http on "
        "this machine.",
    )
    auth_key_file: AbsolutePath | None = Field(
        None,
        description="File of a key that tokens are verified with (PEM), or of a set of them (JWKS); empty: "
        "`secrets/auth-key.pem`, which `coafi auth token` makes.",
    )
    auth_secret: Annotated[SecretStr, AfterValidator(_long_enough)] = Field(
        SecretStr(""),
        validation_alias="AUTH_SECRET",
        description="Secret of 32 bytes or more that tokens are signed and verified with (HS256).",
    )
    auth_secret_file: Path | None = Field(
        None,
        validation_alias="AUTH_SECRET_FILE",
        description="File that holds that secret, instead of the secret itself.",
    )
    auth_issuer: str = Field(
        "", description="Issuer (`iss`) that tokens must have; empty: `coafi`, that of `coafi auth token`."
    )
    auth_audience: str = Field("coafi", min_length=1, description="Audience (`aud`) that tokens must be for.")
    auth_skew: Annotated[float, Field(ge=0, le=300)] = Field(
        30.0, description="Seconds that the clock of a token's issuer may differ."
    )
    auth_roles: RoleTable = Field(
        None,
        description='What roles may do, as JSON: `{"reader": ["api:*:GET"]}`; '
        "if unset, the [built-in ones](auth.md#roles) count, and else none of them.",
    )

    index_debounce: Annotated[float, Field(ge=0, le=86_400)] = Field(
        1.0, description="Seconds that the update of an index waits for more commits."
    )

    subscribers: Path | None = Field(
        None, description="File that says who is notified of updates, see [operations](operations.md); nobody if unset."
    )
    notify_patience: PositiveSeconds = Field(
        3 * 86_400.0, description="Seconds that a notification is tried again while its subscriber is out of reach."
    )
    notify_timeout: Annotated[float, Field(gt=0, le=300)] = Field(
        10.0, description="Seconds that a subscriber may take to answer."
    )
    notify_allow_private: bool = Field(
        False, description="Allow subscribers on private and loopback addresses, and by plain http."
    )

    peers_patience: PositiveSeconds = Field(
        7 * 86_400.0, description="Seconds that a peer is tried that is out of reach, before its outbox pauses."
    )
    peers_timeout: Annotated[float, Field(gt=0, le=300)] = Field(
        10.0, description="Seconds that a peer may take to answer."
    )
    peers_checkpoint: PositiveSeconds = Field(
        60.0, description="Seconds between two checkpoints of the ledger that a peer is told, at least."
    )

    git_hosts: HostList = Field(
        (), description="Hosts that may be fetched from, comma-separated; empty: every public one."
    )
    git_ssh_hosts: HostList = Field((), description="Hosts that may be fetched from by ssh, comma-separated.")
    git_ssh_identity: Path | None = Field(None, description="Private key for ssh; without it there is no ssh.")
    git_ssh_known_hosts: Path | None = Field(None, description="Host keys that ssh accepts, and no others.")
    git_file_roots: PathList = Field(
        (), description="Directories below which `file://` repositories are allowed, comma-separated."
    )
    git_allow_http: bool = Field(False, description="Allow repositories by plain http.")
    git_allow_private: bool = Field(False, description="Allow repositories on private and loopback addresses.")
    git_tokens: HostSecrets = Field(
        default_factory=dict, description='Access tokens per git host, as JSON: `{"github.com": "…"}`.'
    )
    git_timeout: PositiveSeconds = Field(600.0, description="Seconds that one git command may take.")
    git_max_files: int = Field(200_000, ge=1, description="Most changed files of one commit.")
    git_max_blob_bytes: int = Field(10 * 2**20, ge=1, description="Largest file that is read, in bytes.")
    git_max_commit_bytes: int = Field(512 * 2**20, ge=1, description="Most bytes of changed files of one commit.")
    git_mirrors_bytes: int = Field(20 * 2**30, ge=1, description="Disk space for mirrors; the least recently used go.")

    git_patience: PositiveSeconds = Field(
        6 * 3600.0, description="Seconds that `git.fetch` is retried while its host is out of reach, before parking."
    )
    files_patience: PositiveSeconds = Field(
        6 * 3600.0, description="Seconds that a batch is retried while something is out of reach, before parking."
    )
    parked_patience: PositiveSeconds = Field(
        30 * 86_400.0, description="Seconds that a parked run waits for a decision, before it is dead-lettered."
    )

    api_patience: PositiveSeconds = Field(
        6 * 3600.0,
        description="Seconds that a change of another instance's registry is retried while that one is out of reach, "
        "before parking.",
    )

    events_slots: int = Field(20, ge=1, description="Activities of queue `coafi-events` at a time, per worker.")
    git_slots: int = Field(4, ge=1, description="Activities of queue `coafi-git` at a time, per worker.")
    files_slots: int = Field(4, ge=1, description="Activities of queue `coafi-files` at a time, per worker.")
    api_slots: int = Field(4, ge=1, description="Activities of queue `coafi-api` at a time, per worker.")
    delivery_slots: int = Field(8, ge=1, description="Activities of queue `coafi-delivery` at a time, per worker.")
    tasks_slots: int = Field(2, ge=1, description="Activities of queue `coafi-tasks` at a time, per worker.")
    git_rate: float | None = Field(None, gt=0, description="Activities per second of queue `coafi-git`, all workers.")
    files_rate: float | None = Field(
        None, gt=0, description="Activities per second of queue `coafi-files`, all workers."
    )
    api_queue_rate: float | None = Field(
        None, gt=0, description="Activities per second of queue `coafi-api`, all workers."
    )
    delivery_rate: float | None = Field(
        None, gt=0, description="Activities per second of queue `coafi-delivery`, all workers."
    )
    tasks_rate: float | None = Field(
        1.0,
        gt=0,
        description="Activities per second of queue `coafi-tasks`, all workers; one is up to 1,000 documents that are "
        "held against a new schema.",
    )
    drain_timeout: PositiveSeconds = Field(10.0, description="Seconds that running activities get when a worker stops.")
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port on which workers or a listener without a gateway serve `/metrics`; none if unset.",
    )
    temporal_metrics_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Port on which `coafi worker` serves `/metrics` of Temporal's SDK, which has an exporter of its "
        "own; none if unset.",
    )

    ledger_origin: str = Field(
        "coafi.local/bitt", pattern=r"^[^\s+]{1,200}$", description="Name of the ledger in its signed checkpoints."
    )
    instance: InstanceName | None = Field(
        None,
        description="Name of this instance among those that share a ledger: lower-case letters, digits, dots and "
        "dashes. Never change it: it is part of every entry's key.",
    )
    bitt_tokens: SecretList = Field(
        (),
        description="Tokens that open the ledger's entries at `/bitt/`, comma-separated, see [ledger](ledger.md); "
        "without any token they are open on a loopback address, and closed on any other.",
    )
    bitt_append_tokens: InstanceTokens = Field(
        default_factory=dict,
        description="Tokens with which other instances append to this ledger, and read it, as JSON: "
        '`{"instance": "…"}`, or a list of tokens (rotation).',
    )
    bitt_api_url: str = Field(
        "",
        validation_alias="BITT_API_URL",
        pattern=_OTHER_INSTANCE,
        description="Base URL of another instance's gateway, whose ledger this one uses: https, or http on this "
        "machine; empty: a ledger of its own.",
    )
    bitt_api_key: str = Field(
        "",
        validation_alias="BITT_API_KEY",
        description="A verifier key that that ledger has or had, as `coafi ledger keys list` shows it.",
    )
    bitt_api_token: SecretStr = Field(
        SecretStr(""), validation_alias="BITT_API_TOKEN", description="Token that the other instance gave to this one."
    )
    bitt_api_token_file: Path | None = Field(
        None,
        validation_alias="BITT_API_TOKEN_FILE",
        description="File that holds the token, instead of the token itself.",
    )

    registry_api_url: str = Field(
        "",
        validation_alias="REGISTRY_API_URL",
        pattern=_OTHER_INSTANCE,
        description="Base URL of another instance's gateway, whose registry this one uses, see "
        "[registry](registry.md): https, or http on this machine; empty: a registry of its own.",
    )
    registry_api_token: SecretStr = Field(
        SecretStr(""),
        validation_alias="REGISTRY_API_TOKEN",
        description="API key or token with which this instance asks the other one.",
    )
    registry_api_token_file: Path | None = Field(
        None,
        validation_alias="REGISTRY_API_TOKEN_FILE",
        description="File that holds it, instead of the key or token itself; it is read whenever it is used.",
    )
    registry_stale: Annotated[float, Field(ge=0, le=30 * 86_400)] = Field(
        600.0,
        description="Seconds that the schemas of the other instance's registry go on being used while it is out of "
        "reach.",
    )

    federation_id: InstanceName | None = Field(
        None,
        description="What peers know this instance by, see [federation](federation.md): lower-case letters, digits, "
        "dots and dashes; empty: the name of the ledger, with dashes for what else it holds.",
    )
    federation_key_file: AbsolutePath | None = Field(
        None,
        description="File of the key that signs what is sent to peers; empty: `secrets/federation-key`. It is made if "
        "missing.",
    )
    federation_rate: Annotated[float, Field(gt=0)] = Field(
        50.0, description="Requests per second that each peer may send, in the long run, per gateway."
    )
    federation_burst: int = Field(200, ge=1, description="Requests that a peer may send at once.")

    ledger_key_file: AbsolutePath | None = Field(
        None, description="File of the ledger's signing key; empty: `secrets/ledger-key`, which is made if missing."
    )
    ledger_key: SecretStr | None = Field(
        None, description="The signing key itself, a line `PRIVATE+KEY+…`, instead of a file."
    )

    witness_name: str = Field(
        "",
        pattern=r"^[^\s+]{0,255}$",
        description="Name under which this instance cosigns the checkpoints of others, see [witnessing](witnessing.md);"
        " empty: the ledger's name and `/witness`. It is part of the key, which keeps the name that it was made with.",
    )
    witness_key_file: AbsolutePath | None = Field(
        None, description="File of the key that cosigns; empty: `secrets/witness-key`, which is made if missing."
    )
    witness_policy: Path | None = Field(
        None,
        description="Policy file (C2SP tlog-policy): witnesses that are asked to cosign, besides peers, logs that are "
        "cosigned here, and which cosignatures a receipt must have.",
    )
    witness_quorum: int | None = Field(
        None,
        ge=0,
        description="How many of the witnesses that are asked must have cosigned the checkpoint of a receipt, or "
        "`coafi receipt` warns; if unset: all of them. A policy file says it itself.",
    )
    witness_wait: Annotated[float, Field(ge=0, le=300)] = Field(
        10.0, description="Seconds that `coafi receipt` waits for witnesses."
    )
    cosign_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        1.0, description="Seconds between two looks whether there is a new checkpoint to have cosigned."
    )

    schedules: AbsolutePath | None = Field(
        None, description="File of schedules, see [schedules](schedules.md); empty: those of the package."
    )
    schedules_apply: bool = Field(
        False, description="Apply the file of schedules whenever `coafi up` starts, as `coafi schedules apply --yes`."
    )
    archive_directory: AbsolutePath | None = Field(
        None, description="Directory that the task `archive` writes to; empty: `archive` in the home."
    )

    @property
    def archives(self) -> Path:
        """Where archives of the ledger go."""
        return self.archive_directory or self.home / "archive"

    @property
    def ledger_namespace(self) -> str:
        """What keeps the keys of this instance's entries apart from those of others that share the ledger."""
        return f"{self.instance}/{self.temporal_namespace}" if self.instance else self.temporal_namespace

    @property
    def database(self) -> "Path | PostgresqlAddress":
        """Where the database is."""
        url = self.database_url.get_secret_value()
        if not url:
            return self.database_file
        from coafi.database import PostgresqlAddress

        return PostgresqlAddress.parse(url)

    @property
    def database_file(self) -> Path:
        """The SQLite database, unless another one is set."""
        return self.home / "coafi.db"

    @property
    def objects_directory(self) -> Path:
        """The object store."""
        return self.home / "objects"

    @property
    def mirrors_directory(self) -> Path:
        """Mirrors of git repositories; a cache that may be deleted."""
        return self.home / "mirrors"

    @property
    def ledger_directory(self) -> Path:
        """What must not share the database's fate: the last checkpoint."""
        return self.home / "ledger"

    @property
    def ledger_key_path(self) -> Path:
        """The file of the ledger's signing key, unless the key itself was given."""
        return self.ledger_key_file or self.secrets_directory / "ledger-key"

    @property
    def federation_peer(self) -> str:
        """Our own peer id."""
        name = self.federation_id or re.sub(r"[^a-z0-9.]+", "-", self.ledger_origin.lower())[:63].strip("-.")
        return name or "coafi"

    @property
    def federation_key_path(self) -> Path:
        """The file of the key that signs what is sent to peers."""
        return self.federation_key_file or self.secrets_directory / "federation-key"

    @property
    def witness_key_path(self) -> Path:
        """The file of the key that cosigns."""
        return self.witness_key_file or self.secrets_directory / "witness-key"

    @property
    def api_keys_path(self) -> Path:
        """The file of API keys."""
        return self.api_keys_file or self.secrets_directory / "api-keys.json"

    @property
    def auth_key_path(self) -> Path:
        """The file of the keys that tokens are verified with."""
        return self.auth_key_file or self.secrets_directory / "auth-key.pem"

    @property
    def secrets_directory(self) -> Path:
        """Keys and secrets that were generated here, readable by their owner only."""
        return self.home / "secrets"


def variable(name: str) -> str:
    """The environment variable of a setting; a name that is one already stays."""
    field = Settings.model_fields.get(name)
    if field is None:
        return name
    return str(field.validation_alias or f"COAFI_{name.upper()}")


def load_settings() -> Settings:
    """The settings from the environment.

    Raises:
        ValidationError: a variable has a value that is not allowed, or a name that no setting has; every one of them
            is named.
    """
    known = [variable(name) for name in Settings.model_fields]
    mounted = _mounted(os.environ.get("COAFI_SECRETS_DIR", ""))
    names = {*os.environ, *(file.name for file in mounted)}
    strangers = [name for name in names if name.upper().startswith(_PREFIXES) and name.upper() not in known]
    if strangers:
        raise ValidationError(
            "; ".join(f"{name} is no setting{_similar(name, known)}" for name in sorted(strangers)),
            remedy="correct the environment; see docs/settings.md",
        )
    try:
        return Settings(_secrets_dir=mounted[0].parent if mounted else None)
    except pydantic.ValidationError as error:
        problems = [
            f"{variable(str(problem['loc'][0]))}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise ValidationError("; ".join(problems), remedy="correct the environment; see docs/settings.md") from None


def _mounted(directory: str) -> list[Path]:
    """The files that are settings.

    Raises:
        ValidationError: there is no such directory, or it cannot be read.
    """
    if not directory:
        return []
    try:
        return sorted(file for file in Path(directory).absolute().iterdir() if file.is_file())
    except OSError as error:
        raise ValidationError(
            f"COAFI_SECRETS_DIR: {directory} cannot be read: {error.strerror}",
            remedy="mount the secrets there, or unset it",
        ) from None


def _similar(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"; did you mean {found[0]}?" if found else ""
