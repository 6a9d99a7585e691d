"""
What pages would else count each time: the links that two runs have in common, and where in a long
list of offered concepts a word stands.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # Software of the version before neither reads nor writes them. A run that it ends has no counts
    # and a list that it takes no words: both are then counted and read as they were before.
    op.create_table(
        "links_in_common",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("second", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("links", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_links_in_common_study")),
        sa.PrimaryKeyConstraint("study_id", "second", "first", name=op.f("pk_links_in_common")),
        sqlite_with_rowid=False,
    )
    # Both go with their list, also where software that knows nothing of them replaces it.
    op.create_table(
        "offered_vocabulary",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.String(length=16), nullable=False),
        sa.Column("words", sa.Text(), nullable=False, comment="of folded names, one a line"),
        sa.Column("counts", sa.LargeBinary(), nullable=False, comment="uint32, names by line"),
        sa.ForeignKeyConstraint(
            ["study_id", "party"],
            ["offered_list.study_id", "offered_list.party"],
            name=op.f("fk_offered_vocabulary_offered_list"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study_id", "party", "domain", name=op.f("pk_offered_vocabulary")),
    )
    op.create_table(
        "offered_word",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.String(length=16), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("positions", sa.LargeBinary(), nullable=False, comment="uint32, ascending"),
        sa.ForeignKeyConstraint(
            ["study_id", "party"],
            ["offered_list.study_id", "offered_list.party"],
            name=op.f("fk_offered_word_offered_list"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "study_id", "party", "domain", "line", name=op.f("pk_offered_word")
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:

    op.drop_table("offered_word")
    op.drop_table("offered_vocabulary")
    op.drop_table("links_in_common")
