"""Ledgers of counts in real vaults, for the tests of counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linkage.study_parts import CountRules
from sites.cohort.counts import CountAsked
from sites.cohort.ledger import Ledger
from sites.vault import Vault

KEY = bytes(range(32))


def ledger_in(folder: Path, *, key: bytes = KEY, epoch: int = 1, **rules: Any) -> Ledger:
    """Open the ledger in a private folder; a minimum cell of 11 and `rules` over the defaults."""
    vault = Vault(folder)
    vault.secret()
    return Ledger(vault, key, CountRules(**rules), minimum=11, epoch=epoch)


def asked(question: str, run: str = "run-1") -> CountAsked:
    return CountAsked(question=question, run=run, at=1_800_000_000.0)
