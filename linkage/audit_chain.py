"""
The broker's audit log as hashes under signed heads, verified without the broker.

    hash(n) = SHA-256(hash(n - 1) || canonical JSON of entry n), hash(0) = 64 zeros
    head(m) = the broker's Ed25519 signature over m, SHA-256 of head(m - 1), hash(n) and the time

Parties keep the heads that came with the broker's answers. Whoever has them and an export of the
log runs these steps, in this order (`Chain` names them):

1. the file has the form of an export and names the broker whose key was given from elsewhere;
2. entries are numbered from 1 without a gap, and each hash covers its entry and all before;
3. heads are numbered from 1, each covers the head before, is signed, and fits the log's hash there;
4. the file ends with the counts of both, so that nothing was cut off on the way;
5. every head that a party kept is one of the log's.

What each step leaves: 1-4 find what anybody without the broker's key did. Who holds that key can
write another log and sign it; step 5 finds that for every entry up to the newest head that a party
kept. Entries after it have no witness outside the broker yet.

A head shows a party nothing of other parties: it counts heads, made at a fixed interval, and not
entries, and each entry holds random bytes, so that its hash confirms no guess.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import rfc8785
from pydantic import Field, ValidationError

from linkage.errors import HistoryAltered, PackageRefused, SourceRefused
from linkage.messages import Hex256, SignedMessage
from linkage.sealing import PublicIdentity

START = "0" * 64
HEADER = "Linkage-Audit-Head"
"""The response header that carries the newest head, as canonical JSON."""

_KIND = "commons-linkage audit log"
_LINE_BYTES = 1 << 20
_HASH = re.compile(rb"[0-9a-f]{64}")
_AGAIN = "get the file again from its owner; if it is the same, it was altered on purpose: tell all"
_ALTERED = "the log was altered; keep this file as evidence and compare with an earlier export"


class AuditHead(SignedMessage):
    """
    A signed head. sequence: counts heads, from 1. previous: SHA-256 of the head before, zeros for
    the first. hash: that of the log's newest entry. at: Unix seconds by the broker's clock.
    """

    sequence: int = Field(ge=1, lt=2**53)
    previous: Hex256
    hash: Hex256
    at: int = Field(ge=0, lt=2**53)

    @property
    def digest(self) -> str:
        """SHA-256, hex, of what is signed; what the next head covers."""
        return hashlib.sha256(self.signed_bytes()).hexdigest()

    @property
    def moment(self) -> str:
        """When it was signed, in words; a clock far out of any calendar is told in seconds."""
        try:
            return f"{dt.datetime.fromtimestamp(self.at, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
        except (OverflowError, ValueError, OSError):
            return f"second {self.at}"


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A head as a party kept it. place: file and line, for errors."""

    head: AuditHead
    place: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What verified. hash: of the newest entry. newest: the log's newest head. kept: how many heads
    kept elsewhere were compared. signed, vouched: the newest entry that any head, and that one of
    those kept elsewhere covers, 0 for none.
    """

    entries: int
    heads: int
    hash: str
    newest: AuditHead | None
    kept: int
    signed: int
    vouched: int

    @property
    def unvouched(self) -> int:
        """Newest entries that no kept head covers: only the broker's word stands for them."""
        return self.entries - self.vouched

    def to_json(self) -> dict[str, Any]:
        """Return plain strings and numbers."""
        return {
            "entries": self.entries,
            "hash": self.hash,
            "heads": self.heads,
            "newest_head": self.newest.model_dump(mode="json") if self.newest else None,
            "kept_heads": self.kept,
            "signed_entries": self.signed,
            "vouched_entries": self.vouched,
        }


