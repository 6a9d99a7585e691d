"""Lists that several people change at a time: nobody's wish, and no export, is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sites import exports, opting_out, withdrawal
from sites.vault import Vault

EACH, AT_ONCE = 12, 3


def withdraw(vault: Vault, record_id: str) -> None:
    withdrawal.change(vault, [record_id], take_back=False, keep=True)


def opt_out(vault: Vault, record_id: str) -> None:
    opting_out.change(vault, [record_id], lift=False, keep=True)


def export(vault: Vault, release: str) -> None:
    exports.note(vault, exports.Exported(1, "crosswalk", release, "ids.csv", 3, "IDs", ()))


def exported(vault: Vault) -> set[str]:
    return {one.release for one in exports.ledger(vault)}


@pytest.mark.parametrize(
    ("add", "there"),
    [
        (withdraw, withdrawal.withdrawn_records),
        (opt_out, opting_out.opted_out_records),
        (export, exported),
    ],
    ids=["withdrawn", "opted out", "exported"],
)
def test_changes_at_the_same_time_all_count(
    tmp_path: Path, add: Callable[[Vault, str], None], there: Callable[[Vault], set[str]]
) -> None:
    vault = Vault(tmp_path / "private")
    vault.secret()
    faults: list[Exception] = []

    def work(who: int) -> None:
        try:
            for number in range(EACH):
                add(vault, f"record-{who}-{number}")
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(AT_ONCE)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not faults
    assert there(vault) == {f"record-{a}-{b}" for a in range(AT_ONCE) for b in range(EACH)}


def test_what_only_counts_leaves_nothing_behind(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "private")
    assert withdrawal.change(vault, ["a", "b"], take_back=False, keep=False).all == 2
    assert opting_out.change(vault, ["a"], lift=False, keep=False).changed == 1
    assert not (tmp_path / "private").exists()
