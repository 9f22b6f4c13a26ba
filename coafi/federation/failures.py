"""What a peer's ``ComplianceFailure`` does here besides being kept: it opens a finding on each entity that it names."""

from coafi.compliance.entities import entity_of
from coafi.compliance.findings import Findings, NewFinding, Origin, Weight
from coafi.federation.inbox import ApplyTask, Effect
from coafi.federation.messages import ComplianceFailure
from coafi.federation.peers import Peer
from coafi.ledger.entry import timestamp
from coafi.ledger.port import LedgerTransaction
from coafi.names import peer_source
from coafi.recording import Range

RESTRICTED = "the peer gives no more than a digest of what is wrong"


def opening(findings: Findings) -> Effect:
    """The effect: findings that no peer is told of in turn, so that none comes back to whoever has found it."""

    def effect(transaction: LedgerTransaction, task: ApplyTask, peer: Peer) -> tuple[Range, ...]:
        message = task.received.message
        said = ComplianceFailure.model_validate(message.data)
        named = [entity_of({"kind": one.kind, "id": one.id}) for one in said.entities]
        found = [
            NewFinding(
                entity=entity,
                rule=said.rule,
                severity=Weight(said.severity),
                message=said.message or RESTRICTED,
                detected=timestamp(said.detected),
            )
            for entity in dict.fromkeys(named)
            if entity is not None
        ]
        origin = Origin(event=task.event, source=peer_source(peer.id), depth=message.causationdepth, peers="none")
        return findings.open_in(transaction, origin, found).entries

    return effect
