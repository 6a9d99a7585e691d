"""
Opting records out: the site's list of them, and what it sends of it to the broker.

The list names record ids, is kept encrypted in the private folder and holds until records are
lifted off it again. The broker gets their pseudonyms only, sealed to its worker: it leaves these
records out of every run and release from then on, whatever dataset version holds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from linkage.errors import NotFound
from linkage.governance import OptOutState, opt_out_bytes, opt_out_context
from linkage.messages import BROKER
from linkage.sealing import seal
from sites.session import Session
from sites.vault import Vault

NAME = "opted-out"
"""Of the list among what a vault keeps."""

_POLL_SECONDS = 0.5

CANNOT_BE_RECALLED = (
    "What was given out before stays with whoever fetched it. Nobody can take back cross-commons"
    " IDs that a party holds, rows that were joined in an enclave, counts that were told, or"
    " backups that hold any of them. The broker gives out nothing with these records from now on,"
    " and refuses further use of releases that held them. Ask the recipients of what is listed"
    " above to delete what they hold of these records, as your agreements say."
)
"""Printed with every opt-out, and kept with it."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Counts of a change. named: rows of the file. changed: of these, not so before. all: now."""

    named: int
    changed: int
    all: int


def opted_out_records(vault: Vault) -> set[str]:
    """Return the record ids that are opted out at this site."""
    kept = vault.kept(NAME)
    return set(json.loads(kept)) if kept else set()


def change(vault: Vault, record_ids: Collection[str], *, lift: bool, keep: bool) -> Changed:
    """Add record ids to the list, or lift them off it. keep: False only counts."""
    with vault.alone(NAME) if keep else nullcontext():
        before = opted_out_records(vault)
        after = before - set(record_ids) if lift else before | set(record_ids)
        if keep and after != before:
            vault.keep(NAME, json.dumps(sorted(after)).encode())
    return Changed(len(record_ids), len(before ^ after), len(after))


def send(session: Session) -> OptOutState:
    """Seal the whole list to the broker and send it as the next one; it replaces those before."""
    records = sorted(opted_out_records(session.vault))
    sent = session.broker.opt_outs(session.study_id)
    number = 1 + max((one.number for one in sent), default=0)
    names = np.zeros((0, 16), np.uint8)
    if records:
        names = session.vault.secret().pseudonyms(session.study_id, records)
    epoch = session.signed.study.study.epoch
    sealed = seal(
        opt_out_bytes(names),
        sender=session.identity,
        recipient=session.signed.pin(BROKER),
        context=opt_out_context(session.study_id, session.uploader, epoch, number),
    )
    return session.broker.put_opt_outs(session.study_id, number, sealed)


def answered(session: Session, number: int, *, wait_s: float) -> OptOutState:
    """
    Return list `number` as the broker has it, with what held its records once its worker has read
    it, for which it waits at most `wait_s`. Raises NotFound.
    """
    deadline = time.monotonic() + wait_s
    while True:
        found = session.broker.opt_outs(session.study_id)
        state = next((one for one in found if one.number == number), None)
        if state is None:
            raise NotFound("the broker has no such opt-out list", hint="send it again")
        if state.records is not None or state.refusal or time.monotonic() > deadline:
            return state
        time.sleep(_POLL_SECONDS)


def statement(state: OptOutState) -> Sequence[str]:
    """Return what is to be said of an opt-out, in lines: what held its records, and what stays."""
    if state.refusal:
        return (f"The broker refused the list: {state.refusal}",)
    if state.records is None:
        said = (
            "The broker's worker has not read the list yet; see later: linkage-site opt-out --show"
        )
        return (said, CANNOT_BE_RECALLED)
    if not state.records:
        return ("No record of this site is opted out: the next run links all of them again.",)
    held = [
        f"{one.kind} {one.job_id} of {_day(one.at)} held {one.records:,} of them"
        for one in state.held_by
    ]
    return (*(held or ["Nothing that was given out so far held any of them."]), CANNOT_BE_RECALLED)


def keep_statement(vault: Vault, state: OptOutState) -> str:
    """Keep the statement with its list, encrypted; return its name among what the vault keeps."""
    name = f"{NAME}-{state.number}.statement"
    told = {"list": state.model_dump(mode="json"), "said": list(statement(state))}
    vault.keep(name, json.dumps(told).encode())
    return name


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
