"""The heads that a site keeps: no broker can show it two histories."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from linkage.audit_chain import START, AuditHead, read_heads
from linkage.errors import HistoryAltered, KeyRefused
from linkage.sealing import Identity
from sites.audit_heads import CONFLICT, HEADS, KeptHeads

BROKER = Identity.generate("broker", kem="X25519")


def history(n: int, *, mark: str = "a", after: list[AuditHead] | None = None) -> list[AuditHead]:
    made = list(after or [])
    while len(made) < n:
        head = AuditHead(
            sequence=len(made) + 1,
            previous=made[-1].digest if made else START,
            hash=mark * 64,
            at=1_800_000_000 + len(made),
        )
        made.append(head.sign(BROKER))
    return made


class Showing:
    """A broker that shows a history, at most `page` heads at a time."""

    def __init__(self, heads: list[AuditHead], page: int = 3) -> None:
        self.heads, self.page, self.asked = heads, page, 0

    def missing(self, after: int) -> list[AuditHead]:
        self.asked += 1
        return self.heads[after : after + self.page]


def show(kept: KeptHeads, heads: list[AuditHead], number: int) -> None:
    kept.see(heads[number - 1].canonical().decode(), Showing(heads).missing)


@pytest.fixture
def kept(tmp_path: Path) -> KeptHeads:
    return KeptHeads(tmp_path / HEADS, BROKER.public())


def numbers(kept: KeptHeads) -> list[int]:
    return [one.head.sequence for one in read_heads(kept.path, BROKER.public())]


def test_heads_are_kept_without_a_gap_from_the_first_seen(kept: KeptHeads) -> None:
    heads = history(20)
    assert (kept.newest(), kept.count()) == (None, 0)
    for number in (5, 5, 6, 17):
        show(kept, heads, number)
    assert numbers(kept) == list(range(5, 18))
    assert kept.newest() == heads[16]
    assert kept.path.stat().st_mode & 0o077 == 0
    again = KeptHeads(kept.path, BROKER.public())
    show(again, heads, 18)
    assert again.count() == 14


def test_a_head_that_comes_late_is_no_fault(kept: KeptHeads) -> None:
    heads = history(6)
    for number in (5, 3, 6, 5, 2):  # 3 and 2 are from before the first that was seen
        show(kept, heads, number)
    assert numbers(kept) == [5, 6]


@pytest.mark.threat("T20")
@pytest.mark.parametrize(
    ("forked_after", "shown", "fault"),
    [(3, 4, "two heads of number 4"), (4, 5, "does not follow"), (3, 9, "does not follow")],
)
def test_another_history_is_refused_and_kept_as_evidence(
    kept: KeptHeads, forked_after: int, shown: int, fault: str
) -> None:
    heads = history(4)
    show(kept, heads, 2)
    show(kept, heads, 4)
    other = history(9, mark="b", after=heads[:forked_after])
    if (forked_after, shown) == (4, 5):
        other = history(9, mark="b", after=history(4, mark="c"))
    with pytest.raises(HistoryAltered, match=f"two histories of its audit log: .*{fault}"):
        show(kept, other, shown)
    assert numbers(kept) == [2, 3, 4]
    assert len(read_heads(kept.path.with_name(CONFLICT), BROKER.public())) == 1
    with pytest.raises(HistoryAltered):  # and again, each time
        show(kept, other, shown)


@pytest.mark.threat("T20")
def test_a_broker_that_withholds_heads_in_between_is_refused(kept: KeptHeads) -> None:
    heads = history(9)
    show(kept, heads, 2)
    with pytest.raises(HistoryAltered, match="it did not hand out head 3"):
        kept.see(heads[8].canonical().decode(), lambda after: [])
    with pytest.raises(HistoryAltered, match="it did not hand out head 3"):
        kept.see(heads[8].canonical().decode(), lambda after: heads[:2])


@pytest.mark.threat("T20")
def test_heads_of_others_are_refused(kept: KeptHeads) -> None:
    stranger = KeptHeads(kept.path, Identity.generate("broker", kem="X25519").public())
    with pytest.raises(HistoryAltered, match="not signed by the broker"):
        show(stranger, history(1), 1)
    for text in ("", "x", "{}", history(1)[0].canonical().decode() + " "):
        with pytest.raises(HistoryAltered, match="is no head"):
            kept.see(text, lambda after: [])
    assert not kept.path.exists()


def test_a_line_that_a_crash_cut_short_is_written_again(kept: KeptHeads) -> None:
    heads = history(3)
    show(kept, heads, 1)
    show(kept, heads, 2)
    os.truncate(kept.path, kept.path.stat().st_size - 30)
    again = KeptHeads(kept.path, BROKER.public())
    assert again.newest() == heads[0]
    show(again, heads, 3)
    assert numbers(again) == [1, 2, 3]


def test_a_damaged_file_is_refused(kept: KeptHeads) -> None:
    show(kept, history(1), 1)
    kept.path.write_text("x\n")
    with pytest.raises(HistoryAltered, match=f"last line of .*{HEADS} is no head"):
        show(KeptHeads(kept.path, BROKER.public()), history(2), 2)
    with pytest.raises(KeyRefused, match="cannot be written"):
        show(KeptHeads(kept.path / "below", BROKER.public()), history(1), 1)


def test_processes_share_the_file(kept: KeptHeads) -> None:
    heads = history(30)
    show(kept, heads, 1)

    def follow() -> None:
        mine = KeptHeads(kept.path, BROKER.public())
        for number in range(1, 31):
            show(mine, heads, number)

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert numbers(kept) == list(range(1, 31))
