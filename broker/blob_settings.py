"""The table [blobs] of config.toml: where sealed packages lie, and what may be under way."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from linkage.strict_toml import Fault, Strict

_GIB = 1 << 30
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9._-]+)*)/?")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class BlobSettings(Strict):
    """
    The table [blobs]. url: s3://bucket/prefix; empty: the folder HOME/blobs. endpoint: of a store
    that is not Amazon's. credentials_file: owner-only, as the AWS tools write it. ca_file: PEM, of
    whoever signed the endpoint's certificate. allow_http: inside a network of one's own. checksums:
    in front of and behind each body that is put, as S3 clients send them since 2025.
    attempts: of one request. spool: bytes of all bodies that are under way at a time.
    """

    url: str = ""
    endpoint: str = ""
    region: str = Field(default="us-east-1", min_length=1, max_length=64)
    credentials_file: Path | None = None
    ca_file: Path | None = None
    allow_http: bool = False
    checksums: bool = True
    connect_seconds: float = Field(default=5.0, ge=0.1, le=60)
    silent_seconds: float = Field(default=20.0, ge=1, le=300)
    attempts: int = Field(default=4, ge=1, le=10)
    spool_bytes: int = Field(default=16 * _GIB, ge=1)

    @property
    def bucket(self) -> tuple[str, str]:
        """Bucket and prefix, the latter without slashes at its ends."""
        found = _BUCKET.fullmatch(self.url)
        return (found[1], found[2].strip("/")) if found else ("", "")

    @model_validator(mode="after")
    def _whole(self) -> BlobSettings:
        if not self.url:
            set_all_the_same = (self.endpoint, self.credentials_file, self.ca_file)
            if any(set_all_the_same):
                raise Fault("these settings are of a bucket", 'give url = "s3://bucket/prefix"')
            return self
        if not _BUCKET.fullmatch(self.url) or ".." in self.url:
            raise Fault(
                "must be s3://bucket or s3://bucket/prefix",
                "no keys and no query in it; the keys go into credentials_file",
                "blobs",
                "url",
            )
        if self.credentials_file is None:
            raise Fault(
                "a bucket needs credentials_file",
                "name an owner-only file with aws_access_key_id and aws_secret_access_key",
                "blobs",
                "url",
            )
        self._check_endpoint()
        return self

    def _check_endpoint(self) -> None:
        if not self.endpoint:
            return
        parts = urlsplit(self.endpoint)
        try:
            port_is_sound = parts.port is None or parts.port > 0
        except ValueError:
            port_is_sound = False
        bare = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_sound:
            bare = False
        if not bare:
            raise Fault(
                "must be https://host or https://host:port", "leave out all else", "blobs",
                "endpoint",
            )  # fmt: skip
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.allow_http:
            raise Fault(
                "without TLS the store must be on this machine",
                "use https://, or say allow_http = true where the network is your own",
                "blobs",
                "endpoint",
            )
