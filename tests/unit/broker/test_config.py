"""The home folder: refusals that name file, line and remedy; no way to be custodian as well."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from broker.config import DATABASE_URL_FILE, create_home, load_home
from linkage.errors import BrokerRefused, KeyRefused
from linkage.sealing import Identity


def test_a_new_home_is_complete_and_private(tmp_path: Path) -> None:
    made = create_home(tmp_path / "home", port=8401)
    again = load_home(tmp_path / "home")
    assert again == made
    assert again.config.server.port == 8401
    assert not again.config.server.allow_rehearsal
    assert Identity.load(again.identity_file).public() == again.public()
    for path in (again.identity_file, again.path / "config.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(BrokerRefused, match="home folder already"):
        create_home(tmp_path / "home")


def test_who_is_custodian_is_no_broker(tmp_path: Path) -> None:
    keys = tmp_path / "home" / "keys"
    keys.mkdir(parents=True)
    (keys / "custodian.key").write_text("x")
    with pytest.raises(KeyRefused, match="different organisations"):
        create_home(tmp_path / "home")
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["keys"]
    assert create_home(tmp_path / "home", allow_rehearsal=True).config.server.allow_rehearsal


def test_a_folder_that_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(BrokerRefused, match="linkage-broker init"):
        load_home(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[server]\nprot = 1\n", 2, "did you mean 'port'"),
        ("[serve]\n", 1, "is not a known key"),
        ('[server]\nhost = "0.0.0.0"\n', 2, "without TLS"),
        ('[server]\ntls_key = "x"\n', 1, "both tls_certificate and tls_key"),
        ("[tokens]\naccess_seconds = 3601\n", 2, "less than or equal to 3600"),
        ("[tokens]\nassertion_seconds = 301\n", 2, "less than or equal to 300"),
        ("[worker]\naffordable_comparisons = -1\n", 2, "greater than or equal to 0"),
        ("[worker]\naffordable_comparisons = nan\n", 2, "a finite number"),
        ("[worker]\npoll_seconds = nan\n", 2, "less than or equal to 60"),
        ("[server\n", 1, "not valid TOML"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(BrokerRefused) as caught:
        load_home(tmp_path)
    assert caught.value.line == line
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '[server]\nhost = "0.0.0.0"\nbehind_tls_proxy = true\n',
        '[server]\nhost = "0.0.0.0"\ntls_certificate = "c"\ntls_key = "k"\n',
        '[server]\nhost = "::1"\n',
    ],
)
def test_listening_elsewhere_needs_tls(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    assert load_home(tmp_path).config.server.host


def test_where_the_database_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = create_home(tmp_path / "home")
    assert home.database_url().database == str(tmp_path / "home" / "broker.sqlite")
    assert home.workflow_url().database == str(tmp_path / "home" / "workflows.sqlite")
    secret = tmp_path / "url"
    secret.write_text("postgresql+psycopg://broker:s3cret@db/linkage\n")
    by_file = create_home(tmp_path / "other", database_url_file=secret)
    assert by_file.database_url().password == "s3cret"
    assert by_file.workflow_url() == by_file.database_url()
    assert "s3cret" not in (tmp_path / "other" / "config.toml").read_text()
    monkeypatch.setenv(DATABASE_URL_FILE, str(secret))
    assert home.database_url().host == "db"
    for bad in ("mysql://x/y", "no url", "postgresql://x/y"):
        secret.write_text(bad)
        with pytest.raises(BrokerRefused, match="postgresql\\+psycopg://"):
            home.database_url()
    secret.unlink()
    with pytest.raises(KeyRefused, match="cannot be read"):
        home.database_url()
