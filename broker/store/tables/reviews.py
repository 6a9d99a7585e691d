"""Clerical reviews: what is shown, and what was decided."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from broker.store.tables.base import metadata

review = Table(
    "review",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reviewers", Text, nullable=False, comment="JSON: names at the console"),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("result", Text, comment="JSON: figures, once closed"),
    Column("failure", Text),
)

review_case = Table(
    "review_case",
    metadata,
    Column("run_id", ForeignKey("review.run_id"), primary_key=True),
    Column("case_id", String(32), primary_key=True),
    Column("one", String(64), nullable=False),
    Column("other", String(64), nullable=False),
    Column("fields", Text, nullable=False, comment="JSON: agreement by field"),
    # Counted with each decision: to count them for each page takes longer than a page may.
    Column("readings", Integer, nullable=False, server_default="0"),
    Column("said_same", Integer, nullable=False, server_default="0"),
    Column("said_different", Integer, nullable=False, server_default="0"),
)

review_decision = Table(
    "review_decision",
    metadata,
    Column("run_id", ForeignKey("review.run_id"), primary_key=True),
    Column("case_id", String(32), primary_key=True),
    Column(
        "reading",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="1, 2 or 3 of its case",
    ),
    Column("reviewer", String(200), nullable=False),
    Column("answer", String(16), nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("entry", BigInteger, comment="of the audit log; null: older than this column"),
    UniqueConstraint("run_id", "case_id", "reviewer"),
    Index("ix_review_decision_run_id_reviewer", "run_id", "reviewer", "case_id"),
)

review_undone = Table(
    "review_undone",
    metadata,
    Column("run_id", ForeignKey("review.run_id"), primary_key=True),
    Column("undone_entry", BigInteger, primary_key=True, autoincrement=False),
    Column("case_id", String(32), nullable=False),
    Column("reading", Integer, nullable=False),
    Column("reviewer", String(200), nullable=False),
    Column("answer", String(16), nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("entry", BigInteger),
    Column("undone_at", BigInteger, nullable=False),
    comment="decisions that were taken back, as they were: history",
)
