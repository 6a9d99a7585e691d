"""
What a site is asked in a second look does not tell whom it shares with others.

    forms = forms_of(weights, shapes, shared, limits)     by uploader, how its questions look
    room = Room(forms)                                    what `second_look.choose` has to keep to
    asked = covered(forms, pairs, pseudonyms, draw, rng)  by uploader, questions and cover questions

However many pairs are in doubt, a site is asked about the same number of records, each equally
often, each partner equally often; and of its records that are linked the same share is asked about
as of those that are not. What real questions leave open is filled with **cover questions**: a nonce
and a tag of no record at all. The partner never gets that nonce, so the answer compares with
nothing, and is not looked at.

Remaining weakness: real questions come first, so a record in doubt is asked about more surely than
another of its kind, at most in the ratio of all records to those asked about; and that of a pair
of partners one record is asked about for both is not balanced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from linkage.look_tables import NONCE_BYTES, TAG_BYTES, Questions, names_of, partner_tag
from linkage.matching.dataset import Shape
from linkage.matching.weights import Weights
from linkage.records import Bytes2D

Draw = Callable[[int], bytes]
"""Gives that many secret random bytes."""
Parties = tuple[str, str]
PairRows = tuple[Parties, Bytes2D, npt.NDArray[np.uint32], npt.NDArray[np.uint32]]
"""The pairs of one comparison: parties, nonces uint8[P, 16], left and right record rows."""

LINKED = 0.5
"""
Probability from which a pair counts as a link here. Not the run's threshold: that follows the
precision that somebody wants, and what is asked must not, or another precision were another run.
"""
TIMES = 2
"""Questions about each record that is asked about, where limits and partners allow no more."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Form:
    """
    What one uploader's questions look like, whatever is in doubt.

    times: questions about each record. partners: by uploader, how many questions name it, in all
    times * (unlinked + linked). linked: bool[N], records that a likely pair ends at. quota: how
    many records of those that are not linked, and of those that are, are asked about.
    """

    times: int
    partners: Mapping[str, int]
    linked: npt.NDArray[np.bool_]
    quota: tuple[int, int]


def forms_of(
    weights: Weights,
    shapes: Sequence[Shape],
    shared: Iterable[Parties],
    *,
    most_per_record: int,
    most_per_run: int,
) -> dict[str, Form]:
    """
    Return the form of every uploader's questions. shared: comparisons that may be asked about.

    Nothing of it but `linked` depends on who matched: each uploader is asked as much as the limits
    of the signed study allow.
    """
    partners: dict[str, list[str]] = {}
    for one, other in shared:
        partners.setdefault(one, []).append(other)
        partners.setdefault(other, []).append(one)
    sizes = {shape.party: shape.records for shape in shapes}
    return {
        party: _form(
            sorted(partners[party]),
            _linked(weights, party, sizes[party]),
            most_per_record,
            most_per_run,
        )
        for party in sorted(partners)
        if sizes[party]
    }


