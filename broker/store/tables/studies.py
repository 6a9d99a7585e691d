"""Studies and what their parties send: dataset versions, their parts, assertion lists."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    Text,
)

from broker.store.tables.base import metadata

study = Table(
    "study",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_hash", String(64), nullable=False),
    Column("signed", Text, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, server_default="open"),
    Column("state_since", BigInteger),
    Column("state_before", String(16)),
)

past_study = Table(
    "past_study",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("study_hash", String(64), nullable=False),
    Column("signed", Text, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    Column("replaced_at", BigInteger, nullable=False),
)

deactivation = Table(
    "deactivation",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("notice", Text, nullable=False, comment="JSON, signed by the custodian"),
    Column("registered_at", BigInteger, nullable=False),
)

dataset = Table(
    "dataset",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("manifest", Text, nullable=False),
    Column("manifest_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("announced_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("checked_at", BigInteger, comment="when the worker opened it"),
    Column("quarantine", Text, nullable=False, server_default="", comment="why; for people"),
)

part = Table(
    "part",
    metadata,
    Column("study_id", String(64), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("dataset", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("blob_id", String(32), nullable=False, unique=True),
    ForeignKeyConstraint(
        ["study_id", "uploader", "dataset"],
        ["dataset.study_id", "dataset.uploader", "dataset.number"],
    ),
)

assertion_list = Table(
    "assertion_list",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("placed_at", BigInteger, nullable=False),
)
