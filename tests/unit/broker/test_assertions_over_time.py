"""
The same promises about person IDs where stewards assert, contradict each other and withdraw, and
datasets come as deltas: from the lists through the solver to the database, in any order.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from broker.results import named
from broker.store import bulk, links, people
from linkage.assertions import AssertionList
from linkage.delta import apply_delta, removals
from linkage.matching.asserted import settle
from linkage.matching.identity import assign
from linkage.matching.links import links_of, tiers_of
from linkage.matching.solve import PairsBy, solve
from linkage.records import EncodedRecords
from tests.unit.broker.test_identity_over_time import (
    PARTIES,
    RECORDS,
    STUDY,
    IdentityOverTime,
    Record,
    name,
)
from tests.unit.matching.test_solve import _weights

TOKENS = st.integers(0, 4)


def records_of(members: list[Record]) -> EncodedRecords:
    names = bulk.matrix([name(r) for r in members])
    return EncodedRecords(names, np.arange(len(members), dtype=np.uint32), {}, {})


class AssertedOverTime(IdentityOverTime):
    """
    entity: whom records look like: those of one number and two parties are probable pairs. said: by
    party and token, record and whether it is different. held: the dataset versions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[tuple[str, int], tuple[Record, bool]] = {}
        self.held = {party: records_of([]) for party in PARTIES}

    @rule(token=TOKENS, records=st.lists(RECORDS, min_size=1, max_size=3), different=st.booleans())
    def assert_(self, token: int, records: list[Record], different: bool) -> None:
        """One, two or three parties say something under one token; what they said before goes."""
        for record in records:
            self.said[record[0], token] = record, different

    @rule(party=st.sampled_from(PARTIES), token=TOKENS)
    def take_back(self, party: str, token: int) -> None:
        self.said.pop((party, token), None)

    @rule(data=st.data())
    def run_in_any_order(self, data: st.DataObject) -> None:
        """A run of what is held, after a delta of each party that has changed."""
        for party in data.draw(st.permutations(PARTIES)):
            self.held[party] = self._after_delta(party)
        rows = {
            p: [self._record(p, n) for n in bulk.split(h.pseudonyms)] for p, h in self.held.items()
        }
        pseudonyms = {p: held.pseudonyms for p, held in self.held.items()}
        groups = {p: held.groups for p, held in self.held.items()}
        settled = settle(self._lists(), pseudonyms, groups)
        weights = _weights(self._probable(rows))
        entities = solve(weights, groups, asserted=settled.asserted)
        made = links_of(
            weights, tiers_of(weights, []), entities, groups, asserted=settled.asserted.same
        )
        sequence = len(self.told) + 1
        with self.database.change() as connection:
            known = people.everyone(connection, STUDY)
            changes = assign(known.previous(), entities, pseudonyms)
            people.write(connection, STUDY, sequence, known, pseudonyms, changes)
            links.write(connection, STUDY, sequence, named(made, pseudonyms))
        now = {
            r: person
            for p, mine in rows.items()
            for r, person in zip(mine, bulk.split(changes.members[p]), strict=True)
        }
        entity = {
            r: int(e)
            for p, mine in rows.items()
            for r, e in zip(mine, entities.of[p].tolist(), strict=True)
        }
        self._promises(now, set(bulk.split(changes.merged[0])), entity)
        for part in set(entity.values()):
            parties = Counter(r[0] for r in entity if entity[r] == part)
            assert max(parties.values()) == 1
        for one, other in _pairs(settled.asserted.same, rows):
            assert now[one] == now[other]
        for one, other in _pairs(settled.asserted.different, rows):
            assert now[one] != now[other]
        if not self._lists_contradict(settled.report):
            for (_, token), (record, different) in self.said.items():
                partners = [r for (_, t), (r, _) in self.said.items() if t == token]
                for other in partners:
                    if record in now and other in now and other != record:
                        assert (now[record] == now[other]) != different
        ends = [(made.left_party, made.left), (made.right_party, made.right)]
        one, other = (
            [rows[made.parties[p]][int(i)] for p, i in zip(*end, strict=True)] for end in ends
        )
        self.linked.append(set(zip(one, other, strict=True)))
        self.told.append(now)
        self.newest |= now

    def _after_delta(self, party: str) -> EncodedRecords:
        base = self.held[party]
        before = {self._record(party, n) for n in bulk.split(base.pseudonyms)}
        after = {r for r in self.entity if r[0] == party}
        if before == after:
            return base
        new = records_of(sorted(after - before))
        gone = removals(bulk.matrix([name(r) for r in sorted(before - after)]), {}, [], 16)
        told = EncodedRecords(
            np.concatenate([new.pseudonyms, gone.pseudonyms]),
            np.concatenate([new.groups, gone.groups]),
            {},
            {},
        )
        return apply_delta(base, told)

    def _record(self, party: str, text: bytes) -> Record:
        return next((party, i) for i in range(6) if name((party, i)) == text)

    def _probable(self, rows: dict[str, list[Record]]) -> list[tuple[str, int, str, int, float]]:
        return [
            (x, i, y, j, 0.6 + (r[1] + s[1]) / 30)
            for x, y in combinations(PARTIES, 2)
            for i, r in enumerate(rows[x])
            for j, s in enumerate(rows[y])
            if self.entity[r] == self.entity[s]
        ]

    def _lists(self) -> dict[str, AssertionList]:
        lists = {}
        for party in PARTIES:
            mine = {t: said for (p, t), said in self.said.items() if p == party}
            lists[party] = AssertionList(
                party,
                bulk.matrix([name(record) for record, _ in mine.values()]),
                bulk.matrix([bytes([token]).rjust(16, b"t") for token in mine]),
                np.array([different for _, different in mine.values()], np.bool_),
            )
        return lists

    def _lists_contradict(self, report: object) -> bool:
        assert isinstance(report, dict)
        return bool(report["contradictions"])


def _pairs(by: PairsBy, rows: dict[str, list[Record]]) -> list[tuple[Record, Record]]:
    return [
        (rows[x][int(i)], rows[y][int(j)])
        for (x, y), (left, right) in by.items()
        for i, j in zip(left, right, strict=True)
    ]


TestAssertionsOverTime = AssertedOverTime.TestCase
TestAssertionsOverTime.settings = settings(
    max_examples=20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
