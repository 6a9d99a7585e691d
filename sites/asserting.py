"""
Asserted links, the site's side: a steward's list becomes tokens and pseudonyms, sealed to the
broker. Record ids and assertion ids stay here.

The list is a CSV with the header `record_id,assertion_id,verdict`; a verdict is same, different or
withdrawn. It is the whole of what this site asserts: what an earlier list held and this one does
not, or calls withdrawn, is taken back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from linkage.assertions import (
    MOST_ASSERTIONS,
    TOKEN_BYTES,
    AssertionList,
    AssertionListState,
    to_bytes,
)
from linkage.encoding.keys import StudyKey, length_prefixed
from linkage.errors import RowRejected, SourceRefused
from linkage.messages import ASSERTIONS, BROKER
from linkage.sealing import Context, seal
from linkage.study import StudyConfig
from sites.listed_file import read_listed
from sites.required import require_keys
from sites.session import Session
from sites.vault import Vault

HEADER = ["record_id", "assertion_id", "verdict"]
SAME, DIFFERENT, WITHDRAWN = VERDICTS = ("same", "different", "withdrawn")
PURPOSE = "assertions"
"""Of the key that tokens are made under, `StudyKey.derive`."""
LONGEST_ID = 200


@dataclass(frozen=True, slots=True, repr=False)
class Assertion:
    """One line of the list. row: in the file, the header being row 1."""

    row: int
    record_id: str
    assertion_id: str
    verdict: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prepared:
    """
    A list that is ready to be sent. counts: lines by verdict. tokens: by row, what the broker's
    admin calls an assertion by, in hex.
    """

    made: AssertionList
    counts: dict[str, int]
    tokens: dict[int, str]


def read_assertions(path: Path) -> list[Assertion]:
    """
    Read a steward's list. Raises SourceRefused for no such file or another header, RowRejected,
    without any value, for the first row that breaks a rule.
    """
    return read_listed(path, _checked)


def tokens(key: StudyKey, study: StudyConfig, assertion_ids: Iterable[str]) -> list[bytes]:
    """
    Return what stands for each assertion id at the broker: HMAC-SHA-256 of its UTF-8, prefixed by
    its length in 4 bytes, under a key of the study and epoch, cut to 128 bits.
    """
    secret = key.derive(study, PURPOSE)
    made = []
    for one in assertion_ids:
        mac = HMAC(secret, hashes.SHA256())
        mac.update(length_prefixed(one))
        made.append(mac.finalize()[:TOKEN_BYTES])
    return made


def prepare(session: Session, path: Path) -> Prepared:
    """
    Return the list of `path`, ready to be sent. Raises as `read_assertions`, and RowRejected for a
    record that the newest dataset version of this site lacks.
    """
    require_keys(session.signed, session.uploader, session.vault)
    lines = read_assertions(path)
    counted = [line for line in lines if line.verdict != WITHDRAWN]
    _require_known(session.vault, path.name, counted)
    study = session.signed.study
    made = tokens(session.vault.study_key(), study, [line.assertion_id for line in lines])
    by_row = {line.row: token for line, token in zip(lines, made, strict=True)}
    sent = b"".join(by_row[line.row] for line in counted)
    records = [line.record_id for line in counted]
    return Prepared(
        AssertionList(
            session.uploader,
            session.vault.secret().pseudonyms(study.study.id, records),
            np.frombuffer(sent, np.uint8).reshape(-1, TOKEN_BYTES),
            np.array([line.verdict == DIFFERENT for line in counted], np.bool_),
        ),
        {verdict: Counter(line.verdict for line in lines)[verdict] for verdict in VERDICTS},
        {row: token.hex() for row, token in by_row.items()},
    )


def next_number(session: Session) -> int:
    """Return the number of this site's next list. Raises Unreachable."""
    sent = session.broker.assertion_lists(session.study_id)
    return 1 + max((one.number for one in sent), default=0)


def send(session: Session, made: AssertionList, number: int) -> AssertionListState:
    """Seal the list to the broker and send it; from the next run on it is all that counts."""
    epoch = session.signed.study.study.epoch
    context = Context(
        session.study_id, session.uploader, BROKER, ASSERTIONS, (str(epoch), str(number))
    )
    sealed = seal(
        to_bytes(made),
        sender=session.identity,
        recipient=session.signed.pin(BROKER),
        context=context,
    )
    return session.broker.put_assertions(session.study_id, number, sealed)


def _checked(name: str, reader: Iterable[list[str]]) -> list[Assertion]:
    rows = iter(reader)
    if next(rows, None) != HEADER:
        raise SourceRefused(
            file=name,
            rule="its header is not that of an assertion list",
            hint=f"the first row must be: {','.join(HEADER)}",
        )
    found: list[Assertion] = []
    seen: dict[str, int] = {}
    for row, cells in enumerate(rows, start=2):
        if len(found) == MOST_ASSERTIONS:
            raise SourceRefused(
                file=name,
                rule=f"has more than {MOST_ASSERTIONS:,} rows",
                hint="leave out what is withdrawn or of no use any more",
            )
        if len(cells) != len(HEADER):
            _refuse(
                name, row, "", f"has {len(cells)} columns, not {len(HEADER)}", "correct the row"
            )
        record, assertion, verdict = (cell.strip() for cell in cells)
        if not record:
            _refuse(name, row, "record_id", "is empty", "name one of your records")
        if not 1 <= len(assertion) <= LONGEST_ID:
            hint = "agree on one with the other party, such as a random UUID"
            _refuse(name, row, "assertion_id", f"has not 1 to {LONGEST_ID} characters", hint)
        if verdict not in VERDICTS:
            _refuse(name, row, "verdict", "is no verdict", f"one of: {', '.join(VERDICTS)}")
        if assertion in seen:
            hint = "an assertion names one record of each party; correct or withdraw one row"
            _refuse(name, row, "assertion_id", f"is that of row {seen[assertion]} too", hint)
        seen[assertion] = row
        found.append(Assertion(row, record, assertion, verdict))
    return found


def _refuse(name: str, row: int, field: str, rule: str, hint: str) -> NoReturn:
    raise RowRejected(file=name, row=row, field=field, rule=rule, hint=hint)


def _require_known(vault: Vault, name: str, lines: list[Assertion]) -> None:
    newest = vault.newest_dataset()
    if not newest:
        raise SourceRefused(
            file=name,
            rule="speaks of records, and this site has sent none",
            hint="run first: linkage-site tokenize, linkage-site submit",
        )
    unknown = {line.record_id for line in lines}
    for _, record_ids in vault.map_chunks(newest):
        unknown.difference_update(record_ids)
    for line in lines:
        if line.record_id in unknown:
            hint = "correct it, withdraw the row, or tokenize a version that has the record"
            rule = f"names no record of dataset version {newest}"
            _refuse(name, line.row, "record_id", rule, hint)
