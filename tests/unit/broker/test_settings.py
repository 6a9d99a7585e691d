"""Settings by environment: they win, are as strict as the file, and hold no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli import app
from broker.config import BrokerConfig, create_home, load_home
from broker.settings import from_environment, in_force, variable
from linkage.errors import BrokerRefused


def test_each_setting_has_a_variable_of_its_own() -> None:
    names = [one.name.replace(".", "_") for one in in_force(BrokerConfig(), {})]
    assert len({name.upper() for name in names}) == len(names)
    assert len(names) > 30


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_home(tmp_path / "home", port=8401)
    monkeypatch.setenv("LINKAGE_BROKER_SERVER_PORT", "8500")
    monkeypatch.setenv("LINKAGE_BROKER_SERVER_ALLOW_REHEARSAL", "true")
    monkeypatch.setenv("LINKAGE_BROKER_WORKER_IDENTITY", "elsewhere/identity.key")
    monkeypatch.setenv("LINKAGE_BROKER_WORKER_HEAD_SECONDS", "30.5")
    monkeypatch.setenv("LINKAGE_BROKER_SERVER_PROXY_ADDRESSES", '["10.0.0.1"]')
    monkeypatch.setenv("LINKAGE_BROKER_HOME", str(tmp_path))
    config = load_home(tmp_path / "home").config
    assert (config.server.port, config.server.allow_rehearsal) == (8500, True)
    assert config.worker.identity == Path("elsewhere/identity.key")
    assert config.worker.head_seconds == 30.5
    assert config.server.proxy_addresses == ("10.0.0.1",)


def test_file_and_environment_are_judged_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text('[server]\nhost = "192.0.2.1"\n')
    with pytest.raises(BrokerRefused, match="without TLS"):
        load_home(tmp_path)
    monkeypatch.setenv("LINKAGE_BROKER_SERVER_BEHIND_TLS_PROXY", "true")
    assert load_home(tmp_path).config.server.host == "192.0.2.1"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("LINKAGE_BROKER_SERVER_PROT", "1", "did you mean LINKAGE_BROKER_SERVER_PORT?"),
        ("LINKAGE_BROKER_X", "1", "names no setting"),
        ("LINKAGE_BROKER_HOMES", "1", "did you mean LINKAGE_BROKER_HOME?"),
        ("LINKAGE_BROKER_SERVER_PORT", "many", "valid integer"),
        ("LINKAGE_BROKER_SERVER_PORT", "70000", "less than or equal to 65535"),
        ("LINKAGE_BROKER_SERVER_HOST", "192.0.2.1", "without TLS"),
        ("LINKAGE_BROKER_SERVER_PROXY_ADDRESSES", "10.0.0.1", "is not a TOML value"),
        ("LINKAGE_BROKER_DATABASE_URL", "postgresql://u:canary@h/d", "would hold a secret"),
        ("LINKAGE_BROKER_LOGS_LEVEL", "loud", "'debug', 'info'"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    create_home(tmp_path / "home")
    monkeypatch.setenv(name, text)
    with pytest.raises(BrokerRefused) as caught:
        load_home(tmp_path / "home")
    assert name in str(caught.value)
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.hint


def test_check_shows_sources_and_hides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    create_home(home, port=8401)
    config = home / "config.toml"
    secret = "postgresql+psycopg://u:canary@h/d"
    config.write_text(config.read_text().replace("[database]", f'[database]\nurl = "{secret}"'))
    monkeypatch.setenv("LINKAGE_BROKER_LOGS_LEVEL", "debug")
    shown = CliRunner().invoke(app, ["config", "check", "--home", str(home)])
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines() if line}
    assert lines["server.port"] == ["file", "8401"]
    assert lines["server.host"] == ["file", "127.0.0.1"]
    assert lines["logs.level"] == ["environment", "debug"]
    assert lines["tokens.access_seconds"] == ["default", "900"]
    assert lines["database.url"] == ["file", "(hidden)"]
    assert "canary" not in shown.output
    as_json = CliRunner().invoke(app, ["config", "check", "--home", str(home), "--json"])
    assert '"logs.level": {\n  "value": "debug",\n  "source": "environment"' in as_json.stdout


def test_a_variable_is_table_and_key() -> None:
    assert variable("tokens", "access_seconds") == "LINKAGE_BROKER_TOKENS_ACCESS_SECONDS"
    found = from_environment({"LINKAGE_BROKER_TOKENS_ACCESS_SECONDS": "60"}, BrokerConfig)
    assert found == {"tokens": {"access_seconds": "60"}}
    assert from_environment({"OTHER": "1", "LINKAGE_SITE": "x"}, BrokerConfig) == {}
