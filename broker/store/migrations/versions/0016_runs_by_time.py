"""
The newest runs of a study without reading every run's report.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Software of the version before reads and writes as it did.
    op.create_index("ix_run_study_id_started_at", "run", ["study_id", "started_at"])


def downgrade() -> None:
    op.drop_index("ix_run_study_id_started_at", table_name="run")
