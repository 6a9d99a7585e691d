"""
The heads of the broker's audit log that came with its answers, kept: docs/audit.md.

    kept = KeptHeads(private / HEADS, signed.pin(BROKER))
    kept.see(response.headers[HEADER], missing)

The file holds one signed head a line, without a gap from the first that was seen: heads made while
this site was silent are fetched. So a broker cannot show this site another history than before, and
two sites that compare files find whether it shows them two.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from linkage.audit_chain import AuditHead, parse_head, require_signed
from linkage.errors import HistoryAltered, KeyRefused
from linkage.sealing import PublicIdentity

HEADS, CONFLICT = "audit-heads.jsonl", "audit-conflict.jsonl"
_MOST_EVIDENCE = 1000
_TAIL_BYTES = 4096
"""More than one line; a head has about 400 bytes."""

Missing = Callable[[int], list[AuditHead]]
"""Asks the broker for the heads after a sequence number."""


@dataclass(slots=True)
class KeptHeads:
    """
    One file of heads. signer: the broker's pinned identity. Several processes may share the file.
    """

    path: Path
    signer: PublicIdentity
    _seen: str | None = None

    def see(self, text: str, missing: Missing) -> None:
        """
        Check a head that came with an answer against those that are kept, and keep it.

        Raises HistoryAltered where the broker did not sign it, or it belongs to another history;
        then it is kept in another file, as evidence. KeyRefused where the file cannot be written.
        """
        if text == self._seen:
            return
        head = parse_head(text, "the broker's newest audit head")
        require_signed(head, self.signer, "the broker's newest audit head")
        newest = self.newest()
        between: list[AuditHead] = []
        # Asked for without the lock: the broker may be slow, and others wait for the file.
        while newest is not None and head.sequence > (at := _last(between, newest).sequence) + 1:
            page = [one for one in missing(at) if at < one.sequence < head.sequence]
            if not page:
                break
            between += page
        with self._locked() as file:
            for one in (*between, head):
                self._take(file, one)
        self._seen = text

    def newest(self) -> AuditHead | None:
        """Return the newest head that is kept. Raises HistoryAltered for a damaged file."""
        if not self.path.exists():
            return None
        with self._locked() as file:
            return self._newest(file)

    def count(self) -> int:
        """Return how many heads are kept."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def _take(self, file: BinaryIO, head: AuditHead) -> None:
        require_signed(head, self.signer, f"audit head {head.sequence} of the broker")
        newest = self._newest(file)
        if newest is None or head.sequence == newest.sequence + 1:
            if newest is not None and head.previous != newest.digest:
                self._conflict(head, f"head {head.sequence} does not follow head {newest.sequence}")
        elif head.sequence > newest.sequence:
            self._conflict(head, f"it did not hand out head {newest.sequence + 1}")
        else:
            # Another process was faster, or a server's answer a second late.
            before = self._of(file, head.sequence)
            if before is not None and before.digest != head.digest:
                self._conflict(head, f"there are two heads of number {head.sequence}")
            return
        file.seek(0, os.SEEK_END)
        file.write(head.canonical() + b"\n")
        file.flush()
        os.fsync(file.fileno())

    def _conflict(self, head: AuditHead, what: str) -> None:
        evidence, line = self.path.with_name(CONFLICT), head.canonical() + b"\n"
        # An agent looks again and again: one contradiction is evidence enough, and each head once.
        known = evidence.read_bytes().splitlines(keepends=True) if evidence.exists() else []
        if line not in known and len(known) < _MOST_EVIDENCE:
            with evidence.open("ab") as file:
                file.write(line)
        raise HistoryAltered(
            f"the broker showed two histories of its audit log: {what}",
            hint=f"stop, keep {self.path} and {evidence} and tell your steward and the other"
            " parties. If the broker's admin says, by telephone, that it was restored from a"
            " backup: linkage-site accept-restored (docs/audit.md)",
        )

    def _newest(self, file: BinaryIO) -> AuditHead | None:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        if not tail:
            return None
        if not tail.endswith(b"\n"):
            # A line that was cut short by a crash; the broker hands that head out again.
            whole = tail.rfind(b"\n") + 1
            file.truncate(size - len(tail) + whole)
            tail = tail[:whole]
            if not tail:
                return None
        return parse_head(tail[:-1].rpartition(b"\n")[2], f"the last line of {self.path}")

    def _of(self, file: BinaryIO, sequence: int) -> AuditHead | None:
        file.seek(0)
        for line in file:
            head = parse_head(line[:-1], f"a line of {self.path}")
            if head.sequence == sequence:
                return head
        return None

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            with os.fdopen(handle, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as fault:
            raise KeyRefused(
                f"{self.path} cannot be written ({type(fault).__name__})",
                hint="the site's private folder must be writable; is the disk full?",
            ) from None


def _last(between: list[AuditHead], newest: AuditHead) -> AuditHead:
    return between[-1] if between else newest
