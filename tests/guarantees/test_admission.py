"""Who is not authentic leaves no trace; what is authentic and wrong is rejected on the record, with the reason."""

import hmac
import json
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import JsonValue, SecretStr
from temporalio.service import RPCError

from coafi.canonical import JsonObject, sha256
from coafi.names import EntryType, EventType, Phase, workflow_id
from coafi.webhooks import github
from tests.guarantees.support import finished
from tests.harness import SECRET, Repository, Stack, documents, push_payload, running_stack, until
from workflows.lifecycle import Receipt

UNKNOWN = "1234567890" * 4
SOURCE = "https://example.com/acme/docs"
BODY = json.dumps(push_payload(SOURCE, UNKNOWN)).encode()


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("admission")) as running:
        yield running


@pytest.fixture(scope="module")
def repository(stack: Stack) -> Repository:
    return Repository.create(stack.settings.git_file_roots[0] / "repo")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


async def listed(stack: Stack, delivery: str) -> bool:
    return bool([run.id async for run in stack.client.list_workflows(f"CoafiEventId='{delivery}'")])


async def rejected(stack: Stack, payload: JsonObject) -> Receipt:
    """The receipt of a push that must be accepted, and rejected by its run, on the record."""
    delivery = str(uuid.uuid4())
    receipt = await finished(await stack.accepted(payload, delivery=delivery))
    assert receipt.phase is Phase.REJECTED
    assert receipt.findings
    assert all(finding.message and finding.remedy for finding in receipt.findings)
    (entry,) = [one for one in stack.entries(EntryType.EVENT_REJECTED) if one.entry.event_id == delivery]
    assert entry.index == receipt.conclusion
    recorded = entry.entry.data["findings"]
    assert isinstance(recorded, list)
    assert len(recorded) == len(receipt.findings)
    return receipt


@pytest.mark.parametrize(
    "signature",
    [
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": f"sha256={'0' * 64}"},
        {"X-Hub-Signature-256": github.sign(b"{}", SecretStr(SECRET))},
        {"X-Hub-Signature-256": github.sign(BODY, SecretStr("another"))},
        {"X-Hub-Signature": f"sha1={hmac.new(SECRET.encode(), BODY, 'sha1').hexdigest()}"},
    ],
    ids=["missing", "empty", "made up", "of another body", "of another secret", "sha-1 only"],
)
async def test_without_a_right_signature_nothing_happens(
    stack: Stack, repository: Repository, signature: dict[str, str]
) -> None:
    refused, accepted = str(uuid.uuid4()), str(uuid.uuid4())
    entries = len(stack.entries())
    response = await stack.post(BODY, {"X-GitHub-Event": "push", "X-GitHub-Delivery": refused, **signature})
    assert response.status_code == 401
    assert len(stack.entries()) == entries
    assert not stack.resources.objects.has(sha256(BODY))

    handle = await stack.accepted(push_payload(repository.path.as_uri(), repository.head), delivery=accepted)
    await finished(handle)
    await until(partial(listed, stack, accepted))
    assert not await listed(stack, refused)
    assert not [one for one in stack.entries() if one.entry.event_id == refused]
    with pytest.raises(RPCError, match="not found"):
        await stack.handle(workflow_id(EventType.GIT_COMMIT, SOURCE, refused)).describe()


