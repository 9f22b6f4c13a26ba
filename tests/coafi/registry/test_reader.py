"""Reading entries: one, its versions, what changed, and those that a query selects."""

import base64
import json
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coafi.canonical import JsonObject
from coafi.errors import ResourceNotFoundError, Unavailable, ValidationError
from coafi.registry.builtin import builtin_schemas
from coafi.registry.entry import ENTRY_ID, Entry, EntryClass, EntryStatus, RegistryId
from coafi.registry.reader import EntryQuery, comparable
from coafi.registry.search import MAX_WORDS
from tests.coafi.registry.making import Registers, schema
from tests.strength import examples

ODD = ["", "wing\0", "\ud800", "../x", "a" * 10_000, "' OR 1=1 --", "%", "wing\n"]

JSON_OBJECTS = st.dictionaries(
    st.sampled_from(["a", "é", 'quote "', "\\"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53) + 1, 2**53 - 1)
        | st.floats(-1e9, 1e9)
        | st.sampled_from(["", "ä😀\n"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def ids(books: Registers, **said: Any) -> list[str]:
    """What a query selects, in all its pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = books.reader.search(EntryQuery.model_validate({**said, "cursor": cursor}))
        found += [one.entry_id for one in page.entries]
        if page.cursor is None:
            return found
        assert page.entries
        cursor = page.cursor


def test_what_there_is_not_is_named(books: Registers) -> None:
    books.put("wing", {})
    for entry_id, version in [("none", None), ("wing", 2), ("wing", 0), ("wing", -1), ("wing", 2**70)]:
        with pytest.raises(ResourceNotFoundError, match=f"AERO/{entry_id}"):
            books.get(entry_id, version=version)
    with pytest.raises(ResourceNotFoundError, match="SPACE/wing"):
        books.get("wing", "SPACE")
    with pytest.raises(ResourceNotFoundError):
        books.reader.history(RegistryId.AERO, "none")
    with pytest.raises(ResourceNotFoundError):
        books.reader.diff(RegistryId.AERO, "wing", 1, 2)


def test_ids_that_no_entry_can_have_are_not_found(books: Registers) -> None:
    for entry_id in ODD:
        with pytest.raises(ResourceNotFoundError):
            books.get(entry_id)
        with pytest.raises(ResourceNotFoundError):
            books.get(entry_id, version=1)
        with pytest.raises(ResourceNotFoundError):
            books.reader.history(RegistryId.AERO, entry_id)


def test_an_entry_is_found_by_its_utids(books: Registers) -> None:
    made = books.put("wing", {})
    books.put("wing", {"n": 2})
    assert books.reader.by_utids(made.utids) == books.get("wing")
    shipped = books.get("frontmatter.general", "schemas")
    assert books.reader.by_utids(shipped.utids) == shipped
    assert books.reader.by_utids("UTIDS-P-00000000000000000000000000") is None


def test_the_history_is_read_in_pages(books: Registers) -> None:
    for n in range(5):
        books.put("wing", {"n": n})
    reader = books.reader
    assert [one.version for one in reader.history(RegistryId.AERO, "wing", limit=2)] == [5, 4]
    assert [one.version for one in reader.history(RegistryId.AERO, "wing", before=4, limit=2)] == [3, 2]
    assert [one.version for one in reader.history(RegistryId.AERO, "wing", before=2)] == [1]
    assert reader.history(RegistryId.AERO, "wing", before=1) == ()


def test_what_the_package_ships_is_the_first_of_the_versions(books: Registers) -> None:
    document = schema("frontmatter.general", "9.0.0")
    books.put("frontmatter.general", document, registry="schemas")
    history = books.reader.history(RegistryId.SCHEMAS, "frontmatter.general")
    assert [(one.version, one.by) for one in history] == [(1, "key:ci"), (0, "coafi")]
    assert books.reader.history(RegistryId.SCHEMAS, "frontmatter.general", before=1) == history[1:]
    patch = books.reader.diff(RegistryId.SCHEMAS, "frontmatter.general", 0, 1).patch
    assert {"op": "replace", "path": "/data/$id", "value": document["$id"]} in patch


def test_a_diff_tells_all_that_a_request_can_change(books: Registers) -> None:
    books.put("wing", {"a": 1, "b": [1, 2]}, tags=["x"])
    books.put("wing", {"a": 1, "b": [1, 3], "c/d": None}, tags=["x"], owner="team")
    books.move("wing", "Review")
    found = books.reader.diff(RegistryId.AERO, "wing", 1, 3)
    assert (found.old, found.new) == (1, 3)
    assert sorted(found.patch, key=lambda one: str(one["path"])) == [
        {"op": "replace", "path": "/data/b/1", "value": 3},
        {"op": "add", "path": "/data/c~1d", "value": None},
        {"op": "replace", "path": "/owner", "value": "team"},
        {"op": "replace", "path": "/status", "value": "Review"},
    ]
    assert books.reader.diff(RegistryId.AERO, "wing", 2, 2).patch == ()


def test_entries_are_selected_by_all_that_is_said(books: Registers) -> None:
    books.put("wing", {}, owner="a", tags=["x", "y"], **{"class": "Core"})
    books.put("tail", {}, owner="a", tags=["x"])
    books.put("hull", {}, owner="b", tags=["y"], registry="SPACE")
    books.move("tail", "Review")
    assert ids(books, registryId="AERO") == ["tail", "wing"]
    assert ids(books, status="Review") == ["tail"]
    assert ids(books, owner="a", **{"class": "Core"}) == ["wing"]
    assert ids(books, tags=("y",)) == ["wing", "hull"]
    assert ids(books, tags=("x", "y")) == ["wing"]
    assert ids(books, tags=("%",)) == ids(books, owner="_") == []
    books.put("wing", {}, tags=["z"])
    assert ids(books, tags=("x", "y")) == []


def test_the_schemas_of_the_package_are_among_the_entries(books: Registers) -> None:
    shipped = sorted(one.schema_id for one in builtin_schemas())
    assert ids(books, registryId="schemas", limit=3) == shipped
    assert ids(books) == shipped
    books.put("frontmatter.general", schema("frontmatter.general", "9.0.0"), registry="schemas")
    books.put("part", schema("part"), registry="schemas")
    assert ids(books, registryId="schemas", limit=3) == sorted([*shipped, "part"])
    assert ids(books, tags=("built-in",)) == [one for one in shipped if one != "frontmatter.general"]
    assert ids(books, status="Submission", **{"class": "Core"}) == ["frontmatter.general"]
    assert ids(books, text="commitSha author") == ["GitCommitEventPayload"]


def test_words_are_found_wherever_they_stand(books: Registers) -> None:
    books.put("wing-a320", {"Maker": {"name": "Ærø Flügel GmbH", "tags": ["Straße", "e\u0301lan"]}}, tags=["Left Side"])
    books.put("other", {"n": 1})
    for text in ("A320", "ÆRØ flügel", "strasse", "STRASSE", "élan", "left", "lüg", "key:ci gmbh", "ﬂügel"):
        assert ids(books, registryId="AERO", text=text) in (["wing-a320"], ["other", "wing-a320"]), text
    assert ids(books, registryId="AERO", text="key:ci") == ["other", "wing-a320"]
    assert ids(books, registryId="AERO", text="aero") == []
    assert ids(books, registryId="AERO", text="a320 nowhere") == []
    books.put("wing-a320", {"Maker": "none"})
    assert ids(books, text="flügel") == []


def test_no_character_of_a_query_means_another(books: Registers) -> None:
    books.put("plain", {"name": "wing"})
    for number, text in enumerate(["%", "_", "\\", "'", '"', "*", "?", "[a-z]", "\0", "💥", "%wing%", "w_ng", "\\x01"]):
        assert ids(books, registryId="AERO", text=text) == [], text
        books.put(f"odd{number}", {"name": f"a{text}b"}, registry="COM")
        assert f"odd{number}" in ids(books, registryId="COM", text=text), text


def test_only_the_beginning_of_large_data_is_searched(books: Registers) -> None:
    books.put("long", {"a": "first " + "x" * MAX_WORDS, "b": "last"})
    assert ids(books, registryId="AERO", text="first") == ["long"]
    assert ids(books, registryId="AERO", text="last") == []


def test_too_many_words_and_odd_cursors_are_refused(books: Registers) -> None:
    with pytest.raises(ValidationError, match="10 words"):
        ids(books, text=" ".join(map(str, range(11))))

    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()

    odd = [
        "?",
        "AAAA",
        encoded(5),
        encoded(["AERO"]),
        encoded(["MARS", "x"]),
        encoded(["AERO", "a\0"]),
        encoded([1, 2]),
    ]
    for cursor in [*odd, encoded(["AERO", ["x"]]), base64.urlsafe_b64encode(b"[" * 400).decode(), "ü"]:
        with pytest.raises(ValidationError, match="cursor"):
            books.reader.search(EntryQuery(cursor=cursor))


@pytest.mark.parametrize(
    "said",
    [{"limit": 0}, {"limit": 201}, {"status": "x"}, {"owner": "a\0"}, {"tags": ["\0"]}, {"text": "x" * 201}, {"a": 1}],
)
def test_a_query_that_is_none_is_refused(said: JsonObject) -> None:
    with pytest.raises(pydantic.ValidationError):
        EntryQuery.model_validate(said)


@given(
    names=st.lists(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,4}", fullmatch=True), unique=True, min_size=1, max_size=9
    ),
    limit=st.integers(1, 4),
)
@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_hold_every_entry_once_in_order_also_while_others_come(
    books: Registers, names: list[str], limit: int
) -> None:
    for number, name in enumerate(names):
        books.put(name, {"n": number}, registry="COM" if number % 2 else "AERO")
    wanted = ids(books, limit=200)
    first = books.reader.search(EntryQuery(limit=limit))
    books.put("0", {"new": True}, registry="AERO")  # before or at the first place, or known already
    rest = ids(books, limit=limit)
    assert set(rest) == {*wanted, "0"}
    found = [one.entry_id for one in first.entries]
    cursor = first.cursor
    while cursor is not None:
        page = books.reader.search(EntryQuery(limit=limit, cursor=cursor))
        found += [one.entry_id for one in page.entries]
        cursor = page.cursor
    assert [one for one in found if one != "0"] == [one for one in wanted if one != "0"]


def test_an_entry_and_its_summary_read_back_from_json(books: Registers) -> None:
    books.publish("registry.AERO", "1.0.0")
    made = books.put("wing", {"a": 1}, tags=["t"])
    assert Entry.model_validate_json(made.model_dump_json(by_alias=True)) == made
    assert "data" not in made.summary().model_dump()
    assert comparable(made) == {
        "status": EntryStatus.SUBMISSION,
        "class": EntryClass.APPLICATION,
        "owner": "key:ci",
        "tags": ["t"],
        "data": {"a": 1},
    }


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=JSON_OBJECTS, tags=st.lists(st.sampled_from(["a", 'quote "', "Ω", "\\"]), max_size=3))
def test_what_is_seen_at_a_glance_is_what_is_read(books: Registers, data: JsonObject, tags: list[str]) -> None:
    made = books.put("wing", data, tags=tags)
    if books.database.dialect == "sqlite":
        glance = books.reader.glance(RegistryId.AERO, "wing")
        assert glance is not None
        assert glance.etag == made.etag
        assert json.loads(glance.entry) == books.get("wing").model_dump(mode="json", by_alias=True)
    else:
        with pytest.raises(Unavailable, match="at once"):
            books.reader.glance(RegistryId.AERO, "wing")


def test_a_glance_finds_nothing_where_nothing_is(books: Registers) -> None:
    books.publish("registry.AERO", "1.0.0")
    books.put("wing", {"a": 1})
    for entry_id in [*ODD, "none"]:
        if books.database.dialect == "sqlite" or not ENTRY_ID.fullmatch(entry_id):
            assert books.reader.glance(RegistryId.AERO, entry_id) is None
    if books.database.dialect == "sqlite":
        glance = books.reader.glance(RegistryId.AERO, "wing")
        assert glance is not None
        assert json.loads(glance.entry)["checkedWith"]["schemaId"] == "registry.AERO"
