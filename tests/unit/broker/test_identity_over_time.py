"""
Any order of adds, deltas, withdrawals, merges and splits keeps the promises about person IDs.

A machine of steps makes runs over a real database and remembers by itself, in plain sets, what
everybody was told. After every run it asks for all of history again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import make_url

from broker.store import bulk, links, people, studies
from broker.store.engine import Database
from linkage.matching.identity import assign
from linkage.matching.solve import Entities
from linkage.records import Bytes2D

STUDY = "small-study"
PARTIES = ("a", "b", "c")
RECORDS = st.tuples(st.sampled_from(PARTIES), st.integers(0, 5))
Record = tuple[str, int]


def name(record: Record) -> bytes:
    return hashlib.sha256(repr(record).encode()).digest()[:16]


class IdentityOverTime(RuleBasedStateMachine):
    """entity: the entity of every record that is there. told: by run, the person of each record."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(make_url(f"sqlite:///{Path(self.folder.name) / 'x.sqlite'}"))
        self.entity: dict[Record, int] = {}
        self.told: list[dict[Record, bytes]] = []
        self.linked: list[set[tuple[Record, Record]]] = []
        self.newest: dict[Record, bytes] = {}
        self.ended: set[bytes] = set()

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.database.migrate()
        row = studies.StudyRow(id=STUDY, study_hash="0" * 64, signed="{}", registered_at=0)
        with self.database.change() as connection:
            studies.add_study(connection, row)

    @rule(record=RECORDS, entity=st.integers(0, 7))
    def add(self, record: Record, entity: int) -> None:
        """A record comes, or comes back, or is found to be someone else: a delta."""
        self.entity[record] = entity

    @rule(record=RECORDS)
    def withdraw(self, record: Record) -> None:
        self.entity.pop(record, None)

    @rule(party=st.sampled_from(PARTIES))
    def withdraw_a_whole_dataset(self, party: str) -> None:
        self.entity = {r: e for r, e in self.entity.items() if r[0] != party}

    @rule(one=st.integers(0, 7), other=st.integers(0, 7))
    def merge(self, one: int, other: int) -> None:
        self.entity = {r: one if e == other else e for r, e in self.entity.items()}

    @rule(data=st.data())
    def run_in_any_order(self, data: st.DataObject) -> None:
        """A run; parties and rows come in any order, entities are numbered anyhow."""
        rows = {
            p: data.draw(st.permutations(sorted(r for r in self.entity if r[0] == p)))
            for p in data.draw(st.permutations(PARTIES))
        }
        number = dict(enumerate(data.draw(st.permutations(range(8)))))
        pseudonyms = {p: _matrix([name(r) for r in mine]) for p, mine in rows.items()}
        entities = Entities(
            {
                p: np.array([number[self.entity[r]] for r in mine], np.int64)
                for p, mine in rows.items()
            },
            8,
        )
        sequence = len(self.told) + 1
        with self.database.change() as connection:
            known = people.everyone(connection, STUDY)
            changes = assign(known.previous(), entities, pseudonyms)
            people.write(connection, STUDY, sequence, known, pseudonyms, changes)
            links.write(connection, STUDY, sequence, self._links())
        now = {
            r: person
            for p, mine in rows.items()
            for r, person in zip(mine, bulk.split(changes.members[p]), strict=True)
        }
        self._promises(now, set(bulk.split(changes.merged[0])), self.entity)
        self.told.append(now)
        self.newest |= now

    def _links(self) -> links.LinkRows:
        """Everyone to the next record of its entity; the tier follows the entity's size."""
        pairs = set()
        for e in set(self.entity.values()):
            mine = sorted(r for r in self.entity if self.entity[r] == e)
            pairs |= set(pairwise(mine))
        self.linked.append(pairs)
        sizes = Counter(self.entity.values())
        ordered = sorted(pairs)
        return links.LinkRows(
            _matrix([name(r) for r, _ in ordered]),
            _matrix([name(r) for _, r in ordered]),
            np.array([sizes[self.entity[r]] % 3 for r, _ in ordered], np.int64),
            np.ones(len(ordered), np.int64),
        )

    def _promises(
        self, now: dict[Record, bytes], merged: set[bytes], entity: dict[Record, int]
    ) -> None:
        parts: dict[int, list[Record]] = {}
        for record, e in entity.items():
            parts.setdefault(e, []).append(record)
        ids = {e: {now[r] for r in part} for e, part in parts.items()}
        # One entity, one ID, and no two entities the same.
        assert all(len(one) == 1 for one in ids.values())
        assert len(set().union(*ids.values())) == len(parts)
        # A tombstone never comes back.
        assert not self.ended & set(now.values())
        assert not merged & set(now.values())
        self.ended |= merged
        before = Counter(self.newest.values())
        for e, part in parts.items():
            votes = Counter(self.newest[r] for r in part if r in self.newest)
            (person,) = ids[e]
            if not votes:
                assert person not in before  # a new person has a new ID
            # Nobody who kept his records to himself is renamed, whoever joins.
            elif len(votes) == 1 and before[next(iter(votes))] == votes.total():
                assert set(votes) == {person}
            # Whoever holds most of an ID's records, and has most of them from it, keeps it.
            else:
                (top, count), *others = votes.most_common()
                if 2 * count > before[top] and all(n < count for _, n in others):
                    assert person == top

    @invariant()
    def every_days_answer_stands(self) -> None:
        for sequence, told in enumerate(self.told, start=1):
            found: dict[bytes, bytes] = {}
            with self.database.read() as connection:
                for party in PARTIES:
                    names, ids = people.members_at(connection, STUDY, party, sequence)
                    found |= dict(
                        zip(bulk.split(_matrix([names])), bulk.split(_matrix([ids])), strict=True)
                    )
                facts = links.among(connection, STUDY, [name(r) for r in told], sequence)
            assert found == {name(record): person for record, person in told.items()}
            pairs = {(name(one), name(other)) for one, other in self.linked[sequence - 1]}
            assert {(fact.left, fact.right) for fact in facts} == pairs
            assert len(facts) == len(pairs)


def _matrix(names: list[bytes]) -> Bytes2D:
    return bulk.matrix(names)


TestIdentityOverTime = IdentityOverTime.TestCase
TestIdentityOverTime.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
