"""What parties offer questions to name: the head of each party's newest list, and its concepts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from broker.store.tables.base import metadata

offered_list = Table(
    "offered_list",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("made_at", BigInteger, nullable=False),
    Column("placed_at", BigInteger, nullable=False),
    Column("least", Integer, nullable=False, comment="persons an entry stands for"),
    Column("head", Text, nullable=False, comment="JSON, signed by the party"),
)

offered_concept = Table(
    "offered_concept",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("concept_id", BigInteger, nullable=False),
    Column("domain", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False, comment="the name as it is searched"),
    Column("vocabulary", String(64), nullable=False),
    Column("code", String(64), nullable=False),
    Column("code_folded", String(64), nullable=False),
    Column("standard", String(1), nullable=False),
    Index("ix_offered_concept_id", "study_id", "concept_id"),
    Index("ix_offered_concept_code", "study_id", "code_folded"),
    Index("ix_offered_concept_domain", "study_id", "domain"),
    # A search reads a list from its beginning: on SQLite its rows lie in that order.
    sqlite_with_rowid=False,
)
