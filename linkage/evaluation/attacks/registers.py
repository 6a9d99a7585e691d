"""
What a study's parties would upload of simulated people, match keys only: any number of people.

    datasets = simulated_registers(study, 300_000, seed=1)
    unique_by_structure(list(datasets.values()))

The keys come from the encoder itself; of CLKs only who has one is kept, for a million CLKs take
long and their bits are not part of this attack. Families, twins and typing errors are those of
linkage.evaluation.population and .mistakes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt

from linkage.encoding.duplicates import digests, grouping_rules, settle, unite
from linkage.encoding.fields import Normaliser, Reading
from linkage.encoding.keys import StudyKey
from linkage.encoding.matchkeys import MatchKeyEncoder, null_repeats
from linkage.encoding.spelt import Spelt
from linkage.errors import LinkageError
from linkage.evaluation.attacks.crowds import Crowd
from linkage.evaluation.mistakes import RATES, Rates, as_registered
from linkage.evaluation.people import PARTIES, simulate
from linkage.evaluation.population import BLOCK, draw_persons, draw_vitals, stream
from linkage.records import MATCH_KEY_BYTES, PSEUDONYM_BYTES, EncodedRecords, FixedColumn
from linkage.study import Party, StudyConfig

_VITALS, _TRUE, _VIEW, _HELD = 1, 3, 40, 70
_TRUTH = Rates(**dict.fromkeys(Rates.__dataclass_fields__, 0.0))
_SHARE = 0.6
"""Of people held by a fourth party and those after it."""


def simulated_registers(
    study: StudyConfig,
    people: int,
    *,
    seed: int,
    nulled: bool = True,
    listed: bool = False,
    parties: Collection[str] | None = None,
) -> dict[str, EncodedRecords]:
    """
    Return each party's records of `people` persons under a new study key, by party.

    The first three parties hold whom `people.simulate` says, .44, .58 and .73 of them. CLKs have no
    bytes: uint8[N, 0], with who has one. nulled: keys that repeat inside a dataset are left out, as
    sites do; False shows what that is for. listed: as a list of the people has them, without
    gaps and typing errors. parties: only these, by default all of the study.

    Pseudonyms say who it is, for the attack to be scored: the person's number, 8 bytes, big-endian.
    """
    if people < 1:
        raise LinkageError("an attack needs people", hint="ask for one or more")
    key = StudyKey.generate()
    return {
        party.id: _register(study, party, people, seed, key, nulled, listed)
        for party in study.party
        if parties is None or party.id in parties
    }


def persons_of(records: EncodedRecords) -> npt.NDArray[np.int64]:
    """Return int64[N]: which person each record of `simulated_registers` is."""
    numbers = np.ascontiguousarray(records.pseudonyms[:, :8]).view(">u8").ravel()
    return numbers.astype(np.int64)


def _register(
    study: StudyConfig,
    party: Party,
    people: int,
    seed: int,
    key: StudyKey,
    nulled: bool,
    listed: bool,
) -> EncodedRecords:
    rules = {rule.id: MatchKeyEncoder(rule, study, key) for rule in study.rules_of(party)}
    grouping = grouping_rules(sorted(party.fields))
    keys: dict[str, list[FixedColumn]] = {rule: [] for rule in rules}
    clks: dict[str, list[npt.NDArray[np.bool_]]] = {clk.id: [] for clk in study.clks_of(party)}
    persons: list[npt.NDArray[np.int64]] = []
    same: list[npt.NDArray[np.uint64]] = []
    for block in _blocks(party, study.party.index(party), people, seed, listed):
        refs = {ref for rule in rules.values() for ref in rule.refs}
        values = {ref: block.taken(ref) for ref in refs}
        spelt = {ref: Spelt.of(values[ref]) for ref in refs}
        for rule, encoder in rules.items():
            keys[rule].append(encoder.encode(spelt)[0])
        for clk in study.clks_of(party):
            used = [block.taken(one.field) for one in clk.fields]
            count = np.sum([column.present() for column in used], axis=0)
            clks[clk.id].append(count >= clk.min_fields)
        same.append(digests(block.columns, grouping, bytes(16))[0])
        persons.append(block.person)
    everyone = np.concatenate(persons)
    n = len(everyone)
    groups = np.arange(n, dtype=np.uint32)
    for one in np.concatenate(same).T:
        unite(groups, one, np.arange(n, dtype=np.int64))
    settle(groups)
    pseudonyms = np.zeros((n, PSEUDONYM_BYTES), np.uint8)
    pseudonyms[:, :8] = everyone.astype(">u8").view(np.uint8).reshape(n, 8)
    found = {}
    for rule in rules:
        column = FixedColumn(
            np.concatenate([part.values for part in keys[rule]]).reshape(n, MATCH_KEY_BYTES),
            np.concatenate([part.present for part in keys.pop(rule)]),
        )
        found[rule] = null_repeats(column, groups)[0] if nulled else column
    return EncodedRecords(
        pseudonyms=pseudonyms,
        groups=groups,
        clks={
            clk: FixedColumn(np.zeros((n, 0), np.uint8), np.concatenate(parts))
            for clk, parts in clks.items()
        },
        match_keys=found,
    )


def _blocks(party: Party, place: int, people: int, seed: int, listed: bool) -> Iterator[Crowd]:
    """Yield, block by block, whom the party holds."""
    reading = Reading(date_format="%Y%m%d")
    held = None
    if place < len(PARTIES):
        held = np.sort(simulate(people, seed).holdings(PARTIES[place]).person)
    rates = _TRUTH if listed else RATES[PARTIES[place % len(PARTIES)]]
    for block, first in enumerate(range(0, people, BLOCK)):
        m = min(BLOCK, people - first)
        vitals = draw_vitals(m, stream(seed, block, _VITALS))
        persons = draw_persons(vitals, first, seed, stream(seed, block, _TRUE))
        texts = as_registered(persons, rates, stream(seed, block, _VIEW + place))
        if held is None:
            rows = np.flatnonzero(stream(seed, block, _HELD + place).random(m) < _SHARE)
        else:
            low, high = np.searchsorted(held, [first, first + m])
            rows = held[low:high] - first
        columns = {
            field: Normaliser(field, reading).column([str(t) for t in texts[field][rows]]).column
            for field in party.fields
        }
        yield Crowd(columns, rows + first)
