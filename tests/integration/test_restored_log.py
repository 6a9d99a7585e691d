"""A site goes on with a broker that was restored from a backup, and with no other log."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker import audit, audit_heads
from broker.audit_heads import HeadSigner
from broker.backup import back_up
from broker.config import Home
from broker.restore import restore
from broker.store.engine import Database
from linkage.audit_chain import AuditHead, read_heads
from linkage.errors import Conflict, HistoryAltered, NotFound
from linkage.restored_log import restoration
from linkage.sealing import Identity
from sites.audit_heads import CONFLICT, HEADS, KeptHeads
from sites.restored import accept
from tests.broker_world import make_world


@dataclass
class Log:
    """A broker's audit log, whose heads a site sees."""

    home: Home
    identity: Identity

    def grow(self, acts: int, action: str = "act") -> None:
        """Write entries, with a signed head after each."""
        database = Database(self.home.database_url())
        for n in range(acts):
            with database.change() as connection:
                audit.record(connection, actor="console", action=f"{action} {n}")
            HeadSigner(database, self.identity, every=600).sign()
        database.close()

    def heads(self) -> list[AuditHead]:
        database = Database(self.home.database_url())
        with database.read() as connection:
            found = [one for one in audit_heads.walk(connection) if isinstance(one, AuditHead)]
        database.close()
        return found

    def restored(self) -> tuple[int, str]:
        """Number and hash of the entry that says so: what the admin reads out."""
        database = Database(self.home.database_url())
        with database.read() as connection:
            walked = [one for one in audit_heads.walk(connection) if not isinstance(one, AuditHead)]
        database.close()
        at = next(n for n, (entry, _) in enumerate(walked, 1) if b"restored from backup" in entry)
        return at, walked[at - 1][1]

    def export(self, path: Path) -> Path:
        database = Database(self.home.database_url())
        path.write_bytes(b"".join(audit_heads.Heads(database).export(self.home.public())))
        database.close()
        return path

    def show(self, kept: KeptHeads) -> None:
        """Answer the site once, as the server would."""
        heads = self.heads()
        kept.see(heads[-1].canonical().decode(), lambda after: heads[after:])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    home = make_world(tmp_path / "broker").home
    return Log(home, Identity.load(home.identity_file))


@pytest.fixture
def kept(tmp_path: Path, log: Log) -> KeptHeads:
    (tmp_path / "site").mkdir()
    return KeptHeads(tmp_path / "site" / HEADS, log.home.public())


def lose(log: Log, tmp_path: Path, kept: KeptHeads) -> None:
    """Back up, go on, lose everything, restore, go on."""
    log.grow(4)
    log.show(kept)
    made = back_up(log.home, tmp_path / "backup", keys_to=tmp_path / "keys" / "kept")
    log.grow(3, "lost")
    log.show(kept)
    shutil.rmtree(log.home.path)
    done = restore(made.path, log.home.path, keys=tmp_path / "keys" / "kept")
    log.home = done.home
    log.grow(5, "after")


def test_a_site_goes_on_and_keeps_the_evidence(log: Log, tmp_path: Path, kept: KeptHeads) -> None:
    lose(log, tmp_path, kept)
    with pytest.raises(HistoryAltered, match="two histories"):
        log.show(kept)
    for _ in range(3):  # an agent looks again and again: one line is evidence enough
        with pytest.raises(HistoryAltered, match="two histories") as caught:
            log.show(kept)
    assert "linkage-site accept-restored" in caught.value.hint
    assert kept.path.with_name(CONFLICT).read_bytes().count(b"\n") == 1
    before, conflict = kept.path.read_bytes(), kept.path.with_name(CONFLICT).read_bytes()
    entry, digest = log.restored()
    told = restoration(
        log.export(tmp_path / "log.jsonl"), log.home.public(), entry=entry, digest=digest
    )
    would = accept(kept, told, dry_run=True)
    assert kept.path.read_bytes() == before
    done = accept(kept, told)
    assert done == would
    first = 4  # the first head that the site ever saw
    assert (done.lost, done.kept) == (3, len(log.heads()) - first + 1)
    assert [path.read_bytes() for path in done.aside] == [before, conflict]
    assert not kept.path.with_name(CONFLICT).exists()
    assert kept.path.stat().st_mode & 0o077 == 0
    log.grow(2)
    log.show(kept)
    numbers = [one.head.sequence for one in read_heads(kept.path, log.home.public())]
    assert numbers == list(range(first, len(log.heads()) + 1))
    with pytest.raises(Conflict, match="nothing was lost"):
        accept(kept, told)


def test_another_entry_or_hash_is_refused(log: Log, tmp_path: Path, kept: KeptHeads) -> None:
    lose(log, tmp_path, kept)
    exported = log.export(tmp_path / "log.jsonl")
    entry, digest = log.restored()
    wrong: list[Callable[[], object]] = [
        lambda: restoration(exported, log.home.public(), entry=entry, digest="0" * 64),
        lambda: restoration(exported, log.home.public(), entry=entry - 1, digest=digest),
    ]
    for one in wrong:
        with pytest.raises(HistoryAltered, match="does not say"):
            one()


def test_a_log_that_was_written_anew_is_not_accepted(
    log: Log, tmp_path: Path, kept: KeptHeads
) -> None:
    """Whoever has the broker's key can say "restored" in any log: heads before it give it away."""
    log.grow(2)
    log.show(kept)
    other = Log(make_world(tmp_path / "other").home, log.identity)
    shutil.copyfile(log.home.identity_file, other.home.identity_file)
    shutil.copyfile(log.home.path / "public.json", other.home.path / "public.json")
    other.grow(4, "forged")
    made = back_up(other.home, tmp_path / "backup", keys_to=tmp_path / "keys" / "kept")
    shutil.rmtree(other.home.path)
    other.home = restore(made.path, other.home.path, keys=tmp_path / "keys" / "kept").home
    other.grow(1)
    entry, digest = other.restored()
    told = restoration(
        other.export(tmp_path / "log.jsonl"), log.home.public(), entry=entry, digest=digest
    )
    with pytest.raises(HistoryAltered, match="older than the backup"):
        accept(kept, told)


def test_a_site_that_kept_nothing_has_nothing_to_accept(
    log: Log, tmp_path: Path, kept: KeptHeads
) -> None:
    lose(log, tmp_path, kept)
    kept.path.unlink()
    entry, digest = log.restored()
    told = restoration(
        log.export(tmp_path / "log.jsonl"), log.home.public(), entry=entry, digest=digest
    )
    with pytest.raises(NotFound):
        accept(kept, told)
