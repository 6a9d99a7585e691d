"""
People who sign in, their sessions, and sites whose access is suspended.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "account",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column(
            "issuer",
            sa.String(length=500),
            nullable=True,
            comment="OpenID Connect; null for a local account",
        ),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column(
            "password", sa.Text(), nullable=True, comment="argon2id, as argon2-cffi writes it"
        ),
        sa.Column(
            "totp",
            sa.Text(),
            nullable=True,
            comment="the secret, encrypted under the broker's accounts key",
        ),
        sa.Column(
            "totp_step", sa.BigInteger(), nullable=False, comment="the newest one that was used"
        ),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_account")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_account_issuer_subject")),
    )
    op.create_table(
        "account_role",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column(
            "role",
            sa.String(length=150),
            nullable=False,
            comment="as broker.person_roles writes it",
        ),
        sa.Column(
            "by_claim",
            sa.Integer(),
            nullable=False,
            comment="1: the identity provider says so",
        ),
        sa.ForeignKeyConstraint(
            ["account"], ["account.name"], name=op.f("fk_account_role_account")
        ),
        sa.PrimaryKeyConstraint("account", "role", "by_claim", name=op.f("pk_account_role")),
    )
    op.create_table(
        "recovery_code",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False, comment="argon2id"),
        sa.ForeignKeyConstraint(
            ["account"], ["account.name"], name=op.f("fk_recovery_code_account")
        ),
        sa.PrimaryKeyConstraint("account", "number", name=op.f("pk_recovery_code")),
    )
    op.create_table(
        "invitation",
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the code"),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("totp", sa.Text(), nullable=True, comment="the secret shown last, encrypted"),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name=op.f("fk_invitation_account")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_invitation")),
    )
    op.create_index(op.f("ix_invitation_account"), "invitation", ["account"])
    op.create_table(
        "session",
        sa.Column("digest", sa.String(length=64), nullable=False, comment="SHA-256 of the cookie"),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.name"], name=op.f("fk_session_account")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_account"), "session", ["account"])
    op.create_table(
        "failed_sign_in",
        sa.Column(
            "name_digest",
            sa.String(length=64),
            nullable=False,
            comment="HMAC of what was typed as name",
        ),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name_digest", name=op.f("pk_failed_sign_in")),
    )
    op.create_index(op.f("ix_failed_sign_in_last_at"), "failed_sign_in", ["last_at"])
    op.create_table(
        "suspension",
        sa.Column("study_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False, comment="a party or contributor"),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "name", name=op.f("pk_suspension")),
    )


def downgrade() -> None:

    op.drop_table("suspension")
    op.drop_table("failed_sign_in")
    op.drop_table("session")
    op.drop_table("invitation")
    op.drop_table("recovery_code")
    op.drop_table("account_role")
    op.drop_table("account")
