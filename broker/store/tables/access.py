"""Who may call: admins' keys, used assertions, access tokens, repeated requests."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table, Text

from broker.store.tables.base import metadata

admin = Table(
    "admin",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("public_identity", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

assertion = Table(
    "assertion",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

access_token = Table(
    "access_token",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("study_id", String(64)),
    Column("name", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

request_key = Table(
    "request_key",
    metadata,
    Column("actor", String(140), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("job_id", ForeignKey("job.id"), nullable=False),
    Column("used_at", BigInteger, nullable=False),
)
