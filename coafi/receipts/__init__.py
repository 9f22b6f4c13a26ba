"""Receipts: one file that proves, offline, what the service did with one event.

Each module knows those above it, and none below::

    tlog_proof  an entry's inclusion in the log, as C2SP tlog-proof
    dsse        a signed statement: a DSSE envelope
    story       what the entries of one event tell, taken together
    statement   the same as an in-toto statement with SLSA provenance
    layout      how a receipt lies in its file
    verify      checks a receipt; needs no database, network, settings or home
    make        writes a receipt, out of a ledger

Nothing in a receipt is taken on trust but the log's key: the statement must be the one that follows from the entries,
each entry must be in the tree of one checkpoint, and both checkpoint and statement must be signed by the key.
"""
