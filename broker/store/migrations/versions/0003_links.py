"""
Links with their facts. Runs of earlier versions told none: they begin with the next run.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "link",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("left_pseudonym", sa.LargeBinary(length=16), nullable=False),
        sa.Column("right_pseudonym", sa.LargeBinary(length=16), nullable=False),
        sa.Column("since", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until", sa.Integer(), nullable=True),
        sa.Column(
            "tier", sa.String(length=16), nullable=False, comment="linkage.matching.links.TIERS"
        ),
        sa.Column(
            "model", sa.Integer(), nullable=False, comment="weights.MODEL_VERSION of the run"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_link_study")),
        sa.PrimaryKeyConstraint(
            "study_id", "left_pseudonym", "right_pseudonym", "since", name=op.f("pk_link")
        ),
    )
    # Every read goes by the primary key, and two million inserts are a third faster without it.
    op.drop_index("ix_membership_span", table_name="membership")


def downgrade() -> None:

    op.create_index("ix_membership_span", "membership", ["study_id", "since", "until"])
    op.drop_table("link")
