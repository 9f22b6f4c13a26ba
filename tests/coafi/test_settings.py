import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from coafi.errors import ValidationError
from coafi.ledger.keys import Signer
from coafi.ledger.remote import RemoteLedger
from coafi.secret_files import read_secret
from coafi.settings import Settings, load_settings
from tests.harness import settings_for
from workers.resources import open_resources

KEY = str(Signer("example.com/log", bytes(32)).key)


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("COAFI_", "BITT_API_")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "url", ["https://ledger.example.com", "https://ledger.example.com:8443/a/b", "http://127.0.0.1:80", "http://[::1]/"]
)
def test_a_remote_ledger_has_names_of_its_own(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BITT_API_URL", url)
    monkeypatch.setenv("COAFI_BITT_APPEND_TOKENS", '{"b": "one", "c.d": ["two", "three"]}')
    monkeypatch.setenv("COAFI_INSTANCE", "a-1")
    settings = load_settings()
    assert settings.bitt_api_url == url
    assert settings.bitt_append_tokens == {
        "b": (SecretStr("one"),),
        "c.d": (SecretStr("two"), SecretStr("three")),
    }
    assert settings.ledger_namespace == "a-1/default"
    assert Settings().ledger_namespace == "a-1/default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BITT_API_URL", "http://ledger.example.com"),
        ("BITT_API_URL", "https://user:secret@ledger.example.com"),
        ("BITT_API_URL", "https://ledger.example.com/?x"),
        ("BITT_API_URI", "https://ledger.example.com"),
        ("COAFI_BITT_API_URL", "https://ledger.example.com"),
        ("COAFI_BITT_APPEND_TOKENS", "token"),
        ("COAFI_BITT_APPEND_TOKENS", '["token"]'),
        ("COAFI_BITT_APPEND_TOKENS", '{"b": ""}'),
        ("COAFI_BITT_APPEND_TOKENS", '{"b": []}'),
        ("COAFI_BITT_APPEND_TOKENS", '{"b/c": "token"}'),
        ("COAFI_INSTANCE", "A"),
        ("COAFI_INSTANCE", "a/b"),
    ],
)
def test_what_is_not_allowed_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name):
        load_settings()


def test_a_home_keeps_to_one_ledger(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token\n")
    token.chmod(0o600)
    remote = {"bitt_api_url": "http://127.0.0.1:1", "bitt_api_key": KEY, "instance": "b", "bitt_api_token_file": token}
    own = settings_for(tmp_path / "own")
    with open_resources(own):
        pass
    with (
        pytest.raises(ValidationError, match="has a ledger of its own"),
        open_resources(settings_for(tmp_path / "own", **remote)),
    ):
        pass
    with open_resources(settings_for(tmp_path / "other", **remote)) as resources:
        assert isinstance(resources.ledger, RemoteLedger)
        assert resources.ledger._token == SecretStr("a-token")
    state = tmp_path / "other" / "home" / "ledger" / "remote"
    state.mkdir(parents=True)
    (state / "checkpoint").write_text("a note")
    with (
        pytest.raises(ValidationError, match="has used the ledger of another instance"),
        open_resources(settings_for(tmp_path / "other")),
    ):
        pass
    with (
        pytest.raises(ValidationError, match="HTTP header"),
        open_resources(settings_for(tmp_path / "third", **remote, bitt_api_token="töken")),
    ):
        pass


def test_a_secret_in_a_file_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(ValidationError, match="there is no secret"):
        read_secret(path)
    path.write_text(" a secret\n")
    path.chmod(0o644)
    with pytest.raises(ValidationError, match="readable by others"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path).get_secret_value() == "a secret"
    path.write_text("\n")
    with pytest.raises(ValidationError, match="put the secret into it"):
        read_secret(path)


def test_mounted_secrets_are_settings_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "COAFI_DATABASE_URL").write_text("postgresql://u:p@db.example/coafi\n")
    (tmp_path / "COAFI_LOG_LEVEL").write_text("debug")
    (tmp_path / "BITT_API_TOKEN").write_text("a-token")
    (tmp_path / "ledger-key").write_text("what another setting names")
    (tmp_path / "..data").mkdir()  # as Kubernetes mounts them
    monkeypatch.setenv("COAFI_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("COAFI_LOG_LEVEL", "error")
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql://u:p@db.example/coafi"
    assert settings.bitt_api_token.get_secret_value() == "a-token"
    assert settings.log_level == "error"
    (tmp_path / "COAFI_DATABASE_URI").touch()
    with pytest.raises(ValidationError, match="COAFI_DATABASE_URI is no setting; did you mean COAFI_DATABASE_URL"):
        load_settings()


def test_a_directory_of_secrets_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COAFI_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ValidationError, match=r"COAFI_SECRETS_DIR: .*nowhere cannot be read: No such file"):
        load_settings()
