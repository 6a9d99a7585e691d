"""
Decisions of reviewers that were taken back, and the audit entry of each decision.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # Software of the version before writes no entry number, and takes nothing back.
    op.add_column(
        "review_decision",
        sa.Column(
            "entry",
            sa.BigInteger(),
            nullable=True,
            comment="of the audit log; null: older than this column",
        ),
    )
    op.create_table(
        "review_undone",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("undone_entry", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("case_id", sa.String(32), nullable=False),
        sa.Column("reading", sa.Integer(), nullable=False),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("answer", sa.String(16), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=True),
        sa.Column("undone_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["review.run_id"], name=op.f("fk_review_undone_review")
        ),
        sa.PrimaryKeyConstraint("run_id", "undone_entry", name=op.f("pk_review_undone")),
        comment="decisions that were taken back, as they were: history",
    )


def downgrade() -> None:

    op.drop_table("review_undone")
    op.execute("ALTER TABLE review_decision DROP COLUMN entry")
