"""What is agreed, taken back and destroyed: confirmations, opt-outs, destructions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text

from broker.store.tables.base import metadata

confirmation = Table(
    "confirmation",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("party", String(64), primary_key=True),
    Column("study_hash", String(64), nullable=False),
    Column("confirmation", Text, nullable=False, comment="JSON, signed by the party"),
    Column("confirmed_at", BigInteger, nullable=False),
)

opt_out_list = Table(
    "opt_out_list",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("placed_at", BigInteger, nullable=False),
    Column("read_at", BigInteger),
    Column("report", Text, comment="JSON: what held the records"),
)

destruction = Table(
    "destruction",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("asked_by", String(140), nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("tally", Text, comment="JSON, counted before anything went"),
    Column("certificate", Text, comment="JSON, signed by the broker"),
    Column("finished_at", BigInteger),
)
