"""What parties offer questions to name: heads of newest lists, concepts, words of long lists."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

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
    # With the place: PostgreSQL plans a list's first search before it has counted anything, and by
    # the kind of record alone it would read a third of the list.
    Index("ix_offered_concept_place", "study_id", "domain", "position", "party"),
    # A search reads a list from its beginning: on SQLite its rows lie in that order.
    sqlite_with_rowid=False,
)

offered_vocabulary = Table(
    "offered_vocabulary",
    metadata,
    Column("study_id", String(64), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("domain", String(16), primary_key=True),
    Column("words", Text, nullable=False, comment="of folded names, one a line"),
    Column("counts", LargeBinary, nullable=False, comment="uint32, names by line"),
    ForeignKeyConstraint(
        ["study_id", "party"],
        ["offered_list.study_id", "offered_list.party"],
        ondelete="CASCADE",
    ),
)

offered_word = Table(
    "offered_word",
    metadata,
    Column("study_id", String(64), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("domain", String(16), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("positions", LargeBinary, nullable=False, comment="uint32, ascending"),
    ForeignKeyConstraint(
        ["study_id", "party"],
        ["offered_list.study_id", "offered_list.party"],
        ondelete="CASCADE",
    ),
    sqlite_with_rowid=False,
)
