"""
The index by which a list's names of one kind of record are read: in the order of their places.
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_PLACE = ["study_id", "domain", "position", "party"]


def upgrade() -> None:

    # Software of the version before finds with the new index what it found with the old.
    op.create_index("ix_offered_concept_place", "offered_concept", _PLACE)
    op.drop_index("ix_offered_concept_domain", "offered_concept")


def downgrade() -> None:

    op.create_index("ix_offered_concept_domain", "offered_concept", ["study_id", "domain"])
    op.drop_index("ix_offered_concept_place", "offered_concept")
