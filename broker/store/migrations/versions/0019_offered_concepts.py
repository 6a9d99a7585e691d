"""
What parties offer questions to name: the newest list of each, with a row a concept.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # Software of the version before neither reads nor writes them.
    op.create_table(
        "offered_list",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("least", sa.Integer(), nullable=False, comment="persons an entry stands for"),
        sa.Column("head", sa.Text(), nullable=False, comment="JSON, signed by the party"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_offered_list_study")),
        sa.PrimaryKeyConstraint("study_id", "party", name=op.f("pk_offered_list")),
    )
    op.create_table(
        "offered_concept",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("concept_id", sa.BigInteger(), nullable=False),
        sa.Column("domain", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False, comment="the name as it is searched"),
        sa.Column("vocabulary", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("code_folded", sa.String(length=64), nullable=False),
        sa.Column("standard", sa.String(length=1), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_offered_concept_study")),
        sa.PrimaryKeyConstraint("study_id", "party", "position", name=op.f("pk_offered_concept")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_offered_concept_id", "offered_concept", ["study_id", "concept_id"])
    op.create_index("ix_offered_concept_code", "offered_concept", ["study_id", "code_folded"])
    op.create_index("ix_offered_concept_domain", "offered_concept", ["study_id", "domain"])


def downgrade() -> None:

    op.drop_table("offered_concept")
    op.drop_table("offered_list")
