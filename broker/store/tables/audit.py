"""The audit log, its signed heads and who wishes for one."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

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

audit_index = Table(
    "audit_index",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("study", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    *(
        Index(f"ix_audit_index_{name}_number", name, "number")
        for name in ("study", "actor", "action", "subject")
    ),
)

audit_digest = Table(
    "audit_digest",
    metadata,
    Column("digest", String(64), primary_key=True, comment="in the detail of an entry"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
)

head_wish = Table(
    "head_wish",
    metadata,
    Column("wished_by", String(140), primary_key=True),
)