def _changed(payload: JsonObject, **fields: JsonValue) -> JsonObject:
    return {name: value for name, value in {**payload, **fields}.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"after": "garbage"}, "/commitSha"),
        ({"after": UNKNOWN[:7]}, "/commitSha"),
        ({"after": f"--upload-pack={UNKNOWN}"}, "/commitSha"),
        ({"after": 7}, "/commitSha"),
        ({"after": None}, ""),
        ({"repository": None}, ""),
        ({"repository": {"clone_url": 7}}, "/repositoryUrl"),
        ({"repository": "garbage"}, ""),
        ({"ref": 7}, "/branch"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
async def test_an_authentic_but_invalid_payload_is_rejected_with_the_place(
    stack: Stack, repository: Repository, fields: dict[str, JsonValue], pointer: str
) -> None:
    payload = _changed(push_payload(repository.path.as_uri(), repository.head), **fields)
    receipt = await rejected(stack, payload)
    assert pointer in [finding.pointer or "" for finding in receipt.findings]
    assert all(finding.rule.startswith("payload/") for finding in receipt.findings)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("ext::sh -c 'touch owned'", "ValidationError"),
        ("ext::sh%20-c%20owned", "ValidationError"),
        ("--upload-pack=touch owned", "ValidationError"),
        ("--upload-pack=owned", "ValidationError"),
        ("https://--upload-pack=owned/x", "ValidationError"),
        ("https://example.com/--upload-pack=owned", "ValidationError"),
        ("git@example.com:acme/docs.git", "ValidationError"),
        ("git://example.com/acme/docs", "ValidationError"),
        ("https://example.com/acme/../../etc", "ValidationError"),
        ("https://2130706433/acme/docs", "ValidationError"),
        ("file:///etc", "PolicyDenied"),
        ("file:///etc/ssh", "PolicyDenied"),
        ("ssh://git@example.com/acme/docs", "ValidationError"),
        ("ssh://example.com/acme/docs", "PolicyDenied"),
        ("http://example.com/acme/docs", "PolicyDenied"),
        ("https://127.0.0.1/acme/docs", "PolicyDenied"),
        ("https://localhost/acme/docs", "PolicyDenied"),
        ("https://10.1.2.3/acme/docs", "PolicyDenied"),
        ("https://192.168.1.1/acme/docs", "PolicyDenied"),
        ("https://169.254.169.254/latest/meta-data", "PolicyDenied"),
        ("https://[::1]/acme/docs", "PolicyDenied"),
        ("https://[::ffff:127.0.0.1]/acme/docs", "PolicyDenied"),
    ],
)
async def test_a_forbidden_url_is_rejected_before_git_sees_it(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, rule: str
) -> None:
    monkeypatch.chdir(tmp_path)
    mirrors = names(stack.settings.mirrors_directory)
    receipt = await rejected(stack, push_payload(url, UNKNOWN))
    (finding,) = receipt.findings
    assert finding.rule == f"event/{rule}", finding
    assert names(stack.settings.mirrors_directory) == mirrors
    assert not names(tmp_path)


async def test_a_file_url_cannot_leave_the_roots_by_a_link(stack: Stack, tmp_path: Path) -> None:
    outside = Repository.create(tmp_path / "outside")
    link = stack.settings.git_file_roots[0] / "link"
    link.symlink_to(outside.path)
    receipt = await rejected(stack, push_payload(link.as_uri(), outside.head))
    assert receipt.findings[0].rule == "event/PolicyDenied"


@pytest.mark.parametrize("exists", [True, False], ids=["unknown commit", "unknown repository"])
async def test_what_does_not_exist_is_rejected(stack: Stack, repository: Repository, exists: bool) -> None:
    url = repository.path.as_uri() if exists else f"{repository.path.as_uri()}-that-is-not-there"
    receipt = await rejected(stack, push_payload(url, UNKNOWN, before=repository.head if exists else "0" * 40))
    (finding,) = receipt.findings
    assert finding.rule == ("event/CommitNotFound" if exists else "event/ResourceNotFoundError")
    assert (UNKNOWN if exists else url) in finding.message


async def test_after_all_that_the_service_works_and_the_ledger_verifies(stack: Stack, repository: Repository) -> None:
    receipt = await finished(await stack.accepted(repository.push(documents(1))))
    assert receipt.phase is Phase.PROCESSED
    assert not stack.entries(EntryType.EVENT_PROCESSING_FAILED)
    stack.verify()
