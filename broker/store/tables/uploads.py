"""What uploads may take, and the keys of repeated requests."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table

from broker.store.tables.base import metadata

quota = Table(
    "quota",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("party", String(64), primary_key=True, comment="empty: the study as a whole"),
    Column("bytes", BigInteger, nullable=False),
    Column("set_at", BigInteger, nullable=False),
)

claimed_key = Table(
    "claimed_key",
    metadata,
    Column("actor", String(140), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
)
