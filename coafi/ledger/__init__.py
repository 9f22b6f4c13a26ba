"""BITT, the tamper-evident ledger: an append-only Merkle tree (RFC 6962), kept as C2SP tlog-tiles.

Each module knows those above it, and none below::

    entry       what is recorded: a draft, its key, its canonical bytes
    merkle      hashes, roots and proofs: arithmetic on numbers and digests
    tiles       where the hashes of a tree lie: arithmetic on paths
    keys        Ed25519 keys as C2SP signed notes name them, and their files
    checkpoint  the signed statement "this log has this size and this root"
    proof       the values that leave the log for an auditor
    handover    how one key of a log follows another
    store       every SQL statement
    postgresql  the hot ones in PostgreSQL's words
    published   what is kept outside the database: the last checkpoint
    port        what the service needs of a ledger
    log         append, group commit, proofs, checkpoints
    bundle      entries side by side, as tlog-tiles serves them
    wire        what travels between a ledger's API and a remote ledger
    following   the keys of another instance's ledger, as far as hand-overs lead
    remote      the ledger of another instance
    verifier    checks all of it again; knows neither store nor log, and needs no database

The promise is that tampering is *evident*: whoever has seen a checkpoint can prove that an entry before it was
changed, removed or moved. It is not that tampering is impossible. Until a peer cosigns the checkpoints, whoever holds
both the signing key and the database can write another history and sign it.
"""
