"""Settings become a witness, and the witnesses that are asked."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from coafi.database import Database
from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.federation.cosigning import WitnessAddress
from coafi.federation.peer_log import PeerLog, log_client
from coafi.federation.peers import PeerStatus, PeerStore
from coafi.federation.witness import Witness, WitnessedLog
from coafi.ledger.keys import Cosigner, CosignerKey, VerifierKey, generate_cosigner, load_cosigner
from coafi.ledger.policy import MAX_POLICY, Policy, parse_policy, quorum_of
from coafi.settings import Settings
from workers.resources import Resources


def witness_key(settings: Settings) -> Cosigner:
    """The key that cosigns. The file in this home is made if there is none.

    Raises:
        ResourceNotFoundError: a file is named by a setting, and is not there.
        AuthorizationError: others may read the file.
        ValidationError: it holds no such key, or one of another name than the settings say.
    """
    path = settings.witness_key_path
    try:
        found = load_cosigner(path)
    except ResourceNotFoundError:
        if settings.witness_key_file is not None:
            raise
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(ValidationError):  # another process was quicker
            generate_cosigner(path, settings.witness_name or f"{settings.ledger_origin}/witness")
        found = load_cosigner(path)
    if settings.witness_name and found.name != settings.witness_name:
        raise ValidationError(
            f"the witness's key in {path} is that of {found.name}, and COAFI_WITNESS_NAME is {settings.witness_name}",
            remedy="set the name of the key; or move its file away for a new key, and give that to everybody",
        )
    return found


def witness_policy(settings: Settings) -> Policy | None:
    """The policy file of this instance, if it has one.

    Raises:
        ValidationError: it cannot be read, or is none.
    """
    path = settings.witness_policy
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return parse_policy(file.read(MAX_POLICY + 1))
    except OSError as error:
        raise ValidationError(
            f"the policy file {path} cannot be read: {error.strerror}", remedy="correct COAFI_WITNESS_POLICY"
        ) from error
    except ValidationError as error:
        raise ValidationError(f"the policy file {path}: {error.message}", remedy=error.remedy) from error


@dataclass(frozen=True)
class KnownLogs:
    """The logs that are cosigned here: those of peers, and of the policy file."""

    others: Callable[[], Sequence[WitnessedLog]]
    policy: Policy | None

    def of(self, origin: str) -> WitnessedLog | None:
        """See :class:`coafi.federation.witness.Logs`."""
        for one in (*self.others(), *self._listed()):
            if one.key.name == origin:
                return one
        return None

    def _listed(self) -> Iterator[WitnessedLog]:
        for log in self.policy.logs if self.policy else ():
            yield WitnessedLog(log.key.name, log.key, log.url)


@dataclass(frozen=True)
class KnownWitnesses:
    """The witnesses that are asked to cosign: peers, and those of the policy file that have a URL. Each key once."""

    others: Callable[[], Sequence[WitnessAddress]]
    policy: Policy | None

    def __call__(self) -> list[WitnessAddress]:
        """Who is asked now."""
        found: dict[CosignerKey, WitnessAddress] = {}
        for one in (*self.others(), *self._listed()):
            found.setdefault(one.key, one)
        return list(found.values())

    def wanted(self, quorum: int | None) -> Policy:
        """Which cosignatures a receipt should have: what the policy file says, or so many of those that are asked.

        Raises:
            ValidationError: the quorum is larger than what there is.
        """
        return self.policy or quorum_of([one.key for one in self()], quorum)

    def _listed(self) -> Iterator[WitnessAddress]:
        for one in self.policy.witnesses if self.policy else ():
            if one.key is not None and one.url:
                yield WitnessAddress(one.name, one.key, one.url)


def known_logs(settings: Settings, database: Database) -> KnownLogs:
    """Whose checkpoints are cosigned here. A peer that is disabled has to do without.

    Raises:
        ValidationError: the policy file is not right.
    """
    store = PeerStore(database)

    def of_peers() -> list[WitnessedLog]:
        return [
            WitnessedLog(one.id, VerifierKey.parse(one.ledger_key), one.url)
            for one in store.all()
            if one.ledger_key is not None and one.status is not PeerStatus.DISABLED
        ]

    return KnownLogs(of_peers, witness_policy(settings))


def known_witnesses(settings: Settings, database: Database) -> KnownWitnesses:
    """Who is asked to cosign the checkpoints of this home's ledger: peers that cosign, and are active.

    Raises:
        ValidationError: the policy file is not right.
    """
    store = PeerStore(database)

    def of_peers() -> list[WitnessAddress]:
        return [
            WitnessAddress(one.id, CosignerKey.parse(one.witness_key), f"{one.url}/witness")
            for one in store.all()
            if one.witness_key is not None and one.status is PeerStatus.ACTIVE
        ]

    return KnownWitnesses(of_peers, witness_policy(settings))


@contextmanager
def open_witness(resources: Resources) -> Iterator[Witness]:
    """The witness of this home, for as long as the block runs.

    Raises:
        ResourceNotFoundError, AuthorizationError, ValidationError: its key or its policy file is not right.
    """
    settings = resources.settings
    cosigner, logs = witness_key(settings), known_logs(settings, resources.database)
    with log_client() as client:
        yield Witness(
            resources.database,
            resources.ledger,
            namespace=settings.ledger_namespace,
            cosigner=cosigner,
            logs=logs,
            shown=lambda log: PeerLog(log.url, client),
            directory=settings.ledger_directory / "witnessed",
        )
