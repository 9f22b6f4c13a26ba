"""The schemas of the package as entries of the registry ``schemas``: there without a row, as version 0.

They are not copied into the tables: a row stands for a change that somebody asked for, with a ledger entry to prove
it, and a new release of the package is neither. Who wants another version of one makes version 1 of its entry.
"""

from functools import cache

from coafi.registry.builtin import builtin_schemas
from coafi.registry.entry import Entry, EntryClass, EntryStatus, RegistryId
from coafi.utids import entry_utids

OWNER = "coafi"
"""Who owns what the package ships."""

TAG = "built-in"
"""The tag of all of them."""

_CHANGEABLE = "frontmatter."


@cache
def shipped_entries() -> dict[str, Entry]:
    """The entries, by id, sorted."""
    return {
        schema.schema_id: Entry(
            registry_id=RegistryId.SCHEMAS,
            entry_id=schema.schema_id,
            version=0,
            status=EntryStatus.INTEGRATION,
            entry_class=EntryClass.CORE,
            owner=OWNER,
            tags=(TAG,),
            utids=entry_utids(RegistryId.SCHEMAS, schema.schema_id),
            digest=schema.digest,
            created="",
            changed="",
            by=OWNER,
            workflow_id=None,
            ledger_entry=None,
            integrated_version=0,
            data=schema.document,
        )
        for schema in sorted(builtin_schemas(), key=lambda one: one.schema_id)
    }


def is_reserved(schema_id: str) -> bool:
    """Whether a schema says what this software itself reads and writes, so that only a release can change it.

    What documents must say in their front matter is for the organisation to decide, and not reserved.
    """
    return schema_id in shipped_entries() and not schema_id.startswith(_CHANGEABLE)
