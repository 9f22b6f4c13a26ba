import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coafi.names import (
    EntryVersionName,
    NotificationName,
    RefName,
    SchemaName,
    branch_slug,
    docs_path,
    entry_path,
    event_notification_workflow_id,
    index_workflow_id,
    notification_workflow_id,
    parse_event_notification_workflow_id,
    parse_index_workflow_id,
    parse_notification_workflow_id,
    parse_ref_slug,
    parse_registry_notification_workflow_id,
    parse_repository_slug,
    parse_revalidation_workflow_id,
    parse_workflow_id,
    registry_notification_workflow_id,
    repository_slug,
    revalidation_workflow_id,
    workflow_id,
    workflow_kind,
)


@given(st.tuples(*[st.text(st.characters(codec="utf-8"), min_size=1)] * 3))
def test_a_workflow_id_tells_what_it_was_made_of(parts: tuple[str, str, str]) -> None:
    assert parse_workflow_id(workflow_id(*parts)) == parts


def test_it_stays_readable() -> None:
    assert workflow_id("git.commit", "https://github.com/acme/docs", "72d3162e") == (
        "git.commit:https://github.com/acme/docs:72d3162e"
    )


@pytest.mark.parametrize("foreign", ["", "a", "a:b"])
def test_foreign_ids_are_refused(foreign: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_workflow_id(foreign)


REPOSITORIES = st.one_of(
    st.builds("https://{}".format, st.text(st.characters(codec="utf-8"), min_size=1)),
    st.builds("{}://{}".format, st.sampled_from(["http", "ssh", "file"]), st.text(st.characters(codec="utf-8"))),
)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


@given(REPOSITORIES)
@example("https://github.com/acme/docs")
@example("https://https://x")
@example("file:///srv/git/docs.git")
@example("https://..")
def test_the_slug_of_a_repository_tells_which_it_is_and_is_one_plain_segment(repository: str) -> None:
    slug = repository_slug(repository)
    assert parse_repository_slug(slug) == repository
    assert_plain(slug)


@given(TEXT)
@example("feature/x")
@example("..")
@example("a" * 40)
@example("=61")
def test_the_slug_of_a_branch_tells_which_it_is_and_is_never_that_of_a_commit(branch: str) -> None:
    slug = branch_slug(branch)
    assert parse_ref_slug(slug) == RefName(branch, is_commit=False)
    assert_plain(slug)


def assert_plain(slug: str) -> None:
    """Nothing in it is encoded, decoded or resolved by whoever passes a URL on."""
    assert re.fullmatch(r"[A-Za-z0-9._~=-]+", slug)
    assert slug not in (".", "..")


@given(TEXT)
def test_a_thing_has_one_slug(text: str) -> None:
    for parse, build in ((parse_repository_slug, repository_slug), (parse_ref_slug, branch_slug)):
        try:
            found = parse(text)
        except ValueError:
            continue
        name = found.name if isinstance(found, RefName) else found
        assert text == (name if isinstance(found, RefName) and found.is_commit else build(name))


@pytest.mark.parametrize("slug", ["=", "=zz", "=41", "=2e", "a b", "a%2fb", "", "=ff", "\x00", ".", "github.com/x"])
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(ValueError, match="is no slug"):
        parse_repository_slug(slug)
    with pytest.raises(ValueError, match="is no slug"):
        parse_ref_slug(slug)


def test_slugs_stay_readable() -> None:
    assert docs_path("https://github.com/acme/docs", "feature/x") == "/docs/github.com~acme~docs/feature~x/"
    assert docs_path("https://e.org/r", "b" * 64, is_commit=True) == f"/docs/e.org~r/{'b' * 64}/"


@given(TEXT, TEXT)
def test_the_workflow_id_of_an_index_tells_repository_and_branch(repository: str, branch: str) -> None:
    assert parse_index_workflow_id(index_workflow_id(repository, branch)) == (repository, branch)


@given(TEXT, TEXT, TEXT, st.integers(0, 10**9))
def test_the_workflow_id_of_a_notification_tells_for_whom_it_is(one: str, two: str, three: str, number: int) -> None:
    name = NotificationName(one, two, three, number)
    assert parse_notification_workflow_id(notification_workflow_id(name)) == name


@pytest.mark.parametrize("foreign", ["", "index", "index:a", "notify:a", "notify:a:b:index:c:d", "git.commit:a:b"])
def test_foreign_ids_of_indexes_and_notifications_are_refused(foreign: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_index_workflow_id(foreign)
    with pytest.raises(ValueError, match="is not"):
        parse_notification_workflow_id(foreign)


@given(TEXT, TEXT, st.integers(0, 10**9))
def test_the_workflow_id_of_a_change_tells_which_version_of_which_entry(one: str, two: str, version: int) -> None:
    name = EntryVersionName(one, two, version)
    assert parse_registry_notification_workflow_id(registry_notification_workflow_id(name)) == name


@pytest.mark.parametrize(
    "foreign", ["", "registry-update", "registry-update:a:b", "registry-update:a:b:c:1", "x:a:b:1"]
)
def test_foreign_ids_of_changes_are_refused(foreign: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_registry_notification_workflow_id(foreign)


def test_the_path_of_an_entry_is_one_url_whatever_its_id() -> None:
    name = EntryVersionName("AERO", "wing:12", 3)
    assert entry_path(name) == "/api/registry/entry?registryId=AERO&entryId=wing%3A12&version=3"


@given(TEXT, TEXT)
def test_the_workflow_id_of_a_revalidation_tells_which_schema_it_is_about(schema_id: str, version: str) -> None:
    name = SchemaName(schema_id, version)
    assert parse_revalidation_workflow_id(revalidation_workflow_id(name)) == name


@pytest.mark.parametrize("foreign", ["", "revalidate", "revalidate:a", "revalidate:a:b:c", "x:a:b"])
def test_foreign_ids_of_revalidations_are_refused(foreign: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_revalidation_workflow_id(foreign)


@given(
    event_type=st.sampled_from(["bitt.event", "git.commit"]), source=st.text(min_size=1), delivery=st.text(min_size=1)
)
def test_the_run_that_tells_of_an_event_names_it(event_type: str, source: str, delivery: str) -> None:
    event = workflow_id(event_type, source, delivery)
    name = event_notification_workflow_id(event)
    assert parse_event_notification_workflow_id(name) == (event_type, source, delivery)
    assert (workflow_kind(event), workflow_kind(name)) == (event_type, "notify-event")
    with pytest.raises(ValueError, match="is not notify-event"):
        parse_event_notification_workflow_id(event)
