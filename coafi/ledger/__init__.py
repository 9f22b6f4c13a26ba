"""BITT, the tamper-evident ledger: an append-only Merkle tree (RFC 6962), kept as C2SP tlog-tiles.

Read it from the top. Each module knows those above it, and none below (import-linter holds it to that)::

    values and arithmetic; but for files of keys, nothing here reads or writes
      entry       what is recorded: a draft, its key, its canonical bytes
      merkle      hashes, roots and proofs: arithmetic on numbers and digests
      tiles       where the hashes of a tree lie: arithmetic on paths
      bundle      entries side by side, as tlog-tiles serves them
      keys        Ed25519 keys as C2SP signed notes name them, and their files
      keyfile     where a log's key is looked for, and its successor
      checkpoint  the signed statement "this log has this size and this root"
      cosignature what a witness says of a checkpoint
      policy      which witnesses must have said it
      proof       the values that leave the log for an auditor

    verifier      checks all of it again; knows neither store nor log, and needs no database
    handover      how one key follows another, shown by a proof
    port          what the service needs of a ledger

    the log of this home
      store/      every SQL statement: tables, any database's words, SQLite's, PostgreSQL's
      published   the last checkpoint, kept outside the database
      nodes       the nodes of a stored tree, through a cache
      state       the committed size and root, and whether they continue what was signed
      reading     entries, tiles and proofs
      signing     checkpoints and keys
      group       the units of one commit
      appending   group commit
      log         puts these together: ``Ledger``

    the log of another instance
      wire        what travels between a ledger's API and a remote ledger
      remote      ``RemoteLedger``

    what is done with a log
      audit       holds everything that a database says against everything else
      rotation    gives a log a new key
      search      finds entries

The promise is that tampering is *evident*: whoever has seen a checkpoint can prove that an entry before it was
changed, removed or moved. It is not that tampering is impossible. Until a peer cosigns the checkpoints
(:mod:`coafi.federation.witness`), whoever holds both the signing key and the database can write another history and
sign it.
"""
