"""
Second looks, the broker's side: what sites are asked, and what their answers say.

    forms = forms_of(weights, shapes, shared, ...)     linkage.matching.look_cover
    looks = choose(weights, forms, shared, ...)        linkage.matching.look_choice
    asked = questions(looks, pseudonyms, forms, ...)   by uploader, what its site is sent
    levels = compare(looks, answers)                   by pair and field, how well they agree
    known = weigh_looks(looks, levels, shapes)         linkage.matching.field_weights
    weights = weigh(shapes, chunks, looks=known)       linkage.matching.weights

Between `choose` and `compare` a run may wait for days; `looks_to_arrow` keeps what was asked. A
pair that one site did not answer is as if it had not been asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from linkage.errors import EncodingRefused, MatchingFailed
from linkage.look_tables import BITS_SET, NONCE_BYTES, Answers, Questions, names_of
from linkage.matching.dice import Floats
from linkage.matching.look_cover import Draw, Form, covered
from linkage.records import Bytes2D

UNCERTAIN = (0.1, 0.9)
"""Probabilities, ends included, between which a pair is asked about for its own sake."""
CLOSE, ALIKE = 0.6, 0.4
"""Dice coefficients from which two filters are close, and alike; unrelated values have .06."""
FAINT = 0.22
"""
Dice coefficient from which filters that are DIFFERENT still share more than chance lets them: jim
and james have a quarter of their bits from the formal name alone. One in twenty unrelated first
names does (docs/second-look.md).
"""


class Reason(IntEnum):
    """
    Why a pair is asked about. Only the broker knows.

    LEFT_OVER: neither record has a likely partner, and no better pair was left: unlikely, but a
    look can show what keys and CLKs could not. LIKELY and UNLIKELY are decoys.
    """

    UNCERTAIN = 0
    LIKELY = 1
    UNLIKELY = 2
    LEFT_OVER = 3


_IN_DOUBT = (Reason.UNCERTAIN, Reason.LEFT_OVER)


class Level(IntEnum):
    """How well two values of a field agree, as far as their filters tell."""

    MISSING = 0
    DIFFERENT = 1
    ALIKE = 2
    CLOSE = 3
    EQUAL = 4


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LookPairs:
    """
    The pairs of two uploaders that are asked about: P parallel rows, in random order.

    parties: in sorted order. fields: those both hold and the study allows, in the order of FIELDS.
    left, right: uint32[P], record rows. reason: uint8[P], see Reason. probability: float64[P],
    before the look. stands_for: float64[P], pairs of its kind that were there for each that is
    asked about. nonces: uint8[P, 16], each of one pair in one run.
    """

    parties: tuple[str, str]
    fields: tuple[str, ...]
    left: npt.NDArray[np.uint32]
    right: npt.NDArray[np.uint32]
    reason: npt.NDArray[np.uint8]
    probability: Floats
    stands_for: Floats
    nonces: Bytes2D

    def __len__(self) -> int:
        return len(self.left)

    @property
    def uncertain(self) -> int:
        """How many of them are asked about for their own sake; the others are decoys."""
        return int(np.isin(self.reason, _IN_DOUBT).sum())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Looks:
    """Everything a run asks, by comparison, in sorted order; comparisons without a pair are out."""

    comparisons: tuple[LookPairs, ...]

    def __len__(self) -> int:
        return sum(len(c) for c in self.comparisons)

    @property
    def uncertain(self) -> int:
        """How many pairs are asked about for their own sake; the others are decoys."""
        return sum(c.uncertain for c in self.comparisons)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LookLevels:
    """
    What the answers say of one comparison's pairs, in the order of its LookPairs.

    levels: uint8[P, fields], see Level; MISSING where either side has none.
    faint: bool[P, fields], where two values are DIFFERENT and share FAINT or more.
    answered: bool[P], whether both sites answered. chance: by field, float64[4], shares of random
    pairs at DIFFERENT, ALIKE, CLOSE and EQUAL, as both sites say; without fields of which they do
    not.
    """

    parties: tuple[str, str]
    levels: npt.NDArray[np.uint8]
    faint: npt.NDArray[np.bool_]
    answered: npt.NDArray[np.bool_]
    chance: Mapping[str, Floats]


def questions(
    looks: Looks,
    pseudonyms: Mapping[str, Bytes2D],
    forms: Mapping[str, Form],
    *,
    seed: int,
    draw: Draw,
) -> dict[str, Questions]:
    """
    Return what each uploader's site is asked, cover questions among it, sorted by nonce: at random.

    pseudonyms: by uploader, uint8[N, 16], the record pseudonyms of its dataset version. forms,
    draw: those that `choose` had. seed: draws the records of cover questions.
    """
    pairs = ((p.parties, p.nonces, p.left, p.right) for p in looks.comparisons)
    return covered(forms, pairs, pseudonyms, draw, np.random.default_rng([seed, 0x2C]))


def compare(looks: Looks, answers: Sequence[Answers]) -> tuple[LookLevels, ...]:
    """
    Return the levels of agreement of every pair asked about, by comparison.

    answers: of the sites that answered, each once; others count as silent.
    Raises MatchingFailed if one site's answers come twice.
    """
    by_party = {a.party: a for a in answers}
    if len(by_party) != len(answers):
        raise MatchingFailed("the answers of a site came twice")
    places = {
        party: {nonce: row for row, nonce in enumerate(names_of(a.nonces))}
        for party, a in by_party.items()
    }
    return tuple(_levels(pairs, by_party, places) for pairs in looks.comparisons)


def _levels(
    pairs: LookPairs,
    answers: Mapping[str, Answers],
    places: Mapping[str, Mapping[bytes, int]],
) -> LookLevels:
    rows = np.array(
        [
            [places.get(party, {}).get(nonce, -1) for party in pairs.parties]
            for nonce in names_of(pairs.nonces)
        ],
        dtype=np.int64,
    ).reshape(len(pairs), 2)
    answered = (rows[:, 0] >= 0) & (rows[:, 1] >= 0)
    levels = np.zeros((len(pairs), len(pairs.fields)), np.uint8)
    faint = np.zeros(levels.shape, np.bool_)
    for number, field in enumerate(pairs.fields):
        if not answered.any():
            break
        sides = [
            (answers[party].filters[field], rows[answered, side])
            for side, party in enumerate(pairs.parties)
        ]
        (one, i), (other, j) = sides
        common = np.bitwise_count(one.values[i] & other.values[j]).sum(axis=1, dtype=np.int64)
        both = one.present[i] & other.present[j]
        levels[answered, number] = np.where(both, levels_of(common), Level.MISSING)
        faint[answered, number] = both & is_faint(common)
    return LookLevels(pairs.parties, levels, faint, answered, _chances(pairs, answers))


def _chances(pairs: LookPairs, answers: Mapping[str, Answers]) -> dict[str, Floats]:
    """Return the geometric mean of what both sites say of random pairs, by field."""
    said = [answers[party].chance for party in pairs.parties if party in answers]
    return {
        field: np.sqrt(said[0][field] * said[1][field])
        for field in pairs.fields
        if len(said) == 2 and all(field in one for one in said)
    }


def levels_of(common: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the level of two filters that have `common` bits in common, of BITS_SET each."""
    dice = common / BITS_SET
    level = np.select(
        [dice >= 1, dice >= CLOSE, dice >= ALIKE],
        [int(Level.EQUAL), int(Level.CLOSE), int(Level.ALIKE)],
        int(Level.DIFFERENT),
    )
    return level.astype(np.uint8)


