"""
What stewards ask back about a question, and the answers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # Software of the version before neither reads nor writes it.
    op.create_table(
        "remark",
        sa.Column("question_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False, comment="JSON, as it was signed"),
        sa.Column("said_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["job.id"], name=op.f("fk_remark_job")),
        sa.PrimaryKeyConstraint("question_id", "number", name=op.f("pk_remark")),
    )


def downgrade() -> None:

    op.drop_table("remark")
