"""
Assertion lists, and which of them a run takes. Runs of earlier versions took none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "assertion_list",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("uploader", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("blob_id", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_assertion_list_study")),
        sa.PrimaryKeyConstraint("study_id", "uploader", "number", name=op.f("pk_assertion_list")),
        sa.UniqueConstraint("blob_id", name=op.f("uq_assertion_list_blob_id")),
    )
    op.add_column(
        "run",
        sa.Column(
            "asserted",
            sa.Text(),
            server_default="{}",
            nullable=False,
            comment="JSON: assertion list number by uploader",
        ),
    )


def downgrade() -> None:

    op.execute("ALTER TABLE run DROP COLUMN asserted")
    op.drop_table("assertion_list")
