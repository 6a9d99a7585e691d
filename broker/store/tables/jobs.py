"""
Releases, questions and deliveries: jobs, decisions about them, what withdrawals did to them, who
uses them, sealed items.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from broker.store.tables.base import metadata

job = Table(
    "job",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("run_id", ForeignKey("run.id"), nullable=False),
    Column("about", String(64), index=True, comment="of a delivery, its question"),
    Column("request", Text, nullable=False, comment="JSON, by kind"),
    Column("state", String(16), nullable=False, index=True),
    Column("failure", Text),
    Column("asked_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("number", Integer, comment="of a release, by study and audience"),
    Column("terms", Text, comment="of a release, JSON: what stewards consent to"),
    Column("made", Text, comment="JSON: what it holds, and who was withdrawn before"),
    Column("checked", Text, comment="JSON: uploads up to which withdrawals are known"),
)

approval = Table(
    "approval",
    metadata,
    # Of a question or a release.
    Column("question_id", ForeignKey("job.id"), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("decision", String(16), nullable=False),
    Column("approval", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
)

remark = Table(
    "remark",
    metadata,
    Column("question_id", ForeignKey("job.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("author", String(80), nullable=False),
    Column("remark", Text, nullable=False, comment="JSON, as it was signed"),
    Column("said_at", BigInteger, nullable=False),
)

affected = Table(
    "affected",
    metadata,
    Column("job_id", ForeignKey("job.id"), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("records", BigInteger, nullable=False, comment="withdrawn since it was made"),
    Column("since", BigInteger, nullable=False),
)

pin = Table(
    "pin",
    metadata,
    Column("job_id", ForeignKey("job.id"), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("pinned_at", BigInteger, nullable=False),
)

item = Table(
    "item",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("recipient", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("placed_at", BigInteger, nullable=False),
    UniqueConstraint("study_id", "recipient", "sender", "purpose", "subject"),
)
