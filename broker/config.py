"""
The broker's home folder and its configuration, `config.toml`: frozen, unknown settings refused.

    HOME/config.toml           settings, owner-only
    HOME/public.json           the broker's public identity, for the custodian to pin
    HOME/worker/identity.key   its private keys; only the worker needs this folder
    HOME/accounts.key          for people's second factors and sessions; only serve needs it
    HOME/blobs/                sealed packages, unless [blobs] names a bucket; then the spool only
    HOME/broker.sqlite         the database, unless [database] names another
    HOME/workflows.sqlite      the state of running jobs, likewise
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from broker.account_config import LOOPBACK, AccountSettings, Oidc
from broker.account_key import make_account_key
from broker.blob_settings import BlobSettings
from broker.settings import LogSettings, MetricsSettings, blamed, from_environment
from linkage import strict_toml
from linkage.errors import BrokerRefused, KeyRefused
from linkage.messages import BROKER
from linkage.participation import LONGEST_DAYS, RetentionRules
from linkage.roles import require_no_custodian
from linkage.sealing import Identity, PublicIdentity, write_secret
from linkage.strict_toml import Fault, Strict

CONFIG = "config.toml"
DATABASE_URL_FILE = "LINKAGE_BROKER_DATABASE_URL_FILE"
"""Environment variable: a file with the database URL, for container secrets."""

_MIB = 1 << 20


class Server(Strict):
    """The table [server]. audience: what callers' assertions must name as `aud`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)
    audience: str = Field(default="commons-linkage-broker", min_length=3, max_length=200)
    allow_rehearsal: bool = False
    behind_tls_proxy: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    proxy_addresses: tuple[str, ...] = ("127.0.0.1", "::1")

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Server:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise Fault("TLS needs both tls_certificate and tls_key", "give both files or none")
        if self.host in LOOPBACK or self.tls_certificate or self.behind_tls_proxy:
            return self
        raise Fault(
            "without TLS the broker listens on this machine only",
            "give tls_certificate and tls_key, or say behind_tls_proxy = true",
            "server",
            "host",
        )


class DatabaseSettings(Strict):
    """The table [database]. url_file keeps a password out of config.toml. Empty: SQLite here."""

    url: str = Field(default="", repr=False)
    url_file: Path | None = None


class Tokens(Strict):
    """The table [tokens], in seconds. assertion: how far ahead an assertion may expire."""

    access_seconds: int = Field(default=900, ge=1, le=3600)
    assertion_seconds: int = Field(default=300, ge=10, le=300)
    clock_skew_seconds: int = Field(default=30, ge=0, le=120)


class Limits(Strict):
    """
    The table [limits]: byte and count caps. relayed: one sealed answer or bundle of rows.
    reserve: of the disk, which callers never get. study, party: all that a study, or one party
    with its contributors, may keep here; an admin can give one study or party another quota.
    """

    json_bytes: int = Field(default=16 * _MIB, ge=1024)
    dataset_bytes: int = Field(default=64 * 1024 * _MIB, ge=1)
    dataset_records: int = Field(default=200_000_000, ge=1)
    relayed_bytes: int = Field(default=2047 * _MIB, ge=1, le=2047 * _MIB)
    reserve_bytes: int = Field(default=256 * _MIB, ge=0)
    study_bytes: int = Field(default=1024 * 1024 * _MIB, ge=1)
    party_bytes: int = Field(default=256 * 1024 * _MIB, ge=1)