@dataclass(slots=True)
class Chain:
    """
    A log as it is walked. signer: the broker's public identity, None to follow entries alone.
    kept: heads that must be met, verified by `read_heads` or made by the caller.

    Every method raises HistoryAltered naming the first entry or head that does not fit.
    """

    signer: PublicIdentity | None = None
    kept: Sequence[KeptHead] = ()
    entries: int = 0
    hash: str = START
    heads: int = 0
    newest: AuditHead | None = None
    signed: int = 0
    vouched: int = 0
    _by_number: dict[int, KeptHead] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.kept:
            require_no_fork(self._by_number.setdefault(one.head.sequence, one), one)

    def entry(self, entry: bytes, claimed: str) -> None:
        """Step 2: take the next entry, its canonical JSON, with the hash that the log gives."""
        number = self.entries + 1
        wanted = chained(self.hash, entry)
        if claimed != wanted or _number(entry) != number:
            raise HistoryAltered(
                f"the audit log does not fit together at entry {number}",
                hint="it was altered, or an entry is missing or moved; compare with an earlier"
                " export or backup",
            )
        self.entries, self.hash = number, wanted

    def head(self, head: AuditHead) -> None:
        """Steps 3 and 5: take the head that stands after the newest entry taken."""
        number = self.heads + 1
        before = self.newest.digest if self.newest else START
        if (head.sequence, head.previous) != (number, before):
            raise HistoryAltered(
                f"the audit log's heads do not follow at head {number}", hint=_ALTERED
            )
        if self.signer is not None:
            require_signed(head, self.signer, f"head {number} of the log")
        if head.hash != self.hash:
            raise HistoryAltered(
                f"head {number} does not cover the log as it is after entry {self.entries}",
                hint=_ALTERED,
            )
        self.heads, self.newest, self.signed = number, head, self.entries
        kept = self._by_number.get(number)
        if kept is not None:
            if kept.head.digest != head.digest:
                raise HistoryAltered(
                    f"head {number} of this log is not the one in {kept.place}, and the broker"
                    " signed both: it showed two histories",
                    hint="keep both files: they prove it to anybody. Ask the broker's admin, and"
                    " tell all parties and their stewards",
                )
            self.vouched = self.entries

    def end(self) -> Verdict:
        """Return the verdict, after the last entry and head."""
        beyond = max(self._by_number, default=0)
        if beyond > self.heads:
            raise HistoryAltered(
                f"the audit log ends before head {beyond} ({self._by_number[beyond].place}): its"
                " end was cut off, or the export is older than the head",
                hint="ask for a new export; if that ends early too, the log was cut off",
            )
        return Verdict(
            entries=self.entries,
            heads=self.heads,
            hash=self.hash,
            newest=self.newest,
            kept=len(self.kept),
            signed=self.signed,
            vouched=self.vouched,
        )


def chained(previous: str, entry: bytes) -> str:
    """Return the hash of an entry after one whose hash is `previous`, hex."""
    return hashlib.sha256(previous.encode() + entry).hexdigest()


def require_signed(head: AuditHead, signer: PublicIdentity, place: str) -> None:
    """Raises HistoryAltered unless the broker `signer` signed `head`."""
    try:
        head.verify(signer)
    except (PackageRefused, ValueError):
        raise HistoryAltered(
            f"{place} is not signed by the broker, or was altered",
            hint="check that the signed study or public identity is this broker's; compare its"
            " fingerprint by telephone",
        ) from None


def require_no_fork(left: KeptHead, right: KeptHead) -> None:
    """Raises HistoryAltered where two heads contradict each other."""
    a, b = left.head, right.head
    if a.sequence == b.sequence and a.digest != b.digest:
        raise HistoryAltered(
            f"{left.place} and {right.place}: two heads of number {a.sequence} differ, and the"
            " broker signed both: it showed two histories",
            hint="keep both files: they prove it to anybody. Ask the broker's admin, and tell all"
            " parties and their stewards",
        )
    first, then = (left, right) if a.sequence < b.sequence else (right, left)
    follows = first.head.sequence + 1 == then.head.sequence
    if follows and then.head.previous != first.head.digest:
        raise HistoryAltered(
            f"{then.place}: head {then.head.sequence} does not follow the one in {first.place}: the"
            " broker showed two histories",
            hint="keep both files: they prove it to anybody. Tell all parties and their stewards",
        )


def compare(kept: Iterable[KeptHead]) -> dict[int, KeptHead]:
    """Return one head a number. Raises HistoryAltered where two of any files contradict."""
    found: dict[int, KeptHead] = {}
    for one in kept:
        require_no_fork(found.setdefault(one.head.sequence, one), one)
    numbers = sorted(found)
    for before, number in pairwise(numbers):
        require_no_fork(found[before], found[number])
    return found


def parse_head(text: str | bytes, place: str) -> AuditHead:
    """Read one head, canonical JSON. Raises HistoryAltered; `place` says where it stood."""
    data = text.encode() if isinstance(text, str) else text
    try:
        head = AuditHead.model_validate_json(data)
    except (ValidationError, ValueError):
        head = None
    if head is None or head.canonical() != data:
        raise HistoryAltered(f"{place} is no head of an audit log", hint=_AGAIN)
    return head


