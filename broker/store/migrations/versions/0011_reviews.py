"""
Runs that decide anew, and clerical review.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.add_column(
        "run",
        sa.Column(
            "of_run",
            sa.String(64),
            nullable=True,
            comment="the run whose pairs this one decides anew; null where it makes its own",
        ),
    )
    op.add_column(
        "run",
        sa.Column(
            "reviewed",
            sa.Text(),
            nullable=False,
            server_default="[]",
            comment="JSON: the closed reviews whose decisions count, by run",
        ),
    )
    op.create_table(
        "review",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("study_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reviewers", sa.Text(), nullable=False, comment="JSON: names at the console"),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True, comment="JSON: figures, once closed"),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_review_run")),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_review_study")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_review")),
    )
    op.create_index(op.f("ix_review_state"), "review", ["state"])
    op.create_table(
        "review_case",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("case_id", sa.String(32), nullable=False),
        sa.Column("one", sa.String(64), nullable=False),
        sa.Column("other", sa.String(64), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False, comment="JSON: agreement by field"),
        sa.ForeignKeyConstraint(["run_id"], ["review.run_id"], name=op.f("fk_review_case_review")),
        sa.PrimaryKeyConstraint("run_id", "case_id", name=op.f("pk_review_case")),
    )
    op.create_table(
        "review_decision",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("case_id", sa.String(32), nullable=False),
        sa.Column("reading", sa.Integer(), nullable=False, comment="1, 2 or 3 of its case"),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("answer", sa.String(16), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["review.run_id"], name=op.f("fk_review_decision_review")
        ),
        sa.PrimaryKeyConstraint("run_id", "case_id", "reading", name=op.f("pk_review_decision")),
        sa.UniqueConstraint(
            "run_id",
            "case_id",
            "reviewer",
            name=op.f("uq_review_decision_run_id_case_id_reviewer"),
        ),
    )


def downgrade() -> None:

    for table in ("review_decision", "review_case", "review"):
        op.drop_table(table)
    op.execute("ALTER TABLE run DROP COLUMN reviewed")
    op.execute("ALTER TABLE run DROP COLUMN of_run")
