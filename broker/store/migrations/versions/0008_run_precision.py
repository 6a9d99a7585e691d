"""
The precision that is wanted of a run's links.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # A run of an earlier version was for the best F1, which is what null says.
    op.add_column(
        "run",
        sa.Column(
            "precision",
            sa.Float(),
            nullable=True,
            comment="wanted of the links; null for the best F1",
        ),
    )


def downgrade() -> None:

    op.execute("ALTER TABLE run DROP COLUMN precision")