def read_heads(path: Path, signer: PublicIdentity) -> list[KeptHead]:
    """
    Read the heads that a party kept, a line each, every one signed by the broker `signer`.

    Raises SourceRefused for a file without any, HistoryAltered naming the line that does not fit.
    """
    kept: list[KeptHead] = []
    with _opened(path) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            place = f"{path.name}, line {number}"
            one = KeptHead(parse_head(line, place), place)
            require_signed(one.head, signer, place)
            if kept:
                require_no_fork(kept[-1], one)
            kept.append(one)
    if not kept:
        raise SourceRefused(file=str(path), rule="holds no head", hint="give a party's heads file")
    return kept


def export_lines(
    signer: PublicIdentity, walk: Iterable[tuple[bytes, str] | AuditHead]
) -> Iterator[bytes]:
    """
    Yield the lines of an export. walk: (canonical entry, hash) and heads, in the log's order.

    Nothing is checked here: a log that was altered is exported as it is, and does not verify.
    """
    yield _first_line(signer)
    entries = heads = 0
    for one in walk:
        if isinstance(one, AuditHead):
            heads += 1
            yield b'{"head":' + one.canonical() + b"}\n"
        else:
            entries += 1
            yield b'{"entry":' + one[0] + b',"hash":"' + one[1].encode() + b'"}\n'
    yield _last_line(entries, heads)


def verify_export(path: Path, signer: PublicIdentity, kept: Sequence[KeptHead] = ()) -> Verdict:
    """
    Verify an export of the log, in constant memory. signer: the broker's key from elsewhere.

    Raises SourceRefused for a file that cannot be read or is no export, HistoryAltered for the
    first entry or head that does not fit.
    """
    chain = Chain(signer, kept)
    with _opened(path) as file:
        lines = _lines(file, path)
        first = next(lines, b"")
        if not first.startswith(b'{"broker":') or _KIND.encode() not in first:
            raise SourceRefused(
                file=str(path),
                rule="is no export of an audit log",
                hint="make one with `linkage-broker audit export`",
            )
        # Step 1; byte for byte, so that nothing in the line escapes.
        if first + b"\n" != _first_line(signer):
            raise HistoryAltered(
                f"{path.name} is of another broker than the key that you gave",
                hint="give the signed study or public identity of the broker that exported it",
            )
        ended = False
        for number, line in enumerate(lines, start=2):
            place = f"{path.name}, line {number}"
            if ended:
                raise HistoryAltered(f"{place} stands after the end of the export", hint=_AGAIN)
            if line.startswith(b'{"entry":') and line.endswith(b'"}') and _HASH.match(line[-66:-2]):
                if line[-75:-66] != b',"hash":"':
                    raise HistoryAltered(f"{place} cannot be read", hint=_AGAIN)
                chain.entry(line[9:-75], line[-66:-2].decode())
            elif line.startswith(b'{"head":') and line.endswith(b"}"):
                chain.head(parse_head(line[8:-1], place))
            elif line + b"\n" == _last_line(chain.entries, chain.heads):
                ended = True
            else:
                raise HistoryAltered(f"{place} cannot be read, or counts wrongly", hint=_AGAIN)
    if not ended:
        # Step 4.
        raise HistoryAltered(f"the end of {path.name} is cut off", hint=_AGAIN)
    return chain.end()


def _first_line(signer: PublicIdentity) -> bytes:
    told: dict[str, Any] = {"broker": signer.model_dump(mode="json"), "kind": _KIND, "version": 1}
    return rfc8785.dumps(told) + b"\n"


def _last_line(entries: int, heads: int) -> bytes:
    return rfc8785.dumps({"end": {"entries": entries, "heads": heads}}) + b"\n"


def _number(entry: bytes) -> int:
    try:
        found = json.loads(entry)["number"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1
    return found if type(found) is int else -1


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as fault:
        raise _unreadable(path, fault) from None


def _unreadable(path: Path, fault: OSError) -> SourceRefused:
    return SourceRefused(
        file=str(path),
        rule=f"cannot be read ({type(fault).__name__})",
        hint="check path and permissions",
    )


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the lines without their ends; the last must have one, else it was cut off."""
    number = 0
    try:
        while line := file.readline(_LINE_BYTES + 1):
            number += 1
            if not line.endswith(b"\n"):
                raise HistoryAltered(
                    f"{path.name}, line {number} is cut off or too long", hint=_AGAIN
                )
            yield line[:-1]
    except OSError as fault:
        raise _unreadable(path, fault) from None
