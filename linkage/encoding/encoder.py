"""
Encode a party's records: normalised identifiers in, encoded records out.

    encoded = encode_records(columns, pseudonyms, study=study, party=party, key=key)

The one entry point for sites; CLKs, diffusion and match keys are the modules beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.encoding import fields
from linkage.encoding.clk import diffused, plain_clks
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import encode_match_keys, group_duplicates, null_repeats
from linkage.errors import EncodingRefused
from linkage.records import EncodedRecords, FixedColumn
from linkage.study import Party, StudyConfig

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """
    A party's encoded records, and what its manifest attests of them.

    densities: by CLK id, mean share of bits set before diffusion; 0.0 where no record has it.
    null_reasons: by rule id, records without a key by reason: "missing:<field>", "repeated".
    collisions: by rule id, values held by exactly two groups, rounded up to a multiple of 5.
    """

    records: EncodedRecords
    densities: dict[str, float]
    null_reasons: dict[str, dict[str, int]]
    collisions: dict[str, int]


def encode_records(
    columns: Mapping[str, list[str]],
    pseudonyms: npt.NDArray[np.uint8],
    *,
    study: StudyConfig,
    party: Party,
    key: StudyKey,
    progress: Progress | None = None,
) -> Encoded:
    """
    Encode N records: every CLK and match key whose fields the party holds.

    columns: by field, N normalised values (linkage.encoding.fields.normalise), "" if missing.
    pseudonyms: uint8[N, 16]. progress: called with (steps done, steps in all) after each CLK
    and rule. Raises EncodingRefused for a field of the party without a column, columns of
    unequal length, or values that were not normalised.
    """
    held = _checked(columns, len(pseudonyms), party)
    clks, rules = study.clks_of(party), study.rules_of(party)
    done, steps = 0, len(clks) + len(rules)
    groups = group_duplicates(held)
    encoded: dict[str, FixedColumn] = {}
    densities: dict[str, float] = {}
    for clk in clks:
        plain = plain_clks(held, study, clk, key)
        densities[clk.id] = _density(plain)
        encoded[clk.id] = diffused(plain, study, clk, key)
        done = _tell(progress, done, steps)
    keys: dict[str, FixedColumn] = {}
    null_reasons: dict[str, dict[str, int]] = {}
    collisions: dict[str, int] = {}
    for rule in rules:
        column, reasons = encode_match_keys(held, rule, study, key)
        keys[rule.id], collisions[rule.id] = null_repeats(column, groups)
        if repeated := int(column.present.sum() - keys[rule.id].present.sum()):
            reasons["repeated"] = repeated
        null_reasons[rule.id] = reasons
        done = _tell(progress, done, steps)
    records = EncodedRecords(pseudonyms=pseudonyms, groups=groups, clks=encoded, match_keys=keys)
    return Encoded(records, densities, null_reasons, collisions)


def _checked(columns: Mapping[str, list[str]], n: int, party: Party) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {}
    for field in party.fields:
        if field not in columns:
            raise EncodingRefused(
                f"party {party.id!r} holds {field!r}, but there is no such column",
                hint="name its column in the site file, or drop it from the party's fields",
            )
        if len(columns[field]) != n:
            raise EncodingRefused(f"column {field!r} does not have a value for every record")
        fields.require_normalised(field, columns[field])
        held[field] = columns[field]
    return held


def _density(plain: FixedColumn) -> float:
    if not (count := int(plain.present.sum())):
        return 0.0
    set_bits = int(np.bitwise_count(plain.values).sum(dtype=np.int64))
    return set_bits / float(count * plain.values.shape[1] * 8)


def _tell(progress: Progress | None, done: int, steps: int) -> int:
    if progress is not None:
        progress(done + 1, steps)
    return done + 1
