"""The audit log, its signed heads and who wishes for one."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, String, Table, Text

from broker.store.tables.base import metadata

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False, comment="canonical JSON"),
    Column("hash", String(64), nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False, comment="the newest entry that it covers"),
    Column("head", Text, nullable=False, comment="canonical JSON, signed"),
)

head_wish = Table(
    "head_wish",
    metadata,
    Column("wished_by", String(140), primary_key=True),
)
