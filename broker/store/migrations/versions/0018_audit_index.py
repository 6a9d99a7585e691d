"""
What the audit log is searched by: the time, study, actor, action and subject of each entry.

The log itself stays as it is, and whoever writes to it writes nothing here: rows are added by the
worker, and when somebody searches (broker.store.audit_index).
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SEARCHED = ("study", "actor", "action", "subject")


def upgrade() -> None:

    op.create_table(
        "audit_index",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_index")),
    )
    op.create_index(op.f("ix_audit_index_at"), "audit_index", ["at"])
    for name in SEARCHED:
        op.create_index(f"ix_audit_index_{name}_number", "audit_index", [name, "number"])
    op.create_table(
        "audit_digest",
        sa.Column("digest", sa.String(64), nullable=False, comment="in the detail of an entry"),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("digest", "number", name=op.f("pk_audit_digest")),
    )


def downgrade() -> None:

    op.drop_table("audit_digest")
    op.drop_table("audit_index")
