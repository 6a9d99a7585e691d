"""
What records count for that are left out once the whole dataset is known.

A record id that an earlier record has is found when all batches are written, so what they counted
holds it. A batch keeps, a record, the bits that each CLK set and which parts its rules use are
there; here that is added up for the records left out, to be taken off what the manifest attests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from linkage.study import MatchKeyRule, Party, StudyConfig
from sites.assembly import Assembled

Bools = npt.NDArray[np.bool_]


def parts_used(rules: Sequence[MatchKeyRule]) -> list[str]:
    """Return the fields and transforms that the rules use, each once, in a fixed order."""
    return sorted({ref for rule in rules for ref in rule.fields})


def packed_parts(present: Mapping[str, Bools], rules: Sequence[MatchKeyRule], n: int) -> Any:
    """Return uint8[n, ceil(parts / 8)]: which of `parts_used` each record has."""
    made = np.zeros((n, len(parts_used(rules))), bool)
    for place, ref in enumerate(parts_used(rules)):
        made[:, place] = present[ref]
    return np.packbits(made, axis=1)


def reasons(there: Mapping[str, Bools], rules: Sequence[MatchKeyRule]) -> dict[str, dict[str, int]]:
    """Return by rule how many records lack its key, by the first part of it that is missing."""
    found: dict[str, dict[str, int]] = {}
    for rule in rules:
        present = np.ones_like(there[rule.fields[0]])
        for ref in rule.fields:
            before = int(present.sum())
            present = present & there[ref]
            if lost := before - int(present.sum()):
                found.setdefault(rule.id, {})[f"missing:{ref}"] = lost
    return found


def counted(whole: Assembled, study: StudyConfig, party: Party) -> dict[str, Any]:
    """Return what the records left out count for, as a worker counts a batch's, but negative."""
    clks, rules = [clk.id for clk in study.clks_of(party)], study.rules_of(party)
    kept = whole.spool.load("kept")
    bits, with_clk = np.zeros(len(clks), np.int64), np.zeros(len(clks), np.int64)
    parts = [np.zeros((0, len(parts_used(rules))), bool)]
    for batch, first in whole.batches:
        rows = np.flatnonzero(~kept[first : first + batch.rows])
        if rows.size:
            bits += batch.column("bits_set")[rows].sum(axis=0, dtype=np.int64)
            with_clk += batch.column("has_clk")[rows].sum(axis=0)
            some = np.unpackbits(batch.column("parts")[rows], axis=1, count=parts[0].shape[1])
            parts.append(some.astype(bool))
    there = dict(zip(parts_used(rules), np.concatenate(parts).T, strict=True))
    no_key = reasons(there, rules)
    return {
        "bits_set": dict(zip(clks, (-bits).tolist(), strict=True)),
        "with_clk": dict(zip(clks, (-with_clk).tolist(), strict=True)),
        "no_key": {rule: {why: -n for why, n in one.items()} for rule, one in no_key.items()},
    }
