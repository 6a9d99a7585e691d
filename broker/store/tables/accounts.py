"""People who sign in: accounts, roles, recovery codes, invitations, sessions; suspended sites."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from broker.store.tables.base import metadata

account = Table(
    "account",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("issuer", String(500), comment="OpenID Connect; null for a local account"),
    Column("subject", String(255)),
    Column("password", Text, comment="argon2id, as argon2-cffi writes it"),
    Column("totp", Text, comment="the secret, encrypted under the broker's accounts key"),
    Column("totp_step", BigInteger, nullable=False, comment="the newest one that was used"),
    Column("added_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    UniqueConstraint("issuer", "subject"),
)

account_role = Table(
    "account_role",
    metadata,
    Column("account", ForeignKey("account.name"), primary_key=True),
    Column("role", String(150), primary_key=True, comment="as broker.person_roles writes it"),
    Column("by_claim", Integer, primary_key=True, comment="1: the identity provider says so"),
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("account", ForeignKey("account.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False, comment="argon2id"),
)

invitation = Table(
    "invitation",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256 of the code"),
    Column("account", ForeignKey("account.name"), nullable=False, index=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("totp", Text, comment="the secret shown last, encrypted"),
)

session = Table(
    "session",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256 of the cookie"),
    Column("account", ForeignKey("account.name"), nullable=False, index=True),
    Column("seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

failed_sign_in = Table(
    "failed_sign_in",
    metadata,
    Column("name_digest", String(64), primary_key=True, comment="HMAC of what was typed as name"),
    Column("failures", Integer, nullable=False),
    Column("last_at", BigInteger, nullable=False, index=True),
)

suspension = Table(
    "suspension",
    metadata,
    Column("study_id", String(64), primary_key=True),
    Column("name", String(64), primary_key=True, comment="a party or contributor"),
    Column("since", BigInteger, nullable=False),
    Column("reason", String(200), nullable=False),
)
