"""
What this site was asked in second looks and what it answered: its own account, run by run.

    ledger = Ledger(vault, epoch)
    ledger.keep(entry)             in one rename, with the sealed answer, before that is sent
    ledger.require_room(run, most_runs)

The limits of a signed study bind the broker; whether it keeps to them a site can only tell by
counting for itself. An entry names the records that were asked about, how often, and the very
bytes that answer, so that an answer interrupted anywhere goes on with the same bytes. Entries
are encrypted under the contributor's secret (sites.vault). Remaining weakness: a private folder
restored from a backup forgets what was answered since.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from linkage.errors import Conflict, NotAllowed
from sites.vault import Vault

_FOLDER = "second-looks"
_REFUSED = "refused"


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """
    One run's questions, and this site's answer to them.

    dataset: the version asked about. digest: SHA-256 of the sealed questions, hex. at: Unix
    seconds. asked: by record pseudonym, hex, how many questions. answered, changed, gone:
    questions about records that stand as they were uploaded, read otherwise now, or are in the
    source no more. fields: compared with each partner. refusal: why this site did not answer.
    """

    run_id: str
    study_hash: str
    dataset: int
    digest: str
    software: str
    at: float
    asked: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    answered: int = 0
    changed: int = 0
    gone: int = 0
    refusal: str = ""

    @property
    def questions(self) -> int:
        """How many questions the run asked."""
        return sum(self.asked.values())

    def figures(self) -> dict[str, Any]:
        """Return everything but which records were asked about."""
        left_out = {"asked"}
        found = {name: value for name, value in asdict(self).items() if name not in left_out}
        return found | {"questions": self.questions, "records": len(self.asked)}


class Ledger:
    """The entries of one site in one epoch of its study."""

    def __init__(self, vault: Vault, epoch: int) -> None:
        self._vault, self._folder = vault, f"{_FOLDER}/epoch-{epoch}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other process of this site answer meanwhile. Raises Conflict."""
        folder = self._vault.folder / "kept" / self._folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Conflict(
                "this site's questions are being answered already, by another process",
                hint="let it finish; then this has nothing left to do",
            ) from None
        finally:
            os.close(handle)

    def keep(self, entry: Entry, sealed: bytes) -> None:
        """Keep an answer together with its entry: both are there, or neither."""
        self._vault.keep(f"{self._folder}/{entry.run_id}", _packed(entry, sealed))

    def refuse(self, entry: Entry) -> None:
        """Keep what this site refused to answer, apart from what it answered; the first time."""
        name = f"{self._folder}/{_REFUSED}/{entry.run_id}"
        before = self._vault.kept(name)
        if before is None or _unpacked(before)[0].refusal != entry.refusal:
            self._vault.keep(name, _packed(entry, b""))

    def answer(self, run_id: str) -> tuple[Entry, bytes] | None:
        """Return the entry of a run and the sealed answer, None where it was not answered."""
        found = self._vault.kept(f"{self._folder}/{run_id}")
        return _unpacked(found) if found is not None else None

    def entries(self) -> list[Entry]:
        """Return all entries, what was refused among them, oldest first."""
        folder = self._vault.folder / "kept" / self._folder
        names = [path.name for path in folder.glob("[!.]*") if path.is_file()]
        names += [f"{_REFUSED}/{path.name}" for path in (folder / _REFUSED).glob("[!.]*")]
        kept = [self._vault.kept(f"{self._folder}/{name}") for name in names]
        return sorted((_unpacked(one)[0] for one in kept if one), key=lambda one: one.at)

    def require_room(self, run_id: str, most_runs: int) -> None:
        """Raises NotAllowed where the epoch's runs are used up and this is a further one."""
        runs = [one for one in self.entries() if not one.refusal]
        if len(runs) >= most_runs and run_id not in {one.run_id for one in runs}:
            often = max(by_record(runs).values(), default=0)
            raise NotAllowed(
                f"run {run_id} asks, after this site answered {len(runs):,} runs in this epoch:"
                f" the signed study allows {most_runs:,} (most_runs). No record was asked about"
                f" more than {often:,} times so far",
                hint="nothing was answered. Ask the broker admin why there are so many runs;"
                " `linkage-site answer --ledger` lists them. Only a new epoch begins anew",
            )


def by_record(entries: list[Entry]) -> Counter[str]:
    """Return how often each record was asked about, over all runs that were answered."""
    found: Counter[str] = Counter()
    for entry in entries:
        if not entry.refusal:
            found.update(entry.asked)
    return found


def _packed(entry: Entry, sealed: bytes) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n" + sealed


def _unpacked(kept: bytes) -> tuple[Entry, bytes]:
    head, _, sealed = kept.partition(b"\n")
    return Entry(**json.loads(head)), sealed
