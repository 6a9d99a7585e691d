"""What people propose in a browser to their parties' agents."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table, Text

from broker.store.tables.base import metadata

proposal = Table(
    "proposal",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("party", String(64), nullable=False),
    Column("person", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("about", String(80), nullable=False, comment="question or release"),
    Column("body", Text, nullable=False, comment="JSON, by kind"),
    Column("made_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("begun_at", BigInteger, comment="when the party's agent took it up"),
    Column("done_at", BigInteger),
    Column("note", Text, nullable=False),
    Column("result", String(80), nullable=False),
)
