"""
The broker's tables. Times are Unix seconds; JSON is kept as text, as it came or canonical.

No table holds an identifier, a key or an encoding: those lie sealed in blobs.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

admin = Table(
    "admin",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("public_identity", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

assertion = Table(
    "assertion",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

access_token = Table(
    "access_token",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("study_id", String(64)),
    Column("name", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

study = Table(
    "study",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_hash", String(64), nullable=False),
    Column("signed", Text, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
)

past_study = Table(
    "past_study",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("study_hash", String(64), nullable=False),
    Column("signed", Text, nullable=False),
    Column("registered_at", BigInteger, nullable=False),
    Column("replaced_at", BigInteger, nullable=False),
)

deactivation = Table(
    "deactivation",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("notice", Text, nullable=False, comment="JSON, signed by the custodian"),
    Column("registered_at", BigInteger, nullable=False),
)

dataset = Table(
    "dataset",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("manifest", Text, nullable=False),
    Column("manifest_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("announced_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
)

part = Table(
    "part",
    metadata,
    Column("study_id", String(64), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("dataset", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("blob_id", String(32), nullable=False, unique=True),
    ForeignKeyConstraint(
        ["study_id", "uploader", "dataset"],
        ["dataset.study_id", "dataset.uploader", "dataset.number"],
    ),
)

assertion_list = Table(
    "assertion_list",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("placed_at", BigInteger, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="1"),
    Column("inputs", Text, nullable=False, comment="JSON: dataset number by uploader"),
    Column("software", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("stage", String(32), nullable=False, default=""),
    Column("stage_began", Float),
    Column("progress", Float, nullable=False, default=0.0),
    Column("seconds", Text, nullable=False, default="{}"),
    Column("work", Text, nullable=False, server_default="{}"),
    Column("sequence", Integer, comment="order of finished runs within the study, from 1"),
    Column("result_digest", String(64)),
    Column("report", Text),
    Column("failure", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("precision", Float, comment="wanted of the links; null for the best F1"),
    Column(
        "asserted",
        Text,
        nullable=False,
        server_default="{}",
        comment="JSON: assertion list number by uploader",
    ),
    UniqueConstraint("study_id", "sequence"),
)

intermediate = Table(
    "intermediate",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("blob_id", String(32), nullable=False),
)

second_look = Table(
    "second_look",
    metadata,
    Column("run_id", ForeignKey("run.id"), primary_key=True),
    Column("asked_at", Float, nullable=False),
    Column("until", Float, nullable=False, comment="when the run goes on without the silent"),
    Column("over_at", Float, comment="when the run went on"),
)

look_request = Table(
    "look_request",
    metadata,
    Column("run_id", ForeignKey("second_look.run_id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("questions", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("answer_blob_id", String(32), unique=True),
    Column("answer_digest", String(64)),
    Column("refusals", Integer, nullable=False, default=0),
    Column("refusal", Text, nullable=False, default=""),
)

person = Table(
    "person",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("person_id", LargeBinary(16), primary_key=True),
    Column("since", Integer, nullable=False, comment="sequence of the run that made it"),
    Column("until", Integer, comment="sequence of the run that ended it"),
    Column("merged_into", LargeBinary(16), comment="the person that took it over"),
    Column("split_from", LargeBinary(16), comment="the person whose records it took"),
)

membership = Table(
    "membership",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("uploader", String(64), primary_key=True),
    Column("pseudonym", LargeBinary(16), primary_key=True),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer),
    Column("person_id", LargeBinary(16), nullable=False),
)

link = Table(
    "link",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("left_pseudonym", LargeBinary(16), primary_key=True),
    Column("right_pseudonym", LargeBinary(16), primary_key=True),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer),
    Column("tier", String(16), nullable=False, comment="linkage.matching.links.TIERS"),
    Column("model", Integer, nullable=False, comment="weights.MODEL_VERSION of the run"),
)

job = Table(
    "job",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("run_id", ForeignKey("run.id"), nullable=False),
    Column("about", String(64), index=True, comment="of a delivery, its question"),
    Column("request", Text, nullable=False, comment="JSON, by kind"),
    Column("state", String(16), nullable=False, index=True),
    Column("failure", Text),
    Column("asked_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)

approval = Table(
    "approval",
    metadata,
    Column("question_id", ForeignKey("job.id"), primary_key=True),
    Column("party", String(64), primary_key=True),
    Column("decision", String(16), nullable=False),
    Column("approval", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
)

item = Table(
    "item",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("sender", String(64), nullable=False),
    Column("recipient", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("blob_id", String(32), nullable=False, unique=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("placed_at", BigInteger, nullable=False),
    UniqueConstraint("study_id", "recipient", "sender", "purpose", "subject"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False, comment="canonical JSON"),
    Column("hash", String(64), nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False, comment="the newest entry that it covers"),
    Column("head", Text, nullable=False, comment="canonical JSON, signed"),
)

head_wish = Table(
    "head_wish",
    metadata,
    Column("wished_by", String(140), primary_key=True),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("worker", String(64), primary_key=True),
    Column("seen_at", Float, nullable=False),
)

request_key = Table(
    "request_key",
    metadata,
    Column("actor", String(140), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("job_id", ForeignKey("job.id"), nullable=False),
    Column("used_at", BigInteger, nullable=False),
)
