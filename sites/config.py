"""
The site file: where a site's records are, how to read them, where its broker and secrets are.

    site = load_site(Path("site.toml"))

Paths in it are relative to the file itself, so a folder can be copied and still works.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from linkage import strict_toml
from linkage.errors import SiteRefused
from linkage.strict_toml import Fault, Place, Strict
from linkage.study import Identifier
from sites.agent_config import AgentConfig
from sites.cohort.config import ImagingConfig, OmopConfig
from sites.cohort.config_counts import CountsConfig
from sites.sources.config import DelimitedConfig as DelimitedConfig
from sites.sources.config import SourceConfig as SourceConfig
from sites.strata_config import StrataConfig

NO_SOURCE = SourceConfig.model_construct(kind="none")
"""Of a commons that only receives; `open_source` refuses it."""

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class BrokerConfig(Strict):
    """The table [broker]. custodian: the custodian's fingerprint as read out by telephone."""

    url: str
    audience: str = "commons-linkage-broker"
    custodian: str | None = None

    @field_validator("url")
    @classmethod
    def _safe_to_call(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
            raise Fault("is no web address", 'write it like "https://broker.example.org"')
        if parts.path.rstrip("/").endswith("/v1"):
            raise Fault("is an address inside the broker", "leave out /v1")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise Fault("would send access tokens in the clear", "use https://")
        return value


class SiteConfig(Strict):
    """
    The whole site file. contributor: who tokenizes, where that is not the party itself. source:
    may be left out by a commons whose contributors tokenize.

    private: folder of keys, maps and packages; only the owner can read it. keys: where the
    secrets are, in files of that folder or in the system's keyring. agent: what is answered by
    itself, and what needs a person. strata: whether records bear marks of their groups.
    """

    remedies: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("study", "clk", "match_key"),
        "this is a study file; give the site file, which `linkage-site init` writes",
    )

    party: Identifier
    contributor: Identifier | None = None
    private: Place = Field(default=Path("private"), validate_default=True)
    keys: Literal["file", "keyring"] = "file"
    source: SourceConfig = NO_SOURCE
    broker: BrokerConfig | None = None
    imaging: ImagingConfig | None = None
    omop: OmopConfig | None = None
    counts: CountsConfig = CountsConfig()
    agent: AgentConfig = AgentConfig()
    strata: StrataConfig = StrataConfig()

    @property
    def uploader(self) -> str:
        """Who signs and uploads: the contributor, or the party itself."""
        return self.contributor or self.party


def load_site(path: Path) -> SiteConfig:
    """Read a site file; its paths come back absolute. Raises SiteRefused with line and remedy."""
    if not path.exists():
        raise SiteRefused(
            file=str(path),
            line=0,
            key="",
            rule="there is no such file",
            hint="run this in the folder of the site file, or name it with --site",
        )
    return strict_toml.load(path, SiteConfig, SiteRefused)