def is_faint(common: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whether two filters with `common` bits in common are DIFFERENT, but not by chance."""
    dice = common / BITS_SET
    return np.asarray((dice >= FAINT) & (dice < ALIKE))


def looks_to_arrow(looks: Looks) -> pa.Table:
    """Return all pairs asked about as one table; their parties and fields travel as metadata."""
    parts = looks.comparisons
    nonces = [nonce for c in parts for nonce in names_of(c.nonces)]
    table = pa.table(
        {
            "left": np.concatenate([np.zeros(0, np.uint32), *(c.left for c in parts)]),
            "right": np.concatenate([np.zeros(0, np.uint32), *(c.right for c in parts)]),
            "reason": np.concatenate([np.zeros(0, np.uint8), *(c.reason for c in parts)]),
            "probability": np.concatenate([np.zeros(0), *(c.probability for c in parts)]),
            "stands_for": np.concatenate([np.zeros(0), *(c.stands_for for c in parts)]),
            "nonce": pa.array(nonces, pa.binary(NONCE_BYTES)),
        }
    )
    described = [
        {"parties": list(c.parties), "fields": list(c.fields), "rows": len(c)} for c in parts
    ]
    return table.replace_schema_metadata({"looks": json.dumps(described)})


def looks_from_arrow(table: pa.Table) -> Looks:
    """Read what `looks_to_arrow` wrote. Raises EncodingRefused for another table."""
    metadata = table.schema.metadata or {}
    if b"looks" not in metadata:
        raise EncodingRefused("these are not the second looks of a run")
    start, found = 0, []
    for one in json.loads(metadata[b"looks"]):
        part = table.slice(start, one["rows"]).combine_chunks()
        start += one["rows"]
        nonces = b"".join(part["nonce"].to_pylist())
        found.append(
            LookPairs(
                parties=(one["parties"][0], one["parties"][1]),
                fields=tuple(one["fields"]),
                left=part["left"].to_numpy(),
                right=part["right"].to_numpy(),
                reason=part["reason"].to_numpy(),
                probability=part["probability"].to_numpy(),
                stands_for=part["stands_for"].to_numpy(),
                nonces=np.frombuffer(nonces, np.uint8).reshape(one["rows"], NONCE_BYTES).copy(),
            )
        )
    if start != table.num_rows:
        raise EncodingRefused("the second looks of a run are incomplete")
    return Looks(tuple(found))
