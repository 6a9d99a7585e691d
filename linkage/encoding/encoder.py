"""
Encode a party's records: normalised identifiers in, encoded records out.

    encoder = BatchEncoder(study, party, key)
    for columns in batches:
        encoded = encoder.encode(columns)

A `BatchEncoder` is what the streaming tokenizer runs in each worker process; it knows one batch
at a time. `encode_records` does the same for a dataset in memory and adds what concerns a
dataset as a whole, duplicates and repeated keys: the reference for the tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.encoding import fields
from linkage.encoding.clk import ClkEncoder
from linkage.encoding.columns import Coded
from linkage.encoding.duplicates import group_duplicates
from linkage.encoding.fillers import Fillers, leaders_of
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import MatchKeyEncoder, null_repeats
from linkage.encoding.spelt import Spelt
from linkage.errors import EncodingRefused
from linkage.pseudonyms import ContributorSecret
from linkage.records import EncodedRecords, FixedColumn
from linkage.study import Party, StudyConfig


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EncodedBatch:
    """
    The encodings of one batch of N records, in its order. Keys that repeat are still in it.

    clks, match_keys: by CLK and rule id, those that the party computes. bits_set: by CLK id,
    uint32[N], set bits before diffusion. present: by field or transform that a rule uses, bool[N].
    missing: by rule id, records without that key by reason, "missing:<field>" for the first field
    of the rule that is missing.
    """

    clks: dict[str, FixedColumn]
    match_keys: dict[str, FixedColumn]
    bits_set: dict[str, npt.NDArray[np.uint32]]
    present: dict[str, npt.NDArray[np.bool_]]
    missing: dict[str, dict[str, int]]


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


class BatchEncoder:
    """
    Every CLK and match key whose fields the party holds, for batches of its records.

    clks: by CLK id, its encoder. Keeps derived keys, taps and the positions of n-grams over
    batches; no value of a record. Neither pickles nor shares its state: make one in each process
    and thread.
    """

    def __init__(self, study: StudyConfig, party: Party, key: StudyKey) -> None:
        self._party = party
        self.clks = {clk.id: ClkEncoder(study, clk, key) for clk in study.clks_of(party)}
        self._rules = {rule.id: MatchKeyEncoder(rule, study, key) for rule in study.rules_of(party)}

    def encode(self, columns: Mapping[str, Coded], *, normalised: bool = False) -> EncodedBatch:
        """
        Encode N records. columns: by field, normalised; fields the party lacks are ignored.
        normalised: they come from a Normaliser as they are, so they need no second look.

        Raises EncodingRefused for a field of the party without a column, columns of unequal
        length, or values that were not normalised.
        """
        held = self._checked(columns, normalised=normalised)
        refs = {ref for one in self._encoders() for ref in one.refs}
        values = {ref: fields.apply(ref, held[ref.partition(":")[0]]) for ref in refs}
        made = EncodedBatch({}, {}, {}, {}, {})
        for name, clk in self.clks.items():
            made.clks[name], made.bits_set[name] = clk.encode(values)
        keyed = {ref for rule in self._rules.values() for ref in rule.refs}
        spelt = {ref: Spelt.of(values[ref]) for ref in keyed}
        made.present.update((ref, column.present) for ref, column in spelt.items())
        for name, rule in self._rules.items():
            made.match_keys[name], made.missing[name] = rule.encode(spelt)
        return made

    def _encoders(self) -> list[ClkEncoder | MatchKeyEncoder]:
        return [*self.clks.values(), *self._rules.values()]

    def _checked(self, columns: Mapping[str, Coded], *, normalised: bool) -> dict[str, Coded]:
        held: dict[str, Coded] = {}
        for field in self._party.fields:
            if field not in columns:
                raise EncodingRefused(
                    f"party {self._party.id!r} holds {field!r}, but there is no such column",
                    hint="name its column in the site file, or drop it from the party's fields",
                )
            if not normalised:
                fields.require_normalised(field, columns[field])
            held[field] = columns[field]
        if len({len(column) for column in held.values()}) > 1:
            raise EncodingRefused("the columns do not have a value for every record each")
        return held


def encode_records(
    columns: Mapping[str, Coded],
    pseudonyms: npt.NDArray[np.uint8],
    *,
    study: StudyConfig,
    party: Party,
    key: StudyKey,
    secret: ContributorSecret | None = None,
) -> Encoded:
    """
    Encode a dataset of N records in memory: the reference for the streaming tokenizer.

    columns: by field, normalised (linkage.encoding.fields). pseudonyms: uint8[N, 16]. secret: the
    contributor's, which a study needs that fills nulls. Raises EncodingRefused as
    BatchEncoder.encode does, for another number of pseudonyms, or where the secret is missing.
    """
    encoder = BatchEncoder(study, party, key)
    batch = encoder.encode(columns)
    held = {field: columns[field] for field in party.fields}
    if any(len(column) != len(pseudonyms) for column in held.values()):
        raise EncodingRefused("a column does not have a value for every record")
    groups = group_duplicates(held)
    keys: dict[str, FixedColumn] = {}
    collisions: dict[str, int] = {}
    for rule, column in batch.match_keys.items():
        keys[rule], collisions[rule] = null_repeats(column, groups)
        if repeated := int(column.present.sum() - keys[rule].present.sum()):
            batch.missing[rule]["repeated"] = repeated
    records = EncodedRecords(pseudonyms=pseudonyms, groups=groups, clks=batch.clks, match_keys=keys)
    if study.study.fills_nulls:
        if secret is None:
            raise EncodingRefused(
                "the study fills nulls, but there is no secret to make fillers of",
                hint="give the contributor's secret that made the pseudonyms",
            )
        fillers = Fillers(study, key, secret, encoder.clks)
        records = fillers.fill(records, leaders_of(pseudonyms, groups))
    densities = {name: density(column, batch.bits_set[name]) for name, column in batch.clks.items()}
    return Encoded(records, densities, batch.missing, collisions)


def density(column: FixedColumn, bits_set: npt.NDArray[np.uint32]) -> float:
    """Return the mean share of bits set before diffusion; 0.0 where no record has the CLK."""
    bits = int(column.present.sum()) * column.values.shape[1] * 8
    return int(bits_set.sum(dtype=np.int64)) / bits if bits else 0.0
