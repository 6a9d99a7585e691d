"""
Uploaders and epochs: who tokenizes for a party has datasets of its own, and a study may be signed
again with a new key.
"""

import json
import tomllib

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_RENAMED = ("dataset", "part", "membership")


def upgrade() -> None:

    # In this form SQLite and PostgreSQL rename alike, foreign keys included.
    for table in _RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN party TO uploader")
    for table in ("dataset", "run"):
        op.add_column(table, sa.Column("epoch", sa.Integer(), server_default="1", nullable=False))
    _comment_on_inputs("JSON: dataset number by uploader")
    op.create_table(
        "past_study",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("study_hash", sa.String(length=64), nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_past_study_study")),
        sa.PrimaryKeyConstraint("study_id", "epoch", name=op.f("pk_past_study")),
    )
    op.create_table(
        "deactivation",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("notice", sa.Text(), nullable=False, comment="JSON, signed by the custodian"),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_deactivation_study")),
        sa.PrimaryKeyConstraint("study_id", "epoch", name=op.f("pk_deactivation")),
    )
    _fill_epochs()


def downgrade() -> None:

    op.drop_table("deactivation")
    op.drop_table("past_study")
    _comment_on_inputs("JSON: dataset number by party")
    for table in ("run", "dataset"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN epoch")
    for table in _RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN uploader TO party")


def _fill_epochs() -> None:
    """A broker of the first version had one epoch a study: what its signed study says."""
    connection = op.get_bind()
    for study_id, signed in connection.execute(sa.text("SELECT id, signed FROM study")).all():
        try:
            header = tomllib.loads(json.loads(signed)["study_toml"])["study"]
            epoch = int(header.get("epoch", 1))
        except (ValueError, KeyError, TypeError):
            continue  # an altered row is refused wherever it is read
        for name in ("dataset", "run"):
            table = sa.table(name, sa.column("study_id"), sa.column("epoch"))
            of_study = table.c.study_id == study_id
            connection.execute(table.update().where(of_study).values(epoch=epoch))


def _comment_on_inputs(comment: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("run", "inputs", existing_type=sa.Text(), comment=comment)
