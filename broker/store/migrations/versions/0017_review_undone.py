"""
Decisions of reviewers that were taken back, the audit entry of each decision, and how often each
case of an open review was read.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

COUNTED = {
    "readings": "UPDATE review_case SET readings = (SELECT count(*) FROM review_decision d"
    " WHERE d.run_id = review_case.run_id AND d.case_id = review_case.case_id)",
    "said_same": "UPDATE review_case SET said_same = (SELECT count(*) FROM review_decision d WHERE"
    " d.run_id = review_case.run_id AND d.case_id = review_case.case_id AND d.answer = 'same')",
    "said_different": "UPDATE review_case SET said_different = (SELECT count(*) FROM"
    " review_decision d WHERE d.run_id = review_case.run_id AND d.case_id = review_case.case_id"
    " AND d.answer = 'different')",
}


def upgrade() -> None:

    # Software of the version before writes no entry number, takes nothing back and counts nothing:
    # it must not take answers while this version does.
    for name, count in COUNTED.items():
        column = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column("review_case", column)
        op.execute(count)
    op.add_column(
        "review_decision",
        sa.Column(
            "entry",
            sa.BigInteger(),
            nullable=True,
            comment="of the audit log; null: older than this column",
        ),
    )
    op.create_index(
        "ix_review_decision_run_id_reviewer",
        "review_decision",
        ["run_id", "reviewer", "case_id"],
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
    op.drop_index("ix_review_decision_run_id_reviewer", table_name="review_decision")
    op.execute("ALTER TABLE review_decision DROP COLUMN entry")
    for name in COUNTED:
        op.execute(f"ALTER TABLE review_case DROP COLUMN {name}")
