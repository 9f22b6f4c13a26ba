"""What may be asked of a registry, and how its ids are made."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coafi.canonical import JsonObject
from coafi.errors import ValidationError
from coafi.index.areas import REGISTRIES
from coafi.registry.entry import (
    MAX_DEPTH,
    TRANSITIONS,
    EntryStatus,
    EntryUpdate,
    RegistryId,
    StatusUpdate,
    require_depth,
    utids_of,
)
from coafi.utids import PATTERN, entry_utids, naming_utids, permanent_utids


def update(**changes: Any) -> JsonObject:
    return {"registryId": "AERO", "entryId": "wing", "data": {}, **changes}


def nested(depth: int) -> JsonObject:
    value: JsonObject = {"leaf": 1}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


def test_the_registries_are_those_of_the_documents_and_one_of_schemas() -> None:
    assert {one.value for one in RegistryId} == {*REGISTRIES, "schemas"}


def test_every_status_is_reached_and_only_integration_is_left_by_nothing() -> None:
    assert set(TRANSITIONS) == set(EntryStatus)
    assert [status for status, onward in TRANSITIONS.items() if not onward] == [EntryStatus.INTEGRATION]
    assert {to for onward in TRANSITIONS.values() for to in onward} == set(EntryStatus)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"registryId": "MARS"}, "/registryId"),
        ({"entryId": "-wing"}, "/entryId"),
        ({"entryId": "a" * 201}, "/entryId"),
        ({"entryId": "wing\n"}, "/entryId"),
        ({"entryId": "../wing"}, "/entryId"),
        ({"entryId": "wing\0"}, "/entryId"),
        ({"entryId": None}, "/entryId"),
        ({"data": []}, "/data"),
        ({"class": "Gold"}, "/class"),
        ({"owner": ""}, "/owner"),
        ({"owner": "o" * 201}, "/owner"),
        ({"owner": "\x1b[31m"}, "/owner"),
        ({"owner": "\ud800"}, "/owner"),
        ({"tags": ["a", "t" * 65]}, "/tags/1"),
        ({"tags": ["a\0b"]}, "/tags/0"),
        ({"tags": ["\u202eevil"]}, "/tags/0"),
        ({"tags": [str(n) for n in range(51)]}, "/tags"),
        ({"reason": "x" * 501}, "/reason"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_what_breaks_a_format_is_refused_with_its_place(changes: JsonObject, pointer: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EntryUpdate.parse(update(**changes))
    assert pointer in [one.pointer for one in caught.value.findings]
    assert caught.value.remedy


def test_every_place_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        EntryUpdate.parse(update(entryId="?", owner="", **{"class": 5}))
    assert {one.pointer for one in caught.value.findings} == {"/entryId", "/owner", "/class"}


def test_tags_are_sorted_and_named_once() -> None:
    assert EntryUpdate.parse(update(tags=["b", "ä", "a", "b"])).tags == ("a", "b", "ä")


def test_a_status_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="/status"):
        StatusUpdate.parse({"registryId": "AERO", "entryId": "wing", "status": "Done"})


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 10_000])
def test_deep_data_is_refused_before_anything_recurses(depth: int) -> None:
    with pytest.raises(ValidationError, match="64 levels"):
        EntryUpdate.parse(update(data=nested(depth)))
    array: Any = []
    for _ in range(depth):
        array = [array]
    with pytest.raises(ValidationError, match="64 levels"):
        require_depth({"list": array})


def test_data_as_deep_as_is_allowed_is_taken() -> None:
    assert EntryUpdate.parse(update(data=nested(MAX_DEPTH))).data == nested(MAX_DEPTH)


@pytest.mark.parametrize("names", ["urn:example:wing:12", {"part": "wing", "serial": "12"}])
def test_the_id_of_an_entry_of_utids_is_generated_from_what_it_names(names: Any) -> None:
    document: JsonObject = {"registryId": "UTIDS", "data": {"names": names}}
    made = EntryUpdate.parse(document)
    assert made.entry_id == naming_utids(names) == utids_of(made)
    assert PATTERN.fullmatch(made.entry_id)
    assert EntryUpdate.parse({**document, "entryId": made.entry_id}) == made


@pytest.mark.parametrize("data", [{}, {"names": ""}, {"names": {}}, {"names": 5}, {"names": ["a"]}])
def test_an_entry_of_utids_must_name_something(data: JsonObject) -> None:
    with pytest.raises(ValidationError) as caught:
        EntryUpdate.parse({"registryId": "UTIDS", "data": data})
    assert [one.pointer for one in caught.value.findings] == ["/data/names"]


def test_an_entry_of_utids_cannot_have_an_id_of_somebodys_choice() -> None:
    asked = EntryUpdate.parse({"registryId": "UTIDS", "entryId": naming_utids("a"), "data": {"names": "b"}})
    with pytest.raises(ValidationError, match=naming_utids("b")) as caught:
        utids_of(asked)
    assert [one.pointer for one in caught.value.findings] == ["/entryId"]


@given(st.sampled_from(RegistryId), st.text(max_size=5), st.sampled_from(RegistryId), st.text(max_size=5))
def test_two_entries_have_two_ids_and_none_of_an_event(one: str, first: str, other: str, second: str) -> None:
    assert (entry_utids(one, first) == entry_utids(other, second)) == ((one, first) == (other, second))
    assert entry_utids(one, first) != permanent_utids("registry", one, first, "")
