"""
What stewards consent to in releases, their numbers, what withdrawals did to them, who uses them.

Older software makes releases without number and terms; the next one that is made numbers them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = (
    ("number", sa.Integer(), "of a release, by study and audience"),
    ("terms", sa.Text(), "of a release, JSON: what stewards consent to"),
    ("made", sa.Text(), "JSON: what it holds, and who was withdrawn before"),
    ("checked", sa.Text(), "JSON: uploads up to which withdrawals are known"),
)


def upgrade() -> None:

    for name, kind, comment in COLUMNS:
        op.add_column("job", sa.Column(name, kind, nullable=True, comment=comment))
    op.create_table(
        "affected",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column(
            "records", sa.BigInteger(), nullable=False, comment="withdrawn since it was made"
        ),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_affected_job")),
        sa.PrimaryKeyConstraint("job_id", "party", name=op.f("pk_affected")),
    )
    op.create_table(
        "pin",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("pinned_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_pin_job")),
        sa.PrimaryKeyConstraint("job_id", "party", "name", name=op.f("pk_pin")),
    )


def downgrade() -> None:

    op.drop_table("pin")
    op.drop_table("affected")
    for name, _, _ in reversed(COLUMNS):
        op.execute(f"ALTER TABLE job DROP COLUMN {name}")
