"""Runs and their second looks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from broker.store.tables.base import metadata

run = Table(
    "run",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("inputs", Text, nullable=False, comment="JSON: dataset number by uploader"),
    Column("software", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("stage", String(32), nullable=False, default=""),
    Column("stage_began", Float),
    Column("progress", Float, nullable=False, default=0.0),
    Column("seconds", Text, nullable=False, default="{}"),
    Column("work", Text, nullable=False, server_default="{}"),
    Column("sequence", Integer, comment="order of finished runs within the study, from 1"),
    Column("result_digest", String(64)),
    Column("report", Text),
    Column("failure", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("precision", Float, comment="wanted of the links; null for the best F1"),
    Column(
        "asserted",
        Text,
        nullable=False,
        server_default="{}",
        comment="JSON: assertion list number by uploader",
    ),
    Column(
        "opted_out",
        Text,
        nullable=False,
        server_default="{}",
        comment="JSON: opt-out list number by uploader",
    ),
    Column(
        "purpose",
        String(64),
        nullable=False,
        server_default="",
        comment="of those that the study declares",
    ),
    Column(
        "of_run",
        String(64),
        comment="the run whose pairs this one decides anew; null where it makes its own",
    ),
    Column(
        "reviewed",
        Text,
        nullable=False,
        server_default="[]",
        comment="JSON: the closed reviews whose decisions count, by run",
    ),
    UniqueConstraint("study_id", "sequence"),
    Index("ix_run_study_id_started_at", "study_id", "started_at"),
)

intermediate = Table(
    "intermediate",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("blob_id", String(32), nullable=False),
)

second_look = Table(
    "second_look",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("until", Float, nullable=False, comment="when the run goes on without the silent"),
    Column("over_at", Float, comment="when the run went on"),
)

look_request = Table(
    "look_request",
    metadata,
    Column("run_id", ForeignKey("second_look.run_id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("questions", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("answer_blob_id", String(32), unique=True),
    Column("answer_digest", String(64)),
    Column("refusals", Integer, nullable=False, default=0),
    Column("refusal", Text, nullable=False, default=""),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("worker", String(64), primary_key=True),
    Column("seen_at", Float, nullable=False),
)