def _form(
    partners: Sequence[str], linked: npt.NDArray[np.bool_], most_per_record: int, most_per_run: int
) -> Form:
    times = min(most_per_record, most_per_run, max(TIMES, len(partners)))
    records = min(len(linked), most_per_run // times)
    ends = round(records * int(linked.sum()) / len(linked))
    share, more = divmod(records * times, len(partners))
    named = {partner: share + (n < more) for n, partner in enumerate(partners)}
    return Form(times, named, linked, (records - ends, ends))


def _linked(weights: Weights, party: str, size: int) -> npt.NDArray[np.bool_]:
    linked = np.zeros(size, np.bool_)
    for one in weights.comparisons:
        for end, rows in zip(one.parties, (one.left, one.right), strict=True):
            if end == party:
                linked[rows[one.probability >= LINKED]] = True
    return linked


class Room:
    """How much of every uploader's form is still free, and which pairs took the rest."""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self._forms = forms
        self._asked = {party: Counter[int]() for party in forms}
        self._records = {party: [0, 0] for party in forms}
        self._named = {party: Counter[str]() for party in forms}
        self._pairs: set[tuple[Parties, int, int]] = set()

    def take(self, parties: Parties, left: int, right: int) -> bool:
        """Count one question about each of both records, unless it is one or does not fit in."""
        one, other = parties
        ends = ((one, left, other), (other, right, one))
        if (parties, left, right) in self._pairs or not all(self._fits(*end) for end in ends):
            return False
        for party, row, partner in ends:
            if not self._asked[party][row]:
                self._records[party][int(self._forms[party].linked[row])] += 1
            self._asked[party][row] += 1
            self._named[party][partner] += 1
        self._pairs.add((parties, left, right))
        return True

    def _fits(self, party: str, row: int, partner: str) -> bool:
        form = self._forms.get(party)
        if form is None or self._named[party][partner] >= form.partners.get(partner, 0):
            return False
        if often := self._asked[party][row]:
            return often < form.times
        kind = int(form.linked[row])
        return self._records[party][kind] < form.quota[kind]


def covered(
    forms: Mapping[str, Form],
    pairs: Iterable[PairRows],
    pseudonyms: Mapping[str, Bytes2D],
    draw: Draw,
    rng: np.random.Generator,
) -> dict[str, Questions]:
    """
    Return what each uploader's site is asked, filled up to its form, sorted by nonce: at random.

    pairs: what `Room.take` let in. pseudonyms: by uploader, uint8[N, 16], the record pseudonyms of
    its dataset version. rng: which records the cover questions are about.
    """
    asked: dict[str, list[tuple[bytes, int, str, bytes]]] = {party: [] for party in forms}
    for (one, other), nonces, left, right in pairs:
        for nonce, i, j in zip(names_of(nonces), left.tolist(), right.tolist(), strict=True):
            left_name, right_name = pseudonyms[one][i].tobytes(), pseudonyms[other][j].tobytes()
            asked[one].append((nonce, i, other, partner_tag(nonce, right_name)))
            asked[other].append((nonce, j, one, partner_tag(nonce, left_name)))
    for party, form in forms.items():
        asked[party] += _cover(form, asked[party], draw, rng)
    return {party: _questions(party, rows, pseudonyms[party]) for party, rows in asked.items()}


def _cover(
    form: Form,
    asked: Sequence[tuple[bytes, int, str, bytes]],
    draw: Draw,
    rng: np.random.Generator,
) -> list[tuple[bytes, int, str, bytes]]:
    """Return the cover questions that make the form whole: nonce, record row, partner, tag."""
    often = Counter(row for _, row, _, _ in asked)
    named = Counter(partner for _, _, partner, _ in asked)
    chosen = list(often)
    for kind, quota in enumerate(form.quota):
        there = [row for row in often if form.linked[row] == bool(kind)]
        others = np.setdiff1d(np.flatnonzero(form.linked == bool(kind)), there)
        chosen += rng.permutation(others)[: quota - len(there)].tolist()
    rows = [row for row in chosen for _ in range(form.times - often[row])]
    partners = [name for name, most in form.partners.items() for _ in range(most - named[name])]
    order = rng.permutation(len(partners)).tolist()
    return [
        (draw(NONCE_BYTES), row, partners[at], draw(TAG_BYTES))
        for row, at in zip(rows, order, strict=True)
    ]


def _questions(
    party: str, asked: list[tuple[bytes, int, str, bytes]], pseudonyms: Bytes2D
) -> Questions:
    asked = sorted(asked)
    nonces, rows, partners, tags = zip(*asked, strict=True)
    columns = [
        np.frombuffer(b"".join(column), np.uint8).reshape(len(asked), width).copy()
        for column, width in ((nonces, NONCE_BYTES), (tags, TAG_BYTES))
    ]
    return Questions(party, columns[0], pseudonyms[list(rows)], partners, columns[1])
