"""Who is whom: persons, whose records are theirs, and what ties these together."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table

from broker.store.tables.base import metadata

person = Table(
    "person",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("person_id", LargeBinary(16), primary_key=True),
    Column("since", Integer, nullable=False, comment="sequence of the run that made it"),
    Column("until", Integer, comment="sequence of the run that ended it"),
    Column("merged_into", LargeBinary(16), comment="the person that took it over"),
    Column("split_from", LargeBinary(16), comment="the person whose records it took"),
)

membership = Table(
    "membership",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("pseudonym", LargeBinary(16), primary_key=True),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer),
    Column("person_id", LargeBinary(16), nullable=False),
)

link = Table(
    "link",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("left_pseudonym", LargeBinary(16), primary_key=True),
    Column("right_pseudonym", LargeBinary(16), primary_key=True),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer),
    Column("tier", String(16), nullable=False, comment="linkage.matching.links.TIERS"),
    Column("model", Integer, nullable=False, comment="weights.MODEL_VERSION of the run"),
)

links_in_common = Table(
    "links_in_common",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("second", Integer, primary_key=True, autoincrement=False),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("links", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Of two runs, by sequence. With itself a run has all its links in common."""
