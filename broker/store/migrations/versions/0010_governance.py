"""
Life cycle of studies, confirmations, opt-outs, purposes of runs, destruction.

Studies that were registered before are open: their parties had agreed before there was a hash to
confirm. Older software adds studies as open and runs without purpose or opt-outs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:

    state = sa.Column("state", sa.String(length=16), server_default="open", nullable=False)
    op.add_column("study", state)
    op.add_column("study", sa.Column("state_since", sa.BigInteger(), nullable=True))
    op.add_column("study", sa.Column("state_before", sa.String(length=16), nullable=True))
    op.add_column(
        "run",
        sa.Column(
            "opted_out",
            sa.Text(),
            server_default="{}",
            nullable=False,
            comment="JSON: opt-out list number by uploader",
        ),
    )
    op.add_column(
        "run",
        sa.Column(
            "purpose",
            sa.String(length=64),
            server_default="",
            nullable=False,
            comment="of those that the study declares",
        ),
    )
    op.create_table(
        "confirmation",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("party", sa.String(length=64), nullable=False),
        sa.Column("study_hash", sa.String(length=64), nullable=False),
        sa.Column("confirmation", sa.Text(), nullable=False, comment="JSON, signed by the party"),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_confirmation_study")),
        sa.PrimaryKeyConstraint("study_id", "epoch", "party", name=op.f("pk_confirmation")),
    )
    op.create_table(
        "opt_out_list",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("uploader", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("blob_id", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.Text(), nullable=True, comment="JSON: what held the records"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_opt_out_list_study")),
        sa.PrimaryKeyConstraint("study_id", "uploader", "number", name=op.f("pk_opt_out_list")),
        sa.UniqueConstraint("blob_id", name=op.f("uq_opt_out_list_blob_id")),
    )
    op.create_table(
        "destruction",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("asked_by", sa.String(length=140), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("tally", sa.Text(), nullable=True, comment="JSON, counted before anything went"),
        sa.Column("certificate", sa.Text(), nullable=True, comment="JSON, signed by the broker"),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_destruction_study")),
        sa.PrimaryKeyConstraint("study_id", name=op.f("pk_destruction")),
    )


def downgrade() -> None:

    op.drop_table("destruction")
    op.drop_table("opt_out_list")
    op.drop_table("confirmation")
    op.execute("ALTER TABLE run DROP COLUMN purpose")
    op.execute("ALTER TABLE run DROP COLUMN opted_out")
    for name in ("state_before", "state_since", "state"):
        op.execute(f"ALTER TABLE study DROP COLUMN {name}")