class WorkerSettings(Strict):
    """
    The table [worker]. poll: how often it looks for new work. take_over: how long a worker may
    be silent before others take its work. head: between signed heads of the audit log. All in
    seconds. cores: 0 takes every core.
    keep_pairs_days: how long the weighed pairs of a finished run stay; 0: not at all.
    affordable_comparisons: of CLKs, up to which a run compares all pairs; None: as measured
    (linkage.matching.planning).
    key_holder: module:function that gives the keys, instead of a file (broker.keys).
    """

    identity: Path = Path("worker/identity.key")
    key_holder: str = Field(default="", pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")
    poll_seconds: float = Field(default=0.1, ge=0.01, le=60)
    heartbeat_seconds: float = Field(default=5.0, ge=0.1, le=60)
    take_over_seconds: float = Field(default=120.0, ge=1)
    head_seconds: float = Field(default=600.0, ge=1, le=86_400)
    cores: int = Field(default=0, ge=0, le=1024)
    keep_pairs_days: int = Field(default=7, ge=0, le=3650)
    affordable_comparisons: int | None = Field(default=None, ge=0)


class Retention(RetentionRules):
    """
    The table [retention]: the rules of a study file's, for every study; the shorter counts.
    backups_days: how long the admin keeps backups, as certificates of destruction say.
    """

    backups_days: int | None = Field(default=None, ge=0, le=LONGEST_DAYS)


class BrokerConfig(Strict):
    """The whole of config.toml; every table may be left out."""

    server: Server = Server()
    database: DatabaseSettings = DatabaseSettings()
    blobs: BlobSettings = BlobSettings()
    tokens: Tokens = Tokens()
    limits: Limits = Limits()
    worker: WorkerSettings = WorkerSettings()
    retention: Retention = Retention()
    accounts: AccountSettings = AccountSettings()
    oidc: Oidc = Oidc()
    metrics: MetricsSettings = MetricsSettings()
    logs: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _comes_back(self) -> BrokerConfig:
        if self.oidc.issuer and not self.accounts.origin:
            raise Fault(
                "an identity provider must know where people come back to",
                'write origin = "https://..." into [accounts]',
                "oidc",
                "issuer",
            )
        return self


@dataclass(frozen=True, slots=True)
class Home:
    """A broker's folder with its settings. Relative paths in the settings start here."""

    path: Path
    config: BrokerConfig

    @property
    def blobs(self) -> Path:
        """Folder of the sealed packages."""
        return self.path / "blobs"

    @property
    def identity_file(self) -> Path:
        """The broker's private keys; only the worker can read them."""
        return self.path / self.config.worker.identity

    @property
    def accounts_key_file(self) -> Path:
        """What encrypts people's second factors; only the server reads it."""
        return self.path / self.config.accounts.key

    @property
    def by_tls(self) -> bool:
        """Do browsers speak TLS with it, or with a proxy in front of it?"""
        return bool(self.config.server.tls_certificate) or self.config.server.behind_tls_proxy

    def public(self) -> PublicIdentity:
        """Return the broker's public identity. Raises BrokerRefused where there is none."""
        try:
            return PublicIdentity.model_validate_json((self.path / "public.json").read_bytes())
        except (OSError, ValueError):
            raise _refused(
                self.path / "public.json", "is missing or damaged", "restore it from your backup"
            ) from None

    def database_url(self) -> URL:
        """Return the database's URL: environment's file, then url_file, url, SQLite here."""
        named = os.environ.get(DATABASE_URL_FILE) or self.config.database.url_file
        if not named and not self.config.database.url:
            return make_url(f"sqlite:///{(self.path / 'broker.sqlite').absolute()}")
        return _checked_url(_read(self.path / named) if named else self.config.database.url)

    def workflow_url(self) -> URL:
        """Return where DBOS keeps its state: its own SQLite file, or the same PostgreSQL."""
        url = self.database_url()
        if url.get_backend_name() != "sqlite":
            return url
        return make_url(f"sqlite:///{(self.path / 'workflows.sqlite').absolute()}")


def load_home(path: Path) -> Home:
    """
    Read a broker's folder; the environment's settings win. Raises BrokerRefused with file, line or
    variable, key and remedy.
    """
    if not (path / CONFIG).is_file():
        raise _refused(
            path, "is no broker's home folder", f"make one with `linkage-broker init {path}`"
        )
    over = from_environment(os.environ, BrokerConfig)
    try:
        return Home(path, strict_toml.load(path / CONFIG, BrokerConfig, BrokerRefused, over))
    except BrokerRefused as refusal:
        raise blamed(refusal, over) from None


def create_home(
    path: Path,
    *,
    port: int = 8400,
    database_url_file: Path | None = None,
    allow_rehearsal: bool = False,
) -> Home:
    """
    Make a broker's folder with new keys. Raises BrokerRefused if the folder is one already; unless
    for rehearsals, KeyRefused beside a custodian: who makes study keys must not hold encodings.
    """
    if not allow_rehearsal:
        require_no_custodian(path)
    if (path / CONFIG).exists():
        raise _refused(path, "is a broker's home folder already", "choose another folder")
    text = _CONFIG_TEXT.format(
        port=port,
        rehearsal=str(allow_rehearsal).lower(),
        database=f'url_file = "{database_url_file.absolute()}"'
        if database_url_file
        else '# url_file = "/etc/linkage/database-url"',
    )
    config = strict_toml.parse(text, BrokerConfig, BrokerRefused, file=CONFIG)
    home = Home(path, config)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = Identity.generate(BROKER)
    identity.save(home.identity_file)
    make_account_key(home.accounts_key_file)
    (path / "public.json").write_text(identity.public().model_dump_json(indent=1))
    home.blobs.mkdir(mode=0o700, exist_ok=True)
    # Last, so that a folder whose set-up was cut short is not taken for a broker's.
    write_secret(path / CONFIG, text.encode())
    return home


def url_in(file: Path) -> URL:
    """Read a database URL from a file, as url_file has it. Raises KeyRefused, BrokerRefused."""
    return _checked_url(_read(file))


def _checked_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise _refused(Path("database URL"), "is no URL", _URL_HINT) from None
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise _refused(Path("database URL"), "names another database system", _URL_HINT)
    return url


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as fault:
        raise KeyRefused(
            f"{path} cannot be read ({type(fault).__name__})", hint="check path and permissions"
        ) from None


def _refused(path: Path, rule: str, hint: str) -> BrokerRefused:
    return BrokerRefused(file=str(path), line=0, key="", rule=rule, hint=hint)


_URL_HINT = "use postgresql+psycopg://user:password@host/database or sqlite:////path"

_CONFIG_TEXT = """\
# The honest broker's settings; docs/broker.md explains each. Restart serve and worker after
# a change. What is left out keeps its default.

[server]
host = "127.0.0.1"
port = {port}
# audience = "commons-linkage-broker"
# tls_certificate = "/etc/linkage/broker.crt"   # needed to listen elsewhere than on this machine
# tls_key = "/etc/linkage/broker.key"
# behind_tls_proxy = true                       # or a proxy in front of it speaks TLS
allow_rehearsal = {rehearsal}

[database]
# A file that holds postgresql+psycopg://user:password@host/database; without it, SQLite here.
{database}
"""
