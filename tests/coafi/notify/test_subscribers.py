"""The file of subscribers: what it may say, and that everything wrong with it is named, but for its secrets."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from coafi.errors import ResourceNotFoundError, ValidationError
from coafi.notify.subscribers import MAX_ADDRESSEES, Subscribers, load_subscribers

KEY = "whsec_" + base64.b64encode(b"k" * 32).decode()
URL = "https://portal.example.org/hooks?token=hidden-token"
GOOD = {"name": "portal", "url": URL, "secret": KEY}


def written(directory: Path, listed: Any, *, mode: int = 0o600) -> Path:
    path = directory / "subscribers.yaml"
    path.write_text(listed if isinstance(listed, str) else json.dumps(listed))
    path.chmod(mode)
    return path


def refused(directory: Path, listed: Any, **options: Any) -> str:
    """Why a file is refused; no secret may be in it."""
    with pytest.raises(ValidationError) as raised:
        load_subscribers(written(directory, listed, **options))
    text = str(raised.value)
    assert "hidden" not in text
    assert KEY not in text
    return text


def test_without_a_file_nobody_is_told() -> None:
    assert load_subscribers(None) == Subscribers()


def test_yaml_and_json_are_read(tmp_path: Path) -> None:
    text = f"- name: portal\n  url: {URL}\n  secret: {KEY}\n  repositories: [https://github.com/acme/*]\n"
    text += "  branches: [main, release/*]\n"
    (one,) = load_subscribers(written(tmp_path, text)).all
    assert (one.name, one.host, one.port) == ("portal", "portal.example.org", 443)
    assert one.wants("https://github.com/acme/docs", "main")
    assert one.wants("https://github.com/acme/docs", "release/1/2")
    assert not one.wants("https://github.com/acme/docs", "feature")
    assert not one.wants("https://github.com/other/docs", "main")
    assert "hidden" not in repr(one)
    assert KEY not in repr(one)
    (everything,) = load_subscribers(written(tmp_path, [GOOD])).all
    assert everything.wants("https://e.org/r", "x")
    subscribers = Subscribers((one,))
    assert subscribers.named("portal") is one
    assert subscribers.of("https://e.org/r", "main") == ()
    with pytest.raises(ResourceNotFoundError):
        subscribers.named("gone")


def test_who_is_told_of_registries_says_so_and_then_of_nothing_else_unless_that_is_said_too(tmp_path: Path) -> None:
    listed = [
        {**GOOD, "name": "as-before"},
        {**GOOD, "name": "registries", "registries": ["AERO", "G*"]},
        {**GOOD, "name": "both", "registries": ["*"], "repositories": ["*"]},
        {**GOOD, "name": "branch", "registries": ["schemas"], "branches": ["main"]},
        {**GOOD, "name": "none", "registries": []},
    ]
    subscribers = load_subscribers(written(tmp_path, listed))

    def told(registry: str) -> list[str]:
        return [one.name for one in subscribers.of_registry(registry)]

    assert told("AERO") == ["registries", "both"]
    assert told("GREENTECH") == ["registries", "both"]
    assert told("schemas") == ["both", "branch"]
    assert told("COM") == ["both"]
    documents = [one.name for one in subscribers.of("https://e.org/r", "main")]
    assert documents == ["as-before", "both", "branch", "none"]


def test_no_more_may_name_registries_than_one_run_can_tell(tmp_path: Path) -> None:
    listed = [{**GOOD, "name": f"s{number}", "registries": ["AERO"]} for number in range(MAX_ADDRESSEES)]
    assert len(load_subscribers(written(tmp_path, listed)).of_registry("AERO")) == MAX_ADDRESSEES
    one_more = [*listed, {**GOOD, "name": "one-more", "registries": ["*"]}, {**GOOD, "name": "another"}]
    assert f"{MAX_ADDRESSEES + 1} of them name registries" in refused(tmp_path, one_more)


def test_a_secret_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{KEY}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PORTAL_SECRET", KEY)
    listed = [{**GOOD, "secret": {"file": str(file)}}, {**GOOD, "name": "other", "secret": {"env": "PORTAL_SECRET"}}]
    found = load_subscribers(written(tmp_path, listed, mode=0o644)).all
    assert [one.key.get_secret_value() for one in found] == [KEY, KEY]
    file.chmod(0o644)
    assert "chmod 600" in refused(tmp_path, listed[:1])
    assert "chmod 600" in refused(tmp_path, [GOOD], mode=0o644)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Not A Name"}, "name"),
        ({"url": "http://portal.example.org/hidden"}, "https://"),
        ({"url": "https://user:hidden@portal.example.org/"}, "user"),
        ({"url": "https:///hidden"}, "host"),
        ({"url": "https://exa mple/hidden\x00"}, "url"),
        ({"url": "ftp://hidden"}, "https://"),
        ({"url": 5}, "url"),
        ({"secret": "hidden"}, "whsec_"),
        ({"secret": "whsec_hidden!"}, "Base64"),
        ({"secret": "whsec_" + base64.b64encode(b"short").decode()}, "24 to 64"),
        ({"secret": {"file": "/nothing/here"}}, "cannot be read"),
        ({"secret": {"env": "NOT_SET_ANYWHERE"}}, "NOT_SET_ANYWHERE"),
        ({"secret": {"env": "A", "file": "/b"}}, "either file or env"),
        ({"repositories": []}, "repositories"),
        ({"branches": [""]}, "branches"),
        ({"registries": ["AREO"]}, "'AREO' is none of AERO"),
        ({"registries": "AERO"}, "registries"),
        ({"registries": [""]}, "registries"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_with_a_subscriber_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    text = refused(tmp_path, [{**GOOD, "name": "first"}, {**GOOD, **change}])
    assert "subscriber 2" in text
    assert said in text


def test_every_wrong_one_is_named(tmp_path: Path) -> None:
    text = refused(tmp_path, [GOOD, GOOD, {"name": "x"}, "text"])
    assert "subscriber 2 (portal): name: another" in text
    assert "subscriber 3 (x): url" in text
    assert "subscriber 4" in text


@pytest.mark.parametrize("text", ["{", "- [", "name: portal", "", "\x00", "- !!python/object:os.system {}"])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    assert "subscribers" in refused(tmp_path, text)


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be read"):
        load_subscribers(tmp_path / "nothing")
    assert "larger" in refused(tmp_path, "#" * (2**20 + 1))


def test_plain_http_is_for_private_networks(tmp_path: Path) -> None:
    path = written(tmp_path, [{**GOOD, "url": "http://127.0.0.1:8000/"}])
    (one,) = load_subscribers(path, allow_private=True).all
    assert (one.host, one.port) == ("127.0.0.1", 8000)


def test_who_names_topics_alone_is_told_of_events_alone(tmp_path: Path) -> None:
    listed = [
        {**GOOD, "name": "topics", "topics": ["compliance", "documents"]},
        {**GOOD, "name": "both", "topics": ["compliance"], "repositories": ["*"]},
        {**GOOD, "name": "none"},
    ]
    subscribers = load_subscribers(written(tmp_path, listed))
    assert [one.name for one in subscribers.of_topics({"compliance"})] == ["topics", "both"]
    assert [one.name for one in subscribers.of_topics({"documents", "other"})] == ["topics"]
    assert subscribers.of_topics(()) == ()
    assert [one.name for one in subscribers.of("https://github.com/acme/docs", "main")] == ["both", "none"]
    with pytest.raises(ValidationError, match=r"topics\.0"):
        load_subscribers(written(tmp_path, [{**GOOD, "topics": ["Not a topic"]}]))
