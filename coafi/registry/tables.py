"""The tables of the registry: the newest version of every entry, all versions, and the tags of the newest."""

from sqlalchemy import Column, Index, Integer, Table

from coafi.database import big_integer, metadata, text

registry_entry = Table(
    "registry_entry",
    metadata,
    Column("registry_id", text(20), primary_key=True),
    Column("entry_id", text(200), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("status", text(20), nullable=False),
    Column("class", text(20), nullable=False, key="entry_class"),
    Column("owner", text(200), nullable=False),
    Column("utids", text(40), nullable=False),
    Column("created", text(32), nullable=False),
    Column("integrated_version", Integer),
    Column("words", text(), nullable=False),
    Index("registry_entry_utids", "utids", unique=True),
)
"""One row for each entry: what its newest version is, and what it is searched by (see ``coafi.registry.search``)."""

registry_version = Table(
    "registry_version",
    metadata,
    Column("registry_id", text(20), primary_key=True),
    Column("entry_id", text(200), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("status", text(20), nullable=False),
    Column("class", text(20), nullable=False, key="entry_class"),
    Column("owner", text(200), nullable=False),
    Column("tags", text(), nullable=False),
    Column("data", text(), nullable=False),
    Column("digest", text(64), nullable=False),
    Column("utids", text(40), nullable=False),
    Column("created", text(32), nullable=False),
    Column("changed", text(32), nullable=False),
    Column("by", text(200), nullable=False),
    Column("reason", text(500), nullable=False),
    Column("workflow_id", text(2000), nullable=False),
    Column("ledger_entry", big_integer(), nullable=False),
    Column("integrated_version", Integer),
    Column("checked_with", text()),
    Index("registry_version_workflow", "workflow_id"),
)
"""Every version of every entry, whole. ``tags``, ``data`` and ``checked_with`` are JSON, the second canonical."""

registry_tag = Table(
    "registry_tag",
    metadata,
    Column("tag", text(64), primary_key=True),
    Column("registry_id", text(20), primary_key=True),
    Column("entry_id", text(200), primary_key=True),
    Index("registry_tag_entry", "registry_id", "entry_id"),
)
"""The tags of the newest version of each entry."""

registry_reservation = Table(
    "registry_reservation",
    metadata,
    Column("registry_id", text(20), primary_key=True),
    Column("entry_id", text(200), primary_key=True),
    Column("workflow_id", text(2000), nullable=False),
    Column("since", big_integer(), nullable=False),
)
"""Entries that a run is about to change, since a time in seconds; see ``coafi.registry.reserving``."""
