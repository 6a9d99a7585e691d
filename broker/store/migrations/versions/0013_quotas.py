"""
What uploads may take, what was put into quarantine, and keys of repeated requests.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # Software of the version before knows none of these, and writes rows without them.
    op.add_column(
        "dataset", sa.Column("bytes", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "dataset",
        sa.Column(
            "checked_at", sa.BigInteger(), nullable=True, comment="when the worker opened it"
        ),
    )
    op.add_column(
        "dataset",
        sa.Column(
            "quarantine",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="why; for people",
        ),
    )
    op.create_table(
        "quota",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column(
            "party", sa.String(length=64), nullable=False, comment="empty: the study as a whole"
        ),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_quota_study")),
        sa.PrimaryKeyConstraint("study_id", "party", name=op.f("pk_quota")),
    )
    op.create_table(
        "claimed_key",
        sa.Column("actor", sa.String(length=140), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_claimed_key")),
    )
    _count_bytes()


def _count_bytes() -> None:
    """A manifest has always listed the sizes of its parts."""
    dataset = sa.table(
        "dataset",
        sa.column("study_id"),
        sa.column("uploader"),
        sa.column("number"),
        sa.column("manifest"),
        sa.column("bytes"),
    )
    connection = op.get_bind()
    names = (dataset.c.study_id, dataset.c.uploader, dataset.c.number)
    for row in connection.execute(sa.select(*names)).all():
        mine = sa.and_(*(name == value for name, value in zip(names, row, strict=True)))
        manifest = connection.execute(sa.select(dataset.c.manifest).where(mine)).scalar_one()
        size = sum(part["size"] for part in json.loads(manifest).get("parts", ()))
        connection.execute(sa.update(dataset).where(mine).values(bytes=size))


def downgrade() -> None:

    op.drop_table("claimed_key")
    op.drop_table("quota")
    for column in ("quarantine", "checked_at", "bytes"):
        op.execute(f"ALTER TABLE dataset DROP COLUMN {column}")
