"""
Second looks: what runs ask of the uploaders about single pairs, and whether a run may ask at all.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:

    # A run of an earlier version asked nothing.
    op.add_column("run", sa.Column("looks", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "second_look",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column(
            "until", sa.Float(), nullable=False, comment="when the run goes on without the silent"
        ),
        sa.Column("over_at", sa.Float(), nullable=True, comment="when the run went on"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_second_look_run")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_second_look")),
    )
    op.create_table(
        "look_request",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("uploader", sa.String(length=64), nullable=False),
        sa.Column("blob_id", sa.String(length=32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("questions", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("answer_blob_id", sa.String(length=32), nullable=True),
        sa.Column("answer_digest", sa.String(length=64), nullable=True),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["second_look.run_id"], name=op.f("fk_look_request_second_look")
        ),
        sa.PrimaryKeyConstraint("run_id", "uploader", name=op.f("pk_look_request")),
        sa.UniqueConstraint("blob_id", name=op.f("uq_look_request_blob_id")),
        sa.UniqueConstraint("answer_blob_id", name=op.f("uq_look_request_answer_blob_id")),
    )
    op.create_index(op.f("ix_look_request_state"), "look_request", ["state"])


def downgrade() -> None:

    op.drop_index(op.f("ix_look_request_state"), table_name="look_request")
    op.drop_table("look_request")
    op.drop_table("second_look")
    op.execute("ALTER TABLE run DROP COLUMN looks")
