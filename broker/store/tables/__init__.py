"""
The broker's tables. Times are Unix seconds; JSON is kept as text, as it came or canonical.

No table holds an identifier, a key or an encoding: those lie sealed in blobs.
"""

from broker.store.tables.access import access_token, admin, assertion, request_key
from broker.store.tables.accounts import (
    account,
    account_role,
    failed_sign_in,
    invitation,
    recovery_code,
    session,
    suspension,
)
from broker.store.tables.audit import audit, audit_digest, audit_head, audit_index, head_wish
from broker.store.tables.base import metadata
from broker.store.tables.governance import confirmation, destruction, opt_out_list
from broker.store.tables.jobs import affected, approval, item, job, pin, remark
from broker.store.tables.offered import (
    offered_concept,
    offered_list,
    offered_vocabulary,
    offered_word,
)
from broker.store.tables.people import link, links_in_common, membership, person
from broker.store.tables.proposals import proposal
from broker.store.tables.reviews import review, review_case, review_decision, review_undone
from broker.store.tables.runs import heartbeat, intermediate, look_request, run, second_look
from broker.store.tables.studies import (
    assertion_list,
    dataset,
    deactivation,
    part,
    past_study,
    study,
)
from broker.store.tables.uploads import claimed_key, quota

__all__ = [
    "access_token",
    "account",
    "account_role",
    "admin",
    "affected",
    "approval",
    "assertion",
    "assertion_list",
    "audit",
    "audit_digest",
    "audit_head",
    "audit_index",
    "claimed_key",
    "confirmation",
    "dataset",
    "deactivation",
    "destruction",
    "failed_sign_in",
    "head_wish",
    "heartbeat",
    "intermediate",
    "invitation",
    "item",
    "job",
    "link",
    "links_in_common",
    "look_request",
    "membership",
    "metadata",
    "offered_concept",
    "offered_list",
    "offered_vocabulary",
    "offered_word",
    "opt_out_list",
    "part",
    "past_study",
    "person",
    "pin",
    "proposal",
    "recovery_code",
    "quota",
    "remark",
    "request_key",
    "review",
    "review_case",
    "review_decision",
    "review_undone",
    "run",
    "second_look",
    "session",
    "study",
    "suspension",
]
