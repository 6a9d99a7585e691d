"""
What reviewers are shown of a run: pairs in doubt, a random sample of links, and decoys.

    pool = pooled(looks, levels, weights)          after a second look: all pairs that it compared
    cases = choose(pool, linked, limits, pseudonyms, draw)

Only pairs that a second look compared can be shown, for a case is their field agreements. Of the
other links the look asked about a random part, so each pair of the pool stands for as many as there
were of its kind (LookPairs.stands_for), and a systematic sample with these sizes (Madow 1949,
doi:10.1214/aoms/1177729988) is a uniform sample of all links.

Decoys are decoys of the look, too: pairs that the model was sure of before, and is after, from .999
on or up to .01. Errors are measured on what is like the pairs that they are to tell of: on matches
and others that agree about as well as the pairs in doubt, and on **typical** matches, sampled like
the links to check. A small study has few others among its candidates, and so knows little of how
often reviewers take two people for one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused
from linkage.matching.dice import Floats
from linkage.matching.second_look import UNCERTAIN, Level, LookLevels, Looks, Reason
from linkage.matching.weights import Weights
from linkage.records import Bytes2D
from linkage.review import Case

SURE = (0.01, 0.999)
"""Probabilities after the look, ends included, up to and from which a pair may be a decoy."""
LEAST_DECOYS = 20
"""Decoys of each kind, where there are as many: fewer measure too little."""
WORDS: Mapping[Level, str] = {
    Level.MISSING: "missing",
    Level.DIFFERENT: "different",
    Level.ALIKE: "similar",
    Level.CLOSE: "similar",
    Level.EQUAL: "equal",
}
"""What a reviewer is told of a field."""
CASE_BYTES = 8
_KINDS = ("doubt", "check", "decoy", "typical", "truth")

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CaseLimits:
    """most: pairs in doubt. sample: links to check. decoys: share of all cases, in (0, 1)."""

    most: int
    sample: int
    decoys: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pooled:
    """
    The pairs of two parties that a second look compared: P parallel rows.

    fields: compared ones. left, right: uint32[P], record rows. levels: uint8[P, fields], see Level.
    reason: uint8[P], see second_look.Reason. probability: float64[P], after the look. stands_for:
    float64[P].
    """

    parties: tuple[str, str]
    fields: tuple[str, ...]
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    levels: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    probability: Floats
    stands_for: Floats

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True, slots=True)
class ShownCase:
    """A case and the pair that it is about. parties, pseudonyms: of both records."""

    case: Case
    parties: tuple[str, str]
    pseudonyms: tuple[bytes, bytes]
    fields: Mapping[str, str]


def pooled(looks: Looks, levels: Sequence[LookLevels], after: Weights) -> list[Pooled]:
    """Return all pairs that both sites answered, with their probability after the look."""
    weighed = {c.parties: c for c in after.comparisons}
    found = []
    for pairs, level in zip(looks.comparisons, levels, strict=True):
        kept = level.answered
        one = weighed[pairs.parties]
        known, wanted = _codes(one.left, one.right), _codes(pairs.left[kept], pairs.right[kept])
        place = np.minimum(np.searchsorted(known, wanted), max(0, len(known) - 1))
        # Weights leave out what is below .0001.
        there = known[place] == wanted if len(known) else np.zeros(len(wanted), np.bool_)
        probability = np.zeros(len(wanted))
        probability[there] = one.probability[place[there]]
        found.append(
            Pooled(
                parties=pairs.parties,
                fields=pairs.fields,
                left=pairs.left[kept],
                right=pairs.right[kept],
                levels=level.levels[kept],
                reason=pairs.reason[kept],
                probability=probability,
                stands_for=pairs.stands_for[kept],
            )
        )
    return found


def choose(
    pool: Sequence[Pooled],
    linked: Callable[[Pooled], npt.NDArray[np.bool_]],
    limits: CaseLimits,
    pseudonyms: Mapping[str, Bytes2D],
    draw: Callable[[int], bytes],
) -> list[ShownCase]:
    """
    Return the cases to show, ordered by their ids, which are random.

    linked: which pairs of a comparison the run has linked. pseudonyms: by party, uint8[N, 16].
    draw: gives that many secret random bytes.
    """
    rng = np.random.default_rng(int.from_bytes(draw(16), "big"))
    flat = _Flat.of(pool, linked)
    low, high = UNCERTAIN
    unsure = np.flatnonzero((flat.probability >= low) & (flat.probability <= high))
    doubts = unsure[np.argsort(np.abs(flat.probability[unsure] - 0.5), kind="stable")]
    doubts = doubts[: limits.most]
    checks = _sampled(np.flatnonzero(flat.linked), flat.stands_for, limits.sample, rng)
    shown = np.union1d(doubts, checks)
    alike, typical = _decoys(flat, doubts, checks, limits.decoys, rng)
    chosen = np.concatenate([shown, alike, typical])
    ids = draw(CASE_BYTES * len(chosen))
    cases = []
    for n, row in enumerate(chosen.tolist()):
        one, i = flat.where[row]
        pair = pool[one]
        left, right = (
            pseudonyms[party][int(side[i])].tobytes()
            for party, side in zip(pair.parties, (pair.left, pair.right), strict=True)
        )
        case = Case(
            case_id=ids[n * CASE_BYTES : (n + 1) * CASE_BYTES].hex(),
            doubt=row in doubts,
            check=row in checks,
            decoy=n >= len(shown),
            typical=n >= len(shown) + len(alike),
            truth=n >= len(shown) and bool(flat.sure[row] > 0),
            probability=float(flat.probability[row]),
        )
        words = {
            field: WORDS[Level(int(level))]
            for field, level in zip(pair.fields, pair.levels[i], strict=True)
        }
        cases.append(ShownCase(case, pair.parties, (left, right), words))
    return sorted(cases, key=lambda c: c.case.case_id)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Flat:
    """
    All pairs of a pool, one after another. sure: int8[P], 1 for a match, -1 for others, 0 for
    neither. alike: float64[P], mean level of what is there.
    """

    where: list[tuple[int, int]]
    sure: npt.NDArray[np.int8]
    probability: Floats
    stands_for: Floats
    linked: npt.NDArray[np.bool_]
    alike: Floats

    @classmethod
    def of(cls, pool: Sequence[Pooled], linked: Callable[[Pooled], npt.NDArray[np.bool_]]) -> _Flat:
        none = np.zeros(0)
        return cls(
            where=[(n, i) for n, one in enumerate(pool) for i in range(len(one))],
            sure=np.concatenate([np.zeros(0, np.int8), *(_sure(one) for one in pool)]),
            probability=np.concatenate([none, *(one.probability for one in pool)]),
            stands_for=np.concatenate([none, *(one.stands_for for one in pool)]),
            linked=np.concatenate([none, *(linked(one) for one in pool)]).astype(np.bool_),
            alike=np.concatenate([none, *(_alike(one.levels) for one in pool)]),
        )


def _sure(pool: Pooled) -> npt.NDArray[np.int8]:
    low, high = SURE
    match = (pool.reason == Reason.LIKELY) & (pool.probability >= high)
    unlikely = np.isin(pool.reason, (Reason.UNLIKELY, Reason.LEFT_OVER))
    other = unlikely & (pool.probability <= low)
    sure: npt.NDArray[np.int8] = match.astype(np.int8) - other.astype(np.int8)
    return sure


def _alike(levels: npt.NDArray[np.uint8]) -> Floats:
    there = levels != Level.MISSING
    total = np.where(there, levels - np.uint8(Level.DIFFERENT), 0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(1, there.sum(axis=1)), dtype=np.float64)


def _sampled(rows: Rows, sizes: Floats, most: int, rng: np.random.Generator) -> Rows:
    """Return a systematic sample in proportion to the sizes, no row twice; ascending."""
    if not len(rows) or not most:
        return np.zeros(0, np.int64)
    rows = rng.permutation(rows)
    ends = np.cumsum(sizes[rows])
    # A row that is larger than a step would come twice.
    count = min(most, int(ends[-1] / sizes[rows].max()))
    step = ends[-1] / count
    marks = (rng.random() + np.arange(count)) * step
    return np.sort(rows[np.minimum(np.searchsorted(ends, marks, side="right"), len(rows) - 1)])


def _decoys(
    flat: _Flat, doubts: Rows, checks: Rows, wanted: float, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """
    Return decoys like the pairs in doubt, matches and others, and typical matches.

    Without doubts no match is like them; without checks none need be typical.
    """
    shown = np.union1d(doubts, checks)
    none = np.zeros(0, np.int64)
    if not len(shown):
        return none, none
    kinds = 1 + bool(len(doubts)) + bool(len(checks))
    each = max(LEAST_DECOYS, math.ceil(len(shown) * wanted / (1 - wanted) / kinds))
    like = float(flat.alike[doubts if len(doubts) else checks].mean())
    free = np.setdiff1d(np.arange(len(flat.alike)), shown)
    others, matches = (rng.permutation(free[flat.sure[free] == sure]) for sure in (-1, 1))
    # First, from all matches: what is then taken for being like the doubts is no loss.
    typical = _sampled(matches, flat.stands_for, each, rng) if len(checks) else none
    matches = matches[~np.isin(matches, typical)] if len(doubts) else none
    alike = [
        rows[np.argsort(np.abs(flat.alike[rows] - like), kind="stable")][:each]
        for rows in (others, matches)
    ]
    return np.concatenate(alike), typical


def pool_to_arrow(pool: Sequence[Pooled]) -> pa.Table:
    """Return all pairs as one table; parties and fields travel as metadata."""
    sizes = [len(one) for one in pool]
    levels = [row.tobytes() for one in pool for row in one.levels]
    columns = {
        "left": np.concatenate([np.zeros(0, np.uint32), *(one.left for one in pool)]),
        "right": np.concatenate([np.zeros(0, np.uint32), *(one.right for one in pool)]),
        "levels": pa.array(levels, pa.binary()),
        "reason": np.concatenate([np.zeros(0, np.uint8), *(one.reason for one in pool)]),
        "probability": np.concatenate([np.zeros(0), *(one.probability for one in pool)]),
        "stands_for": np.concatenate([np.zeros(0), *(one.stands_for for one in pool)]),
    }
    described = [
        {"parties": list(one.parties), "fields": list(one.fields), "rows": size}
        for one, size in zip(pool, sizes, strict=True)
    ]
    return pa.table(columns).replace_schema_metadata({"pool": json.dumps(described)})


def pool_from_arrow(table: pa.Table) -> list[Pooled]:
    """Read what `pool_to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata = table.schema.metadata or {}
    if b"pool" not in metadata:
        raise EncodingRefused("these are not the pairs that a second look compared")
    start, found = 0, []
    for one in json.loads(metadata[b"pool"]):
        part = table.slice(start, one["rows"]).combine_chunks()
        start += one["rows"]
        levels = np.frombuffer(b"".join(part["levels"].to_pylist()), np.uint8)
        found.append(
            Pooled(
                parties=(one["parties"][0], one["parties"][1]),
                fields=tuple(one["fields"]),
                left=part["left"].to_numpy(),
                right=part["right"].to_numpy(),
                levels=levels.reshape(one["rows"], len(one["fields"])),
                reason=part["reason"].to_numpy(),
                probability=part["probability"].to_numpy(),
                stands_for=part["stands_for"].to_numpy(),
            )
        )
    return found


def cases_to_json(cases: Sequence[ShownCase]) -> bytes:
    """Return the cases with all that is known of them, to be sealed."""
    plain = [
        {
            "id": one.case.case_id,
            "kind": [name for name in _KINDS if getattr(one.case, name)],
            "probability": one.case.probability,
            "parties": one.parties,
            "pseudonyms": [name.hex() for name in one.pseudonyms],
            "fields": one.fields,
        }
        for one in cases
    ]
    return json.dumps(plain).encode()


def cases_from_json(data: bytes) -> list[ShownCase]:
    """Read what `cases_to_json` wrote."""
    return [
        ShownCase(
            Case(
                case_id=one["id"],
                probability=one["probability"],
                **{name: name in one["kind"] for name in _KINDS},
            ),
            (one["parties"][0], one["parties"][1]),
            (bytes.fromhex(one["pseudonyms"][0]), bytes.fromhex(one["pseudonyms"][1])),
            one["fields"],
        )
        for one in json.loads(data)
    ]


def _codes(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    return left.astype(np.int64) << 32 | right.astype(np.int64)
