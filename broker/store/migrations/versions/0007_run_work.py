"""
What a run's search for candidates has done, for whoever waits for it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # A run of an earlier version tells its progress only.
    op.add_column("run", sa.Column("work", sa.Text(), server_default="{}", nullable=False))


def downgrade() -> None:

    op.execute("ALTER TABLE run DROP COLUMN work")
